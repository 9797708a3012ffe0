"""A trial reading of landed files: what cannot be read, and what would go to quarantine. Nothing is stored."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field

from health_pipeline.contracts.staging import staged_sql
from health_pipeline.contracts.tables import LANDING_TABLES
from health_pipeline.months import Month
from health_pipeline.settings import Settings
from health_pipeline.sources import object_storage
from health_pipeline.sources.landing_files import list_files
from health_pipeline.sources.landing_inspection import FileFaultError, inspect_file
from health_pipeline.sources.landing_sql import bronze_select

NEWEST_FILES = 12
"""Files that a trial opens: those of a year, so that it ends within seconds."""


@dataclass(frozen=True, slots=True)
class Trial:
    """What the newest files of a table would come to.

    Attributes:
        opened: files that were read to their end.
        faults: months whose file cannot be used, with cause and remedy.
        month: newest month that can be read; its rows were held against the rules.
        rows: its rows.
        refused: rows of it that would go to quarantine, by the words of the first rule they break.
        unknown: its columns that the contract does not know; they are kept in bronze only.
    """

    opened: int = 0
    faults: Mapping[Month, FileFaultError] = field(default_factory=dict)
    month: Month | None = None
    rows: int = 0
    refused: Mapping[str, int] = field(default_factory=dict)
    unknown: tuple[str, ...] = ()


def try_landing(name: str, settings: Settings) -> Trial:
    """Read the newest files of a table and hold the newest one that can be read against the rules.

    Raises:
        LandingError: an object store cannot be reached.
    """
    table = LANDING_TABLES[name]
    listing = list_files(name, settings)
    last = settings.end_month
    months = [month for month in sorted(listing.files) if month >= settings.start_month and not (last and month > last)]
    months = months[-NEWEST_FILES:]
    faults: dict[Month, FileFaultError] = {}
    with object_storage.reader(remote=object_storage.is_remote(settings.landing_uri)) as connection:
        newest = None
        for month in months:
            files = listing.files[month]
            try:
                if len(files) > 1:
                    names = " and ".join(file.source_file for file in files)
                    raise FileFaultError(f"has two files: {names}", "keep one of them")
                newest = inspect_file(connection, table, files[0])
            except FileFaultError as fault:
                faults[month] = fault
        if newest is None:
            return Trial(len(months), faults)
        bronze = f"({bronze_select(table, [newest.file], newest.columns)})"
        reasons = {rule.name: rule.reason for rule in table.all_rules}
        counted = connection.execute(
            f"SELECT failed_rule, count(*) FROM ({staged_sql(table, bronze)}) GROUP BY ALL ORDER BY 2 DESC, 1"
        ).fetchall()
    known = {column.name for column in table.columns}
    return Trial(
        opened=len(months),
        faults=faults,
        month=newest.file.month,
        rows=newest.rows,
        refused={reasons[rule]: count for rule, count in counted if rule is not None},
        unknown=tuple(column for column, _ in newest.columns if column.lower() not in known),
    )
