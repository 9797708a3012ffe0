"""Run an adapter: a foreign extract becomes landing files, inside DuckDB."""

from __future__ import annotations

import difflib
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

import duckdb
import structlog

from health_pipeline.contracts.tables import EARLIEST, LANDING_TABLES
from health_pipeline.errors import SourceError
from health_pipeline.months import Month, MonthRange
from health_pipeline.settings import PREFIX, Settings
from health_pipeline.sources.adapters import ADAPTERS, Adapter, discover
from health_pipeline.sources.adapters.description import MONTH_OF, Input, OptionValue
from health_pipeline.sources.extracts import LandingZone, Progress, landing_zone
from health_pipeline.sources.inputs import Extract, load_files
from health_pipeline.sources.landing_inspection import EMPTY_KEY
from health_pipeline.sources.sql import identifier, literal

log = structlog.get_logger(__name__)

OWN = "adapters"
"""Folder of the home with the hospital's own adapters."""


END_OF_DATES = "TIMESTAMP '2300-01-01'"
"""Systems write 9999-12-31 and the like for a stay that goes on. Extracts whose dates were shifted end before this."""


@dataclass(frozen=True)
class IngestReport:
    """What an ingest landed.

    Attributes:
        rows: landed rows of each table.
        undated: rows left out because they have no moment that puts them into a month, or none that can be, per table.
        missing_inputs: tables the extract lacks (allowed by the adapter).
        months: discharge months, from the first to the last.
        files: number of files that are new or were replaced; months that came out as they lay there are left alone.
        withdrawn: number of earlier files of these months that were taken away: the extract has no such rows now.
    """

    adapter: str
    rows: Mapping[str, int]
    undated: Mapping[str, int]
    missing_inputs: tuple[str, ...]
    months: MonthRange
    files: int
    withdrawn: int = 0

    def __str__(self) -> str:
        tables = ", ".join(f"{name} {count:,}" for name, count in self.rows.items())
        text = f"{self.adapter}: landed {self.months}: {tables} rows"
        left_out = {name: count for name, count in self.undated.items() if count}
        if left_out:
            text += "; without a usable date and left out: " + ", ".join(f"{n} {c:,}" for n, c in left_out.items())
        if self.missing_inputs:
            text += f"; not in the extract: {', '.join(self.missing_inputs)}"
        text += f"; {self.files or 'no'} file{'' if self.files == 1 else 's'} new or changed"
        return f"{text}, {self.withdrawn} withdrawn" if self.withdrawn else text


def ingest(
    adapter_name: str,
    input_path: str | Path,
    settings: Settings,
    *,
    options: Mapping[str, OptionValue] | None = None,
    progress: Progress | None = None,
) -> IngestReport:
    """Land a foreign extract; months from its first to its last discharge are replaced, others stay.

    Args:
        adapter_name: one that comes with the project, or the name of a folder in ``<home>/adapters``.
        input_path: zip archive, folder, or single file.
        settings: say where to land and what DuckDB may use.
        options: choices the adapter offers; they win over ``settings.ingest.options``.
        progress: called with the name of each step that begins.

    Raises:
        SourceError: unknown adapter or option, wrong or damaged input; nothing has been landed.
    """
    known = _adapters(settings)
    if adapter_name not in known:
        raise SourceError(
            f"unknown adapter {adapter_name!r}",
            where=f"the project and {settings.home / OWN}",
            remedy=f"there are: {', '.join(known)}",
        )
    adapter = known[adapter_name]
    chosen = adapter.choose({**_configured(adapter, settings), **(options or {})})
    with landing_zone(settings) as zone, duckdb.connect(str(zone.scratch / "ingest.duckdb")) as connection:
        report = _Run(adapter, connection, zone, settings, progress).land(Path(input_path), chosen)
    log.info("ingested", adapter=report.adapter, months=str(report.months), files=report.files, **report.rows)
    if any(report.undated.values()):
        log.warning("rows without a month were left out", **report.undated)
    return report


