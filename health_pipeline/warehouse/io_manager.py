"""The Dagster IO manager of monthly tables, on top of dagster-duckdb's.

An asset returns a :class:`Query` (SQL that runs inside DuckDB) or Arrow rows for all months of its run; they replace
these months in one transaction. An input arrives as a :class:`Slice` (a SQL fragment), or as Arrow rows where the
annotation says so. Every month gets its own materialisation with row count and content hash, and the content hash is
its Dagster data version, in a range run as in a run of one month.
"""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Iterable, Iterator, Sequence
from typing import TYPE_CHECKING, Any, TypeGuard

from dagster import AssetKey, InputContext, OutputContext
from dagster._core.events import DagsterEvent
from dagster._core.storage.db_io_manager import DbIOManager, DbTypeHandler
from dagster_duckdb import DuckDBIOManager
from dagster_duckdb.io_manager import DuckDbClient

from health_pipeline.errors import WarehouseError
from health_pipeline.months import MonthRange, parse_month
from health_pipeline.settings import Settings
from health_pipeline.warehouse.materializations import record_months
from health_pipeline.warehouse.slices import Query, Slice
from health_pipeline.warehouse.store import Warehouse
from health_pipeline.warehouse.tables import Table

if TYPE_CHECKING:
    import pyarrow as pa


class MonthlyTableIOManager(DuckDBIOManager):
    """Base class of IO managers whose assets are monthly tables; the asset key is ``[schema, name]`` of the table.

    Handled types: :class:`Query`, ``pyarrow.Table``, ``pyarrow.RecordBatchReader`` as outputs; :class:`Slice` (default)
    and the two Arrow types as inputs. Call :func:`build_io_manager`, or subclass and say which warehouse and tables::

        class Tables(MonthlyTableIOManager):
            @staticmethod
            def warehouse() -> Warehouse:
                return Warehouse.from_settings(load_settings())

            @staticmethod
            def tables() -> Sequence[Table]:
                return [VISITS, READMISSIONS]
    """

    @staticmethod
    @abstractmethod
    def warehouse() -> Warehouse:
        """Where the tables are stored."""

    @staticmethod
    @abstractmethod
    def tables() -> Sequence[Table]:
        """Declarations of all assets that this manager stores or loads."""

    @staticmethod
    def type_handlers() -> Sequence[DbTypeHandler[Any]]:
        """None: SQL and Arrow are handled whole, because a stock handler writes row by slice without a transaction."""
        return []

    def create_io_manager(self, context: object) -> DbIOManager:  # noqa: ARG002
        """The manager of one run."""
        return _MonthlyTables(self.warehouse(), self.tables())


def build_io_manager(settings: Settings, tables: Iterable[Table]) -> MonthlyTableIOManager:
    """The IO manager of the given tables in the warehouse of the settings."""
    declared = tuple(tables)
    chosen = Warehouse.from_settings(settings)

    class SettingsTables(MonthlyTableIOManager):
        @staticmethod
        def warehouse() -> Warehouse:
            return chosen

        @staticmethod
        def tables() -> Sequence[Table]:
            return declared

    return SettingsTables(database=repr(chosen.backend))


class _MonthlyTables(DbIOManager):
    """Stores and loads the assets of one run."""

    def __init__(self, warehouse: Warehouse, tables: Iterable[Table]) -> None:
        super().__init__(
            type_handlers=[],
            db_client=DuckDbClient(),
            database=repr(warehouse.backend),
            io_manager_name="MonthlyTableIOManager",
            default_load_type=Slice,
        )
        self.warehouse = warehouse
        self.tables = {AssetKey([table.schema, table.name]): table for table in tables}

    def handle_output(self, context: OutputContext, obj: object) -> Iterator[DagsterEvent]:  # type: ignore[override]
        """Replace the months of the run and record each of them."""
        table = self._table(context.asset_key)
        if not _is_rows(obj):
            raise WarehouseError(
                f"an asset of monthly tables cannot return {type(obj).__name__}",
                where=table.qualified,
                remedy="return a warehouse.Query, a pyarrow.Table or a pyarrow.RecordBatchReader",
            )
        if not context.has_asset_partitions:
            raise WarehouseError(
                "the asset has no monthly partitions", where=table.qualified, remedy="give it a partitions_def"
            )
        months = _contiguous(context.asset_partition_keys, table)
        reports = self.warehouse.replace(table, months, obj)
        context.log.info(f"{table.qualified} {months}: {sum(report.rows for report in reports)} rows stored")
        yield from record_months(context, reports)

    def load_input(self, context: InputContext) -> Slice | pa.Table | pa.RecordBatchReader:
        """The input's months as SQL fragment, or as Arrow rows where the annotation asks for them."""
        table = self._table(context.asset_key)
        keys = context.asset_partition_keys if context.has_asset_partitions else []
        columns = (context.definition_metadata or {}).get("columns")
        # A window that lies wholly before the first partition has no months; an impossible month has no rows.
        months = _contiguous(keys, table) if keys else _NO_MONTHS
        wanted = Slice(table, months, tuple(columns) if columns else None)
        self.warehouse.ensure(table)
        load_type = context.dagster_type.typing_type
        if load_type in {Any, Slice}:
            return wanted
        import pyarrow as pa

        if load_type is pa.Table:
            return self.warehouse.fetch(f"SELECT * FROM {wanted}", f"load {table.qualified} {months}")
        if load_type is pa.RecordBatchReader:
            return self.warehouse.stream(f"SELECT * FROM {wanted}", f"load {table.qualified} {months}")
        raise WarehouseError(
            f"a monthly table cannot be loaded as {load_type}",
            where=table.qualified,
            remedy="annotate the input as warehouse.Slice, pyarrow.Table or pyarrow.RecordBatchReader",
        )

    def _table(self, key: AssetKey) -> Table:
        if key not in self.tables:
            raise WarehouseError(
                "the asset has no table declaration",
                where=key.to_user_string(),
                remedy="add its Table to the tables of the IO manager",
            )
        return self.tables[key]


def _is_rows(obj: object) -> TypeGuard[Query | pa.Table | pa.RecordBatchReader]:
    """Whether an asset may return it; Arrow is imported only where something else than a query comes."""
    if isinstance(obj, Query):
        return True
    import pyarrow as pa

    return isinstance(obj, pa.Table | pa.RecordBatchReader)


_NO_MONTHS = MonthRange.of("0001-01")


def _contiguous(keys: Sequence[str], table: Table) -> MonthRange:
    """Partition keys as a range.

    Raises:
        WarehouseError: months are missing in between.
    """
    months = sorted(parse_month(key) for key in keys)
    span = MonthRange(months[0], months[-1])
    if len(span) != len(months):
        missing = ", ".join(f"{month:%Y-%m}" for month in span if month not in set(months))
        raise WarehouseError(
            f"the months of a run have gaps ({missing})",
            where=f"{table.qualified} {span}",
            remedy="start one run for each stretch of months",
        )
    return span
