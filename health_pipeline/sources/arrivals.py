"""What has landed: a fingerprint of each month's files, for whoever waits for new or corrected extracts.

A fingerprint is of names, sizes and times of writing, compared for equality with what was read last. "Newer than the
last run" would miss a correction that a transfer tool delivers with the time of its source (``rsync -t``, ``cp -p``).
"""

from __future__ import annotations

import datetime as dt
import hashlib
from calendar import monthrange
from collections.abc import Collection
from dataclasses import dataclass

from health_pipeline.contracts import LANDING_TABLES
from health_pipeline.months import Month
from health_pipeline.settings import Settings
from health_pipeline.sources.landing_files import LandedFile, list_files

DAY = 86_400.0
LAST_EVENING = DAY
"""Extracts of a month are taken from this long before its end on, whatever the time zone."""
PATIENCE = 10 * DAY
"""So long after its end the whole of a month is waited for, where what lies there was written while it ran."""


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
    return {month: _arrival(files) for month, files in list_files(table, settings).files.items()}


def arrivals(settings: Settings, settled_before: float) -> dict[Month, dict[str, str]]:
    """Months with landed admissions, with the fingerprint of each table that has files.

    A file that was written while its month ran cannot hold all of it: an extract of everything up to today leaves one
    at each ingest, and the next extract replaces it. Its month is left out until the whole has had time to come.

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
        if _is_settled(month, [arrival.written_at for arrival in of_month.values()], settled_before):
            found[month] = {table: arrival.fingerprint for table, arrival in of_month.items()}
    return found


def _is_settled(month: Month, written_at: Collection[float], settled_before: float) -> bool:
    begin = dt.datetime(month.year, month.month, 1, tzinfo=dt.UTC).timestamp()
    end = begin + monthrange(month.year, month.month)[1] * DAY
    # What bears a time before its month was given that time; it was not written then.
    was_running = any(begin <= written < end - LAST_EVENING for written in written_at)
    return max(written_at) < settled_before and (not was_running or settled_before >= end + PATIENCE)


def _arrival(files: tuple[LandedFile, ...]) -> Arrival:
    known = sorted((file.source_file, file.size, file.written_at) for file in files)
    digest = hashlib.sha256(repr(known).encode()).hexdigest()
    return Arrival(digest[:16], max(file.written_at for file in files))