def _adapters(settings: Settings) -> dict[str, Adapter]:
    """What comes with the project, and the hospital's own in ``<home>/adapters``.

    Raises:
        SourceError: an own adapter is not valid, or has the name of one that comes with the project.
    """
    own = discover(settings.home / OWN)
    for name in own.keys() & ADAPTERS.keys():
        raise SourceError(
            f"an adapter {name!r} comes with the project",
            where=str(own[name].folder),
            remedy="give your folder another name",
        )
    return {**ADAPTERS, **own}


def _configured(adapter: Adapter, settings: Settings) -> dict[str, OptionValue]:
    """Options of this adapter from the settings; those of other adapters are none of its business.

    Raises:
        SourceError: no adapter has such an option.
    """
    known = {name: each.name for each in _adapters(settings).values() for name in each.options}
    for name in settings.ingest.options:
        if name not in known and name not in adapter.options:
            close = difflib.get_close_matches(name, known, n=1)
            meant = f"did you mean {close[0]} (of {known[close[0]]})? " if close else ""
            raise SourceError(
                f"no adapter has an option {name!r}",
                where=f"{PREFIX}INGEST__OPTIONS__{name.upper()}, or [ingest.options] of the settings file",
                remedy=f"{meant}{adapter.name} has: {', '.join(adapter.options) or 'none'}",
            )
    return {name: value for name, value in settings.ingest.options.items() if name in adapter.options}


