"""Seven faults of dagster-duckdb's stock manager: each is shown on the stock manager, then shown to be absent here.

The stock manager is the real package. It caps pandas below 3 in its requirements only (it runs with 3), so it is
installed with ``pip install --no-deps dagster-duckdb-pandas==0.29.27``.
"""

from __future__ import annotations

import gc
import subprocess
import sys
import threading
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import dagster as dg
import duckdb
import pytest

from health_pipeline.errors import SliceError
from health_pipeline.settings import Settings
from health_pipeline.warehouse import Query, build_io_manager
from health_pipeline_tests.warehouse.conftest import VISITS, visits

stock_package = pytest.importorskip(
    "dagster_duckdb_pandas", reason="pip install --no-deps dagster-duckdb-pandas==0.29.27"
)

MONTHS = dg.MonthlyPartitionsDefinition("2022-01-01", end_date="2023-01-01")
GOOD = visits("2022-01").sql
COUNT_IN_OTHER_PROCESS = """
import duckdb, sys
try:
    connection = duckdb.connect(sys.argv[1], read_only=True)
    print(connection.execute("SELECT count(*) FROM gold.visits WHERE " + sys.argv[2]).fetchone()[0])
except duckdb.IOException:
    print("locked")
"""


class Stock:
    """dagster-duckdb-pandas as it comes."""

    def __init__(self, home: Path) -> None:
        self.file = home / "stock.duckdb"
        self.manager = stock_package.DuckDBPandasIOManager(database=str(self.file))

    def rows(self, sql: str) -> Any:
        with duckdb.connect() as connection:
            return connection.execute(sql).df()


class Ours:
    """The IO manager of this project."""

    def __init__(self, home: Path) -> None:
        settings = Settings(home=home, warehouse={"threads": 2, "lock_timeout_seconds": 30})
        self.file = settings.warehouse_path
        self.manager = build_io_manager(settings, [VISITS])

    def rows(self, sql: str) -> Query:
        return Query(sql, allow_empty=False)


Manager = Stock | Ours


def store(manager: Manager, sql: str, month: str = "2022-01-01") -> bool:
    """Materialise a month of ``gold/visits``; whether the run succeeded."""

    @dg.asset(key=["gold", "visits"], partitions_def=MONTHS, metadata={"partition_expr": "month"})
    def stored():
        return manager.rows(sql)

    return dg.materialize(
        [stored], resources={"io_manager": manager.manager}, partition_key=month, raise_on_error=False
    ).success


def stored_rows(manager: Manager, where: str = "true") -> str:
    """Row count as another process sees it, or ``locked``."""
    ran = subprocess.run(
        [sys.executable, "-c", COUNT_IN_OTHER_PROCESS, str(manager.file), where],
        capture_output=True,
        text=True,
        check=True,
    )
    return ran.stdout.strip()


@pytest.fixture
def stock(tmp_path: Path) -> Stock:
    return Stock(tmp_path)


@pytest.fixture
def ours(tmp_path: Path) -> Ours:
    return Ours(tmp_path)


def test_1_a_failed_insert_leaves_the_partition_empty(stock: Stock, ours: Ours) -> None:
    bad = f"SELECT * REPLACE ('x' || cost AS cost) FROM ({GOOD})"
    left = {}
    for manager in (stock, ours):
        assert store(manager, GOOD)
        assert not store(manager, bad)
        gc.collect()  # the stock manager's leaked connection goes with its traceback
        left[manager] = stored_rows(manager)
    assert left == {stock: "0", ours: "5"}


def test_2_columns_are_inserted_by_position(stock: Stock, ours: Ours) -> None:
    two_numbers = "SELECT DATE '2022-01-01' AS month, 'v' || i AS visit_id, {} FROM range(3) AS v(i)"
    others = "NULL::TIMESTAMP AS seen_at, NULL::BOOLEAN AS planned, 1.0::DOUBLE AS cost"
    assert store(stock, two_numbers.format("1.0::DOUBLE AS cost, 2.0::DOUBLE AS charge"))
    assert store(stock, two_numbers.format("2.0::DOUBLE AS charge, 1.0::DOUBLE AS cost"))
    assert stored_rows(stock, "cost = 2.0") == "3"  # charges stand in the column of costs, and the run was green
    assert store(ours, two_numbers.format(f"{others}"))
    assert stored_rows(ours, "cost = 1.0 AND seen_at IS NULL") == "3"


