"""The IO manager in real Dagster runs: ranges, windows, versions, staleness.

No deferred annotations here: Dagster reads those of the assets.
"""

import subprocess
import sys
from collections.abc import Iterator
from typing import Any

import dagster as dg
import pyarrow as pa
import pytest
from dagster import AssetKey, DagsterEventType, DagsterInstance
from dagster._core.definitions.data_version import DATA_VERSION_TAG, CachingStaleStatusResolver, StaleStatus
from dagster._core.loader import LoadingContextForTest

from health_pipeline.errors import WarehouseError
from health_pipeline.months import MonthRange, month_key, parse_month
from health_pipeline.settings import Settings
from health_pipeline.warehouse import Column, Query, Slice, Table, Warehouse, build_io_manager
from health_pipeline_tests.warehouse.conftest import rows_of

MONTHS = dg.MonthlyPartitionsDefinition("2022-01-01", end_date="2023-01-01")
COLUMNS = (Column("month", "DATE", nullable=False), Column("n", "BIGINT"))
SOURCE = Table("bronze", "source", (*COLUMNS, Column("i", "BIGINT")), ("i",))
DOUBLED = Table("silver", "doubled", COLUMNS, ("month",))
WINDOWED = Table("gold", "windowed", COLUMNS, ("month",))
CHAINED = Table("gold", "chained", COLUMNS, ("month",))
TABLES = (SOURCE, DOUBLED, WINDOWED, CHAINED)
RANGE = ("2022-01-01", "2022-04-01")


def window(before: int, after: int = 0) -> dg.TimeWindowPartitionMapping:
    return dg.TimeWindowPartitionMapping(
        start_offset=-before, end_offset=after, allow_nonexistent_upstream_partitions=True
    )


def months_of(context: dg.AssetExecutionContext) -> MonthRange:
    keys = context.partition_keys
    return MonthRange(parse_month(keys[0]), parse_month(keys[-1]))


class Graph:
    """Four assets over one warehouse; ``landed`` is what the outside world delivers in each month."""

    def __init__(self, settings: Settings, instance: DagsterInstance) -> None:
        self.landed = {f"2022-{number:02d}-01": number for number in range(1, 13)}
        self.seen: dict[str, list[Any]] = {}
        self.instance = instance
        self.warehouse = Warehouse.from_settings(settings)
        monthly = {"partitions_def": MONTHS, "backfill_policy": dg.BackfillPolicy.single_run(), "code_version": "1"}

        @dg.asset(key=["bronze", "source"], **monthly)
        def source(context: dg.AssetExecutionContext) -> Query:
            values = ", ".join(f"(DATE '{key}', {self.landed[key]})" for key in context.partition_keys)
            return Query(f"SELECT month, n, i FROM (VALUES {values}) AS v(month, n), range(2) AS r(i)")

        @dg.asset(key=["silver", "doubled"], ins={"source": dg.AssetIn(["bronze", "source"])}, **monthly)
        def doubled(source: Slice) -> Query:
            self.note("doubled", source)
            return Query(f"SELECT month, sum(n)::BIGINT AS n FROM {source} GROUP BY month")

        @dg.asset(
            key=["gold", "windowed"],
            ins={"doubled": dg.AssetIn(["silver", "doubled"], partition_mapping=window(2))},
            **monthly,
        )
        def windowed(context: dg.AssetExecutionContext, doubled: pa.Table) -> pa.Table:
            self.note("windowed", doubled.num_rows)
            rows = {row["month"]: row["n"] for row in doubled.to_pylist()}
            months = list(months_of(context))
            sums = [sum(rows.get(m, 0) for m in MonthRange(month, month).widen(2)) for month in months]
            return pa.table({"n": pa.array(sums, pa.int64()), "month": pa.array(months, pa.date32())})

        @dg.asset(
            key=["gold", "chained"],
            ins={
                "doubled": dg.AssetIn(["silver", "doubled"]),
                "before": dg.AssetIn(["gold", "chained"], partition_mapping=window(1, -1)),
            },
            **monthly,
        )
        def chained(doubled: pa.RecordBatchReader, before: Slice) -> pa.RecordBatchReader:
            self.note("chained", before)
            return doubled

        self.assets = [source, doubled, windowed, chained]
        self.defs = dg.Definitions(self.assets, resources={"io_manager": build_io_manager(settings, TABLES)})

    def note(self, name: str, what: Any) -> None:
        self.seen.setdefault(name, []).append(what)

    def run(self, first: str, last: str | None = None, *keys: str) -> dg.ExecuteInProcessResult:
        job = self.defs.resolve_implicit_global_asset_job_def()
        return job.execute_in_process(
            instance=self.instance,
            asset_selection=[AssetKey(key.split("/")) for key in keys] or None,
            tags={"dagster/asset_partition_range_start": first, "dagster/asset_partition_range_end": last or first},
        )

    def versions(self, key: str) -> dict[str, str]:
        """Data version of each month, as Dagster has stored it."""
        tags = self.instance.event_log_storage.get_latest_tags_by_partition(
            AssetKey(key.split("/")), DagsterEventType.ASSET_MATERIALIZATION, [DATA_VERSION_TAG]
        )
        return {month: tag[DATA_VERSION_TAG] for month, tag in tags.items()}

    def stale(self, key: str) -> list[str]:
        """Months of the range that the UI shows as stale."""
        resolver = CachingStaleStatusResolver(
            self.instance,
            self.defs.resolve_asset_graph(),
            LoadingContextForTest(self.instance),
        )
        months = MonthRange.of(*RANGE).keys()
        return [m[:7] for m in months if resolver.get_status(AssetKey(key.split("/")), m) == StaleStatus.STALE]

    def rows(self, table: Table) -> list[tuple]:
        columns = ", ".join(table.column_names)
        return rows_of(self.warehouse, f"SELECT {columns} FROM {table.qualified} ORDER BY ALL")


