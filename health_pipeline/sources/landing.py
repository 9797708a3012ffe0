"""The landing zone: monthly files of the contract's tables become bronze rows, in one SQL statement for a whole range.

A file is ``<landing>/<table>/<YYYY-MM>.parquet``, ``.csv`` or ``.csv.gz`` (UTF-8, comma, RFC 4180, with a header).
Every file of the range is read to its end before any table is touched; one error names all months that fail.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field

from health_pipeline.contracts.declarations import LandingTable
from health_pipeline.contracts.tables import LANDING_TABLES
from health_pipeline.errors import LandingError
from health_pipeline.months import Month, MonthRange
from health_pipeline.settings import Settings
from health_pipeline.sources import object_storage
from health_pipeline.sources.landing_files import LandedFile, list_files
from health_pipeline.sources.landing_inspection import FileFaultError, FileShape, inspect_file
from health_pipeline.sources.landing_sql import bronze_select, empty_select
from health_pipeline.warehouse.slices import Query


@dataclass(frozen=True, slots=True)
class LandingReport:
    """What lies in the landing zone of one table.

    Attributes:
        months: months within the partitions that have a file.
        absent: months within the partitions that have none.
        outside: months with a file that lie before the first or after the last partition.
        strangers: files whose name is not a month in a known format; they are never read.
    """

    table: str
    months: tuple[Month, ...]
    absent: tuple[Month, ...]
    outside: tuple[Month, ...]
    strangers: tuple[str, ...] = field(default=())


def landed_files(name: str, months: MonthRange, settings: Settings) -> dict[Month, LandedFile]:
    """Files of a table by month; a month of a feature table without a file is left out.

    Raises:
        LandingError: a month has two files, or a month of the label source has none; names all such months.
    """
    found, faults = _find(LANDING_TABLES[name], months, settings)
    _raise(LANDING_TABLES[name], months, settings, faults)
    return found


def bronze_query(name: str, months: MonthRange, settings: Settings) -> Query:
    """Rows of ``bronze.<name>`` for the range: everything as text, with file, row number, row hash and unknown columns.

    Raises:
        LandingError: a file is missing, unreadable, cut off, empty, or lacks required columns; names every month that
            fails, the cause and the remedy. Nothing has been replaced then.
    """
    table = LANDING_TABLES[name]
    remote = object_storage.is_remote(settings.landing_uri)
    files, faults = _find(table, months, settings)
    shapes = []
    with object_storage.reader(remote=remote) as connection:
        for month, file in files.items():
            try:
                shapes.append(inspect_file(connection, table, file))
            except FileFaultError as fault:
                faults[month] = fault
    _raise(table, months, settings, faults)
    selects = [bronze_select(table, group, columns) for group, columns in _groups(shapes)] or [empty_select(table)]
    return Query("\nUNION ALL BY NAME\n".join(selects), prepare=object_storage.prepare if remote else None)


def landing_report(settings: Settings) -> dict[str, LandingReport]:
    """What the landing zone holds, by table; nothing is opened.

    An open ``end_month`` counts every later month as within the partitions, and none as absent.
    """
    reports = {}
    for name in LANDING_TABLES:
        listing = list_files(name, settings)
        last = settings.end_month or max(listing.files, default=settings.start_month)
        partitions = MonthRange(settings.start_month, max(last, settings.start_month))
        reports[name] = LandingReport(
            table=name,
            months=tuple(month for month in partitions if month in listing.files),
            absent=tuple(month for month in partitions if month not in listing.files),
            outside=tuple(month for month in sorted(listing.files) if month not in partitions),
            strangers=listing.strangers,
        )
    return reports


def _find(
    table: LandingTable, months: MonthRange, settings: Settings
) -> tuple[dict[Month, LandedFile], dict[Month, FileFaultError]]:
    listing = list_files(table.name, settings)
    found: dict[Month, LandedFile] = {}
    faults: dict[Month, FileFaultError] = {}
    for month in months:
        files = listing.files.get(month, ())
        if len(files) > 1:
            names = " and ".join(file.source_file for file in files)
            faults[month] = FileFaultError(f"has two files: {names}", "keep one of them")
        elif files:
            found[month] = files[0]
        elif table.is_label_source:
            faults[month] = FileFaultError(
                "has no file",
                "simulate, ingest or deliver the month, or point HEALTH_PIPELINE_LANDING to where it lies",
            )
    return found, faults


def _raise(table: LandingTable, months: MonthRange, settings: Settings, faults: Mapping[Month, FileFaultError]) -> None:
    if not faults:
        return
    causes: dict[tuple[str, str], list[Month]] = {}
    for month, fault in sorted(faults.items()):
        causes.setdefault((fault.cause, fault.remedy), []).append(month)
    shown = [f"{', '.join(f'{month:%Y-%m}' for month in failing)} {cause}" for (cause, _), failing in causes.items()]
    remedies = dict.fromkeys(remedy for _, remedy in causes)
    raise LandingError(
        f"{table.name}: {len(faults)} of {len(months)} months cannot be read: {'; '.join(shown)}",
        where=f"{settings.landing_uri.rstrip('/')}/{table.name}",
        remedy="; ".join(remedies),
    )


def _groups(shapes: list[FileShape]) -> list[tuple[list[LandedFile], tuple[tuple[str, str], ...]]]:
    """Parquet files of one shape are read together, every CSV file alone (its rows are numbered in order)."""
    groups: list[tuple[list[LandedFile], tuple[tuple[str, str], ...]]] = []
    parquet: dict[tuple[tuple[str, str], ...], list[LandedFile]] = {}
    for shape in shapes:
        if shape.file.kind == "parquet":
            parquet.setdefault(shape.columns, []).append(shape.file)
        else:
            groups.append(([shape.file], shape.columns))
    return [(files, columns) for columns, files in parquet.items()] + groups