def test_3_an_empty_frame_empties_the_partition_and_reports_success(stock: Stock, ours: Ours) -> None:
    nothing = f"SELECT * FROM ({GOOD}) WHERE false"
    left = {}
    for manager in (stock, ours):
        assert store(manager, GOOD)
        left[manager] = (store(manager, nothing), stored_rows(manager))
    assert left == {stock: (True, "0"), ours: (False, "5")}


def test_4_rows_outside_the_slice_pile_up_on_re_runs(stock: Stock, ours: Ours) -> None:
    stray = f"SELECT * REPLACE (CASE WHEN visit_id = 'v4' THEN DATE '2022-07-01' ELSE month END AS month) FROM ({GOOD})"
    for _ in range(3):
        assert store(stock, stray)
    assert stored_rows(stock) == "7"
    assert store(ours, GOOD)
    assert not store(ours, stray)
    assert stored_rows(ours) == "5"


def test_5_a_failed_write_leaks_the_locked_connection(stock: Stock, ours: Ours) -> None:
    seen = {}
    for manager in (stock, ours):
        assert store(manager, GOOD)
        kept = _failing(manager)  # whoever keeps the error (a log, a debugger, a retry loop) keeps the lock
        seen[manager] = stored_rows(manager)
        del kept
        gc.collect()
    assert seen == {stock: "locked", ours: "5"}


def _failing(manager: Manager) -> BaseException:
    """The error of a run that fails while it writes."""

    @dg.asset(key=["gold", "visits"], partitions_def=MONTHS, metadata={"partition_expr": "month"})
    def stored():
        return manager.rows(f"SELECT * REPLACE ('x' || cost AS cost) FROM ({GOOD})")

    with pytest.raises((duckdb.Error, SliceError)) as failed:
        dg.materialize([stored], resources={"io_manager": manager.manager}, partition_key="2022-01-01")
    return failed.value


def test_6_reads_take_the_write_lock(stock: Stock, ours: Ours) -> None:
    seen = {}
    for manager in (stock, ours):
        assert store(manager, GOOD)
        seen[manager] = _seen_while_reading(manager)
    assert seen == {stock: "locked", ours: "5"}


def _seen_while_reading(manager: Manager) -> str:
    """What another reader sees while rows are being loaded."""
    if isinstance(manager, Stock):
        client = stock_package.duckdb_pandas_type_handler.DuckDbClient
        context = dg.build_input_context(resource_config={"database": str(manager.file), "connection_config": {}})
        with client.connect(context, None):
            return stored_rows(manager)
    with manager.manager.warehouse().read("load the slice"):
        return stored_rows(manager)


def test_7_parallel_writers_sleep_long_after_the_file_is_free(
    stock: Stock, ours: Ours, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Eight stock writers took 254 s for 76 s of work: each back-off doubles, and whoever comes by takes the file."""
    idle = {}
    for manager in (stock, ours):
        assert store(manager, GOOD)
        with _Busy(manager) as busy, monkeypatch.context() as patch:
            if isinstance(manager, Stock):
                patch.setattr(duckdb, "connect", _free_at_attempt(5, busy, duckdb.connect))
            else:
                threading.Timer(1.5, busy.free).start()
            assert store(manager, visits("2022-02").sql, "2022-02-01")
            idle[manager] = time.monotonic() - busy.freed_at
    assert idle[stock] > 1.5
    assert idle[ours] < 1.0


def _free_at_attempt(number: int, busy: _Busy, connect: Callable[..., Any]) -> Callable[..., Any]:
    """``duckdb.connect`` that frees the file as soon as it was refused for the n-th time."""
    refused = []

    def connect_or_count(*args: Any, **kwargs: Any) -> Any:
        try:
            return connect(*args, **kwargs)
        except duckdb.IOException:
            refused.append(1)
            if len(refused) == number:
                busy.free()
            raise

    return connect_or_count


class _Busy:
    """Another process that keeps the file until it is told to free it."""

    def __init__(self, manager: Manager) -> None:
        program = "import duckdb, sys; c = duckdb.connect(sys.argv[1]); print('held', flush=True); sys.stdin.read()"
        self._process = subprocess.Popen(
            [sys.executable, "-c", program, str(manager.file)], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
        )
        self.freed_at = 0.0

    def __enter__(self) -> _Busy:
        self._process.stdout.readline()
        return self

    def free(self) -> None:
        self._process.communicate("")
        self.freed_at = time.monotonic()

    def __exit__(self, *_: object) -> None:
        self._process.kill()
        self._process.wait()
