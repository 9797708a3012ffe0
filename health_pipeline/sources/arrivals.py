"""What has landed: a fingerprint of each month's files, for whoever waits for new or corrected extracts.

A fingerprint is of names, sizes and times of writing, compared for equality with what was read last. "Newer than the
last run" would miss a correction that a transfer tool delivers with the time of its source (``rsync -t``, ``cp -p``).
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path

from health_pipeline.contracts import LANDING_TABLES
from health_pipeline.months import Month
from health_pipeline.settings import Settings
from health_pipeline.sources import object_storage
from health_pipeline.sources.landing_files import LandedFile, list_files


@dataclass(frozen=True, slots=True)
class Arrival:
    """The files of one table and month, unopened.

    Attributes:
        fingerprint: 16 hexadecimal digits that change when a file is added, withdrawn, replaced or written to.
        written_at: POSIX seconds of the newest file.
    """

    fingerprint: str
    written_at: float


def table_arrivals(table: str, settings: Settings) -> dict[Month, Arrival]:
    """What lies in a table's folder, by month.

    Raises:
        LandingError: an object store cannot be reached.
    """
    files = list_files(table, settings).files
    if object_storage.is_remote(settings.landing_uri):
        facts = _object_facts([file.path for of_month in files.values() for file in of_month])
    else:
        facts = dict(_file_facts(files))
    return {month: _arrival(of_month, facts) for month, of_month in files.items()}


def arrivals(settings: Settings, settled_before: float) -> dict[Month, dict[str, str]]:
    """Months with landed admissions, with the fingerprint of each table that has files.

    Args:
        settings: where the landing zone is.
        settled_before: POSIX seconds; a month with a newer file may still be arriving and is left out.

    Raises:
        LandingError: an object store cannot be reached.
    """
    landed = {table: table_arrivals(table, settings) for table in LANDING_TABLES}
    found: dict[Month, dict[str, str]] = {}
    for month in sorted(landed["admissions"]):
        of_month = {table: months[month] for table, months in landed.items() if month in months}
        if max(arrival.written_at for arrival in of_month.values()) < settled_before:
            found[month] = {table: arrival.fingerprint for table, arrival in of_month.items()}
    return found


def _arrival(files: tuple[LandedFile, ...], facts: Mapping[str, tuple[int, float]]) -> Arrival:
    known = sorted((file.source_file, *facts[file.path]) for file in files)
    digest = hashlib.sha256(repr(known).encode()).hexdigest()
    return Arrival(digest[:16], max(written_at for _, _, written_at in known))


def _file_facts(files: Mapping[Month, tuple[LandedFile, ...]]) -> Iterator[tuple[str, tuple[int, float]]]:
    for of_month in files.values():
        for file in of_month:
            stat = Path(file.path).stat()
            yield file.path, (stat.st_size, stat.st_mtime)


def _object_facts(paths: list[str]) -> dict[str, tuple[int, float]]:
    if not paths:
        return {}
    with object_storage.reader(remote=True) as connection:
        rows = object_storage.with_retries(
            lambda: connection.execute(
                "SELECT filename, size, epoch(last_modified) FROM read_blob($1)", [paths]
            ).fetchall(),
            "look at landed files",
        )
    return {path: (int(size), float(written_at)) for path, size, written_at in rows}