@pytest.fixture
def graph(file_settings: Settings) -> Iterator[Graph]:
    with DagsterInstance.ephemeral() as instance:
        yield Graph(file_settings, instance)


def test_a_range_run_equals_runs_month_by_month(graph: Graph, tmp_path) -> None:
    graph.run(*RANGE)
    with DagsterInstance.ephemeral() as instance:
        single = Graph(Settings(home=tmp_path / "single"), instance)
        for month in MonthRange.of(*RANGE):
            single.run(month_key(month))
        for table, asset in zip(TABLES, graph.assets, strict=True):
            assert graph.rows(table) == single.rows(table)
            key = asset.key.to_user_string()
            assert graph.versions(key) == single.versions(key)
            assert [graph.stale(key), single.stale(key)] == [[], []]


def test_each_month_is_recorded_once_with_rows_hash_and_version(graph: Graph) -> None:
    result = graph.run(*RANGE)
    assert len(graph.seen["doubled"]) == 1  # one pass for the whole range
    months = MonthRange.of(*RANGE)
    for table in TABLES:
        events = [
            event for event in result.get_asset_materialization_events() if event.asset_key.path[-1] == table.name
        ]
        assert [event.partition for event in events] == months.keys()
        for event, report in zip(events, graph.warehouse.reports(table, months), strict=True):
            metadata = event.materialization.metadata
            assert metadata["dagster/partition_row_count"].value == report.rows
            assert metadata["content_hash"].value == report.content_hash
            assert event.materialization.tags[DATA_VERSION_TAG] == report.content_hash
        assert len(set(graph.versions("/".join([table.schema, table.name])).values())) == len(months)


def test_windows_before_the_first_partition_are_empty_slices(graph: Graph) -> None:
    graph.run("2022-01-01")
    (before,) = graph.seen["chained"]
    assert rows_of(graph.warehouse, f"SELECT * FROM {before}") == []
    assert graph.seen["windowed"] == [1]
    graph.run("2022-02-01", "2022-04-01")
    assert graph.seen["windowed"] == [1, 4]
    assert str(graph.seen["chained"][1].months) == "2022-01..2022-03"


def test_only_what_a_restated_month_touches_is_stale(graph: Graph) -> None:
    graph.run(*RANGE)
    assert graph.stale("silver/doubled") == []
    graph.landed["2022-02-01"] = 99
    graph.run(*RANGE, "bronze/source")  # all months run again, one came out differently
    assert graph.stale("silver/doubled") == ["2022-02"]
    graph.run(*RANGE, "silver/doubled")
    assert graph.stale("silver/doubled") == []
    assert graph.stale("gold/windowed") == ["2022-02", "2022-03", "2022-04"]
    assert graph.stale("gold/chained") == ["2022-02"]
    graph.run(*RANGE, "gold/windowed", "gold/chained")
    assert [graph.stale(key) for key in ("gold/windowed", "gold/chained")] == [[], []]


def test_an_unchanged_re_run_makes_nothing_stale(graph: Graph) -> None:
    graph.run(*RANGE)
    before = graph.versions("bronze/source")
    graph.run(*RANGE, "bronze/source")
    assert graph.versions("bronze/source") == before
    assert [graph.stale(asset.key.to_user_string()) for asset in graph.assets] == [[], [], [], []]


def run_one(settings: Settings, value: Any, **options: Any) -> WarehouseError | None:
    """The error of materialising ``bronze/source`` with a value."""

    @dg.asset(**{"key": ["bronze", "source"], "partitions_def": MONTHS, **options})
    def source():
        return value

    key = "2022-01-01" if source.partitions_def else None
    try:
        dg.materialize([source], resources={"io_manager": build_io_manager(settings, TABLES)}, partition_key=key)
    except WarehouseError as error:
        return error
    return None


def test_what_cannot_be_stored_is_refused_with_a_remedy(file_settings: Settings) -> None:
    query = Query("SELECT DATE '2022-01-01' AS month, 1 AS n, 1 AS i")
    assert run_one(file_settings, query) is None
    assert "cannot return list" in str(run_one(file_settings, [1]))
    assert "no table declaration" in str(run_one(file_settings, query, key=["bronze", "other"]))
    assert "no monthly partitions" in str(run_one(file_settings, query, partitions_def=None))


def test_an_input_of_another_type_is_refused(graph: Graph) -> None:
    @dg.asset(partitions_def=MONTHS, ins={"source": dg.AssetIn(["bronze", "source"])}, io_manager_key="io_manager")
    def reader(source: dict) -> None: ...

    defs = dg.Definitions([*graph.assets, reader], resources=graph.defs.resources)
    with pytest.raises(WarehouseError, match="cannot be loaded as"):
        defs.resolve_implicit_global_asset_job_def().execute_in_process(
            instance=graph.instance,
            asset_selection=[AssetKey("reader"), AssetKey(["bronze", "source"])],
            partition_key="2022-01-01",
        )


def test_importing_the_warehouse_imports_neither_dagster_nor_arrow() -> None:
    program = (
        "import sys, health_pipeline.warehouse as w; w.Warehouse; "
        "print([m for m in ('dagster', 'pyarrow', 'pandas', 'numpy') if m in sys.modules])"
    )
    ran = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True)
    assert ran.stdout.strip() == "[]"
