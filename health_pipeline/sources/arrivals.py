"""When months landed: the time of the newest file of each month, for whoever waits for new extracts."""

from __future__ import annotations

from pathlib import Path

from health_pipeline.contracts import LANDING_TABLES
from health_pipeline.months import Month
from health_pipeline.settings import Settings
from health_pipeline.sources import object_storage
from health_pipeline.sources.landing_files import LandedFile, list_files


def arrivals(settings: Settings, settled_before: float) -> dict[Month, float]:
    """Months with landed admissions, and when the newest file of any table of that month was written.

    Args:
        settings: where the landing zone is.
        settled_before: POSIX seconds; a month with a newer file may still be arriving and is left out.

    Returns:
        POSIX seconds by month.

    Raises:
        LandingError: an object store cannot be reached.
    """
    newest: dict[Month, float] = {}
    for table in LANDING_TABLES:
        for month, files in list_files(table, settings).files.items():
            written_at = max(_written_at(files, remote=object_storage.is_remote(settings.landing_uri)))
            newest[month] = max(newest.get(month, 0.0), written_at)
    delivered = set(list_files("admissions", settings).files)
    return {month: at for month, at in sorted(newest.items()) if month in delivered and at < settled_before}


def _written_at(files: tuple[LandedFile, ...], *, remote: bool) -> list[float]:
    if not remote:
        return [Path(file.path).stat().st_mtime for file in files]
    with object_storage.reader(remote=True) as connection:
        rows = connection.execute(
            "SELECT epoch(last_modified) FROM read_blob($1)", [[file.path for file in files]]
        ).fetchall()
    return [float(row[0]) for row in rows]
