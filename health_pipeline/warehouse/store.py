"""The warehouse as the other rooms see it: read, write, replace months."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import AbstractContextManager, contextmanager, nullcontext
from typing import TYPE_CHECKING

import duckdb

from health_pipeline.warehouse.backends import Backend, backend_of
from health_pipeline.warehouse.declarations import conform, matches, stored_columns
from health_pipeline.warehouse.replacement import MemoryShortError, Part, replace_months, slice_reports
from health_pipeline.warehouse.server_lock import table_turn
from health_pipeline.warehouse.sessions import Sessions
from health_pipeline.warehouse.slices import Query
from health_pipeline.warehouse.transactions import retry_conflicts, transaction

if TYPE_CHECKING:
    import pyarrow as pa

    from health_pipeline.months import MonthRange
    from health_pipeline.settings import Settings
    from health_pipeline.warehouse.slices import SliceReport
    from health_pipeline.warehouse.tables import Table

_OFFERED = "offered_rows"
STRETCH_MONTHS = 24
"""Months that a query is asked for at once, where it can be asked for fewer than all; halved while memory is short."""


class Warehouse:
    """Monthly tables in DuckDB, safe for many threads and processes at once.

    Args:
        backend: storage of the tables.
        lock_timeout_seconds: longest wait for another process.
    """

    def __init__(self, backend: Backend, lock_timeout_seconds: float = 600.0) -> None:
        self.backend, self.lock_timeout_seconds = backend, lock_timeout_seconds
        self._conforming: set[Table] = set()

    @classmethod
    def from_settings(cls, settings: Settings) -> Warehouse:
        """The warehouse that the settings describe; nothing is opened yet."""
        return cls(backend_of(settings), settings.warehouse.lock_timeout_seconds)

    @contextmanager
    def read(self, purpose: str) -> Iterator[duckdb.DuckDBPyConnection]:
        """A connection for reading; other readers share, writers wait until the block ends.

        Take what you need, leave the block, then compute.

        Raises:
            LockTimeoutError: the wait for a writer was too long.
        """
        with Sessions.of(self.backend).connect(self.backend, "read", purpose, self.lock_timeout_seconds) as connection:
            yield connection

    @contextmanager
    def write(self, purpose: str) -> Iterator[duckdb.DuckDBPyConnection]:
        """A connection that may write, alone among all processes; ends every transaction left open with a rollback.

        Raises:
            LockTimeoutError: the wait for other users was too long.
        """
        with Sessions.of(self.backend).connect(self.backend, "write", purpose, self.lock_timeout_seconds) as connection:
            yield connection

    def exists(self, table: Table) -> bool:
        """Whether the table was created before."""
        if self.backend.is_new:
            return False
        with self.read(f"look for {table.qualified}") as connection:
            return bool(stored_columns(connection, table))

    def ensure(self, *tables: Table) -> None:
        """Create tables that were never written, so that their slices read as empty.

        Raises:
            WarehouseError: a stored table does not fit its declaration.
        """
        unknown = [table for table in tables if table not in self._conforming]
        if not unknown:
            return
        if not self.backend.is_new:
            with self.read("compare tables with their declarations") as connection:
                unknown = [table for table in unknown if not matches(stored_columns(connection, table), table)]
        if unknown:
            names = ", ".join(table.qualified for table in unknown)
            with self.write(f"create {names}") as connection:

                def work() -> None:
                    with transaction(connection):
                        for table in unknown:
                            conform(connection, table)

                retry_conflicts(work, names, self.lock_timeout_seconds)
        self._conforming.update(tables)

    def replace(
        self,
        table: Table,
        months: MonthRange,
        rows: Query | pa.Table | pa.RecordBatchReader,
        *,
        allow_empty: bool = True,
    ) -> list[SliceReport]:
        """Replace the months of a table by ``rows``, wholly or not at all.

        Args:
            table: declaration; the table is created when missing.
            months: the months that are replaced; every row has to lie in one of them.
            rows: columns are matched by name.
            allow_empty: whether a month may end up without rows (a :class:`Query` can forbid it too).

        Returns:
            Row count and content hash of each month.

        Raises:
            SliceError: the rows break the declaration; the old rows stay.
            LockTimeoutError: the wait for other users was too long; the old rows stay.
        """
        if isinstance(rows, Query):
            allow_empty = allow_empty and rows.allow_empty
        what = f"{table.qualified} {months}"
        if self.backend.file is None:
            # Writers of a database server work at once; only the first of them should have a table to create.
            self.ensure(table)
        with self.write(f"replace {what}") as connection, self._turn(connection, table, f"replace {what}"):
            stretch = STRETCH_MONTHS
            while True:
                parts = self._offer(connection, rows, months, stretch)

                def work(parts: list[Part] = parts) -> list[SliceReport]:
                    with transaction(connection):
                        conform(connection, table)
                        return replace_months(connection, table, months, parts, allow_empty=allow_empty)

                try:
                    return retry_conflicts(work, what, self.lock_timeout_seconds)
                except MemoryShortError:
                    if stretch == 1 or not isinstance(rows, Query) or rows.for_months is None:
                        raise
                    stretch = min(stretch, len(months)) // 2 or 1

    def _turn(self, connection: duckdb.DuckDBPyConnection, table: Table, purpose: str) -> AbstractContextManager[None]:
        """The turn to write a table, where no file lock has given it already."""
        if self.backend.server is None:
            return nullcontext()
        return table_turn(connection, self.backend.server, table, purpose, self.lock_timeout_seconds)

    def _offer(
        self,
        connection: duckdb.DuckDBPyConnection,
        rows: Query | pa.Table | pa.RecordBatchReader,
        months: MonthRange,
        stretch: int,
    ) -> list[Part]:
        """The rows as SELECTs that can run again where a conflict asks for another try."""
        if isinstance(rows, Query):
            if rows.prepare:
                rows.prepare(connection)
            queries = [rows]
            if rows.for_months and len(months) > stretch:
                queries = [rows.for_months(some) for some in months.stretches(stretch)]
            return [(f"SELECT * FROM ({query.sql.strip().rstrip(';')}\n)", query.parameters) for query in queries]
        connection.register(_OFFERED, rows)
        if self.backend.file is None and not hasattr(rows, "num_rows"):  # a stream can be read only once
            connection.execute(f"CREATE TEMP TABLE staged_rows AS FROM {_OFFERED}")
            return [("SELECT * FROM staged_rows", {})]
        return [(f"SELECT * FROM {_OFFERED}", {})]

    def fetch(self, sql: str, purpose: str) -> pa.Table:
        """All rows of a SELECT as Arrow; the warehouse is free again when it returns."""
        with self.read(purpose) as connection:
            return connection.sql(sql).to_arrow_table()

    def stream(self, sql: str, purpose: str) -> pa.RecordBatchReader:
        """The rows of a SELECT in batches, from a spill file: neither lock nor memory is held while they are used.

        Those of an encrypted warehouse stay in memory.
        """
        from health_pipeline.warehouse.streams import BATCH_ROWS, spill

        with self.read(purpose) as connection:
            if self.backend.is_encrypted:
                return connection.sql(sql).to_arrow_table().to_reader(BATCH_ROWS)
            return spill(connection, sql, self.backend.spill)

    def reports(self, table: Table, months: MonthRange) -> list[SliceReport]:
        """Row count and content hash of each month as stored now."""
        self.ensure(table)
        with self.read(f"hash {table.qualified} {months}") as connection:
            return slice_reports(connection, table, months)