class _Run:
    """One ingest, with its open connection and landing zone."""

    def __init__(
        self,
        adapter: Adapter,
        connection: duckdb.DuckDBPyConnection,
        zone: LandingZone,
        settings: Settings,
        progress: Progress | None,
    ) -> None:
        self.adapter, self.connection, self.zone = adapter, connection, zone
        self._step = progress or _quiet
        connection.execute(f"SET memory_limit = {literal(settings.warehouse.memory_limit)}")
        if settings.warehouse.threads:
            connection.execute(f"SET threads = {settings.warehouse.threads}")
        connection.execute("SET TimeZone = 'UTC'")
        connection.execute("SET enable_progress_bar = false")

    def land(self, path: Path, options: Mapping[str, OptionValue]) -> IngestReport:
        missing = self._load(path)
        for name, value in options.items():
            self.connection.execute(f"SET VARIABLE {identifier(name)} = {_constant(value)}")
        self._step("dates and codes")
        self._sql(self.adapter.prepare, "prepare.sql")
        rows, undated = {}, {}
        for table in self.adapter.tables:  # admissions come first: they say which months there are
            self._step(f"building {table}")
            rows[table], undated[table] = self._build(table)
        months = self._months()
        written = []
        for table in self.adapter.tables:
            self._step(f"writing {table}")
            written += self._write(table, months)
        files = self.zone.publish(written)
        withdrawn = self.zone.withdraw(self.adapter.tables, months, set(written))
        return IngestReport(self.adapter.name, rows, undated, missing, months, len(files), withdrawn)

    def _load(self, path: Path) -> tuple[str, ...]:
        self.connection.execute("CREATE SCHEMA raw")
        missing = []
        with Extract(path, self.zone.scratch) as extract:
            for name, wanted in self.adapter.inputs.items():
                self._step(f"reading {name}")
                if not extract.load(self.connection, name, wanted, is_only=len(self.adapter.inputs) == 1):
                    missing.append(name)
        for name, file in self.adapter.bundled.items():
            columns = tuple(file.read_text().splitlines()[0].split(","))
            load_files(self.connection, name, [file], Input(files=(file.name,), required=columns), str(file))
        return tuple(missing)

    def _sql(self, sql: str, file: str) -> None:
        try:
            self.connection.execute(sql)
        except (duckdb.ParserException, duckdb.BinderException, duckdb.CatalogException) as error:
            raise SourceError(
                f"the SQL is not valid: {str(error).splitlines()[0]}",  # it quotes the SQL, which holds no value
                where=f"adapter {self.adapter.name}, {file}",
                remedy="mend the adapter; docs/adapters.md says what it may read and must give",
            ) from None
        except duckdb.OperationalError:
            raise  # memory or disk: nothing an adapter could mend
        except duckdb.Error as error:
            # The text of the error would show the value.
            raise SourceError(
                f"a value of the extract cannot be read ({type(error).__name__})",
                where=f"adapter {self.adapter.name}, {file}",
                remedy="check that the extract is of the format the adapter expects (docs/adapters.md); try_cast and "
                "try_strptime leave what they cannot read empty",
            ) from None

    def _build(self, table: str) -> tuple[int, int]:
        """Materialise a landing table, sorted, so that equal input gives equal files."""
        self._sql(f'CREATE TABLE "built_{table}" AS {self.adapter.select(table)}', f"{table}.sql")
        moment = MONTH_OF[table]
        columns = self._contract_columns(table)
        month = f"date_trunc('month', {moment}::TIMESTAMP)::DATE"
        dated = f"{moment}::TIMESTAMP >= {EARLIEST} AND {moment}::TIMESTAMP < {END_OF_DATES}"
        if table == "patients":  # who was known before the first discharge month is landed with it, as an initial load
            month = f"greatest({month}, DATE '{self._months().first}')"
        self._sql(
            f"""
            CREATE TABLE "landed_{table}" AS
            SELECT {month} AS landed_month, {columns}
            FROM "built_{table}" WHERE {dated} ORDER BY ALL
            """,
            f"{table}.sql",
        )
        counts = f"""SELECT (SELECT count(*) FROM "landed_{table}"), (SELECT count(*) FROM "built_{table}")"""
        landed, built = self.connection.execute(counts).fetchall()[0]
        self.connection.execute(f'DROP TABLE "built_{table}"')
        return landed, built - landed

    def _contract_columns(self, table: str) -> str:
        """Columns of the landing contract in its order; optional ones that the SELECT does not give are left out.

        Raises:
            SourceError: the SELECT gives a column that the contract does not know, or lacks a required one.
        """
        contract = LANDING_TABLES[table]
        given = [row[0] for row in self.connection.execute(f'DESCRIBE "built_{table}"').fetchall()]
        unknown = sorted(set(given) - set(contract.column_names))
        missing = sorted(set(contract.required_columns) - set(given))
        if unknown or missing:
            raise SourceError(
                f"the SELECT of {table} does not keep the contract: unknown {unknown}, missing {missing}",
                where=str(self.adapter.tables[table]),
                remedy="name the columns as in docs/contracts.md",
            )
        return ", ".join(name for name in contract.column_names if name in given)

    def _months(self) -> MonthRange:
        first, last = self.connection.execute(
            "SELECT min(landed_month), max(landed_month) FROM landed_admissions"
        ).fetchall()[0]
        if first is None:
            raise SourceError(
                "the extract holds no admission",
                where=f"adapter {self.adapter.name}",
                remedy="check that it has inpatient stays with a discharge date",
            )
        return MonthRange(first, last)

    def _write(self, table: str, months: MonthRange) -> list[tuple[str, Month]]:
        """Stage one file per month; of the label source also for months between that have no rows, and marked so."""
        there = self.connection.execute(f'SELECT DISTINCT landed_month FROM "landed_{table}"').fetchall()
        written = []
        filled = {row[0] for row in there}
        wanted = filled | set(months) if LANDING_TABLES[table].is_label_source else filled
        for month in sorted(wanted):
            target = self.zone.staged(table, month)
            mark = "" if month in filled else EMPTY_KEY
            self.connection.execute(
                f"""
                COPY (
                    SELECT * EXCLUDE (landed_month) FROM "landed_{table}" WHERE landed_month = DATE '{month}'
                ) TO {literal(str(target))} (FORMAT parquet, COMPRESSION zstd{mark})
                """
            )
            written.append((table, month))
        return written


def _quiet(step: str) -> None:
    """Progress that nobody watches."""


def _constant(value: OptionValue) -> str:
    return literal(value) if isinstance(value, str) else str(value).lower()
