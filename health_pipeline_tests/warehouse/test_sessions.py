"""Threads of one process share one database instance; foreign programs are waited for."""

from __future__ import annotations

import subprocess
import sys
import threading

import duckdb
import pytest

from health_pipeline.errors import LockTimeoutError, WarehouseError
from health_pipeline.months import MonthRange
from health_pipeline.settings import Settings
from health_pipeline.warehouse import Query, Slice, Warehouse
from health_pipeline.warehouse.sessions import Sessions
from health_pipeline_tests.warehouse.conftest import VISITS, rows_of, visits

JANUARY = MonthRange.of("2022-01")
COUNT = f"SELECT count(*) FROM {Slice(VISITS, JANUARY)}"


def in_thread(job) -> list:
    """Result or error of a job in another thread."""
    out: list = []

    def run() -> None:
        try:
            out.append(job())
        except (duckdb.Error, WarehouseError, AssertionError) as error:
            out.append(error)

    thread = threading.Thread(target=run)
    thread.start()
    thread.join(20)
    assert not thread.is_alive()
    return out


def test_a_reader_sees_committed_rows_while_a_writer_of_its_process_works(file_warehouse: Warehouse) -> None:
    file_warehouse.replace(VISITS, JANUARY, visits("2022-01", rows=3))
    with file_warehouse.write("long work") as connection:
        connection.execute("BEGIN")
        connection.execute('DELETE FROM "gold"."visits"')
        assert in_thread(lambda: rows_of(file_warehouse, COUNT)) == [[(3,)]]
        connection.execute("COMMIT")
    assert rows_of(file_warehouse, COUNT) == [(0,)]


def test_threads_write_one_after_another(file_warehouse: Warehouse) -> None:
    errors: list[Exception] = []

    def work(number: int) -> None:
        month = MonthRange.of(f"2022-{number:02d}")
        try:
            for rows in range(3):
                file_warehouse.replace(VISITS, month, visits(f"2022-{number:02d}", rows=rows + 1))
                assert rows_of(file_warehouse, f"SELECT count(*) FROM {Slice(VISITS, month)}") == [(rows + 1,)]
        except (duckdb.Error, WarehouseError, AssertionError) as error:
            errors.append(error)

    threads = [threading.Thread(target=work, args=(number,)) for number in range(1, 7)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert errors == []
    assert rows_of(file_warehouse, "SELECT count(*) FROM gold.visits") == [(18,)]


def test_reading_twice_in_one_thread_does_not_wait_for_itself(file_warehouse: Warehouse) -> None:
    file_warehouse.replace(VISITS, JANUARY, visits("2022-01"))
    with file_warehouse.read("outer"):
        waiting = threading.Thread(target=lambda: file_warehouse.replace(VISITS, JANUARY, visits("2022-01")))
        waiting.start()  # a writer queues between the two readers
        while not any(holder.kind == "write" for holder in queue_of(file_warehouse)):
            pass
        assert rows_of(file_warehouse, COUNT) == [(5,)]
    waiting.join()


def queue_of(warehouse: Warehouse):
    return Sessions.of(warehouse.backend).lock.queue()


def test_writing_inside_a_read_block_is_refused_at_once(file_warehouse: Warehouse) -> None:
    file_warehouse.ensure(VISITS)
    with file_warehouse.read("outer"), pytest.raises(WarehouseError, match="inside a read block of the same thread"):
        file_warehouse.replace(VISITS, JANUARY, visits("2022-01"))
    file_warehouse.replace(VISITS, JANUARY, visits("2022-01"))


def test_a_reader_cannot_write(warehouse: Warehouse) -> None:
    if warehouse.backend.file is None:
        pytest.skip("a database server lets one instance read and write")
    warehouse.ensure(VISITS)
    with warehouse.read("look") as connection, pytest.raises(duckdb.InvalidInputException, match="read-only"):
        connection.execute('DELETE FROM "gold"."visits"')


def test_connections_close_and_free_the_file(file_settings: Settings) -> None:
    warehouse = Warehouse.from_settings(file_settings)
    with pytest.raises(WarehouseError):
        warehouse.replace(VISITS, JANUARY, Query("SELECT error('boom') AS month"))
    with pytest.raises(RuntimeError, match="of the caller"), warehouse.write("fails"):
        raise RuntimeError("of the caller")
    with pytest.raises(RuntimeError, match="of the caller"), warehouse.read("fails"):
        raise RuntimeError("of the caller")
    assert queue_of(warehouse) == []
    duckdb.connect(str(file_settings.warehouse_path)).close()  # a foreign connection may open it for writing


FOREIGN = """
import duckdb, sys, time
connection = duckdb.connect(sys.argv[1])
print("held", flush=True)
sys.stdin.readline()
"""


def test_a_foreign_program_is_waited_for_and_named(tmp_path) -> None:
    patient = Warehouse.from_settings(Settings(home=tmp_path, warehouse={"lock_timeout_seconds": 20}))
    hasty = Warehouse.from_settings(Settings(home=tmp_path, warehouse={"lock_timeout_seconds": 0.2}))
    patient.replace(VISITS, JANUARY, visits("2022-01"))
    foreign = subprocess.Popen(
        [sys.executable, "-c", FOREIGN, str(tmp_path / "warehouse.duckdb")],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
    )
    with foreign:
        assert foreign.stdout.readline() == "held\n"
        with pytest.raises(LockTimeoutError) as refused:
            rows_of(hasty, COUNT)
        assert f"(PID {foreign.pid})" in str(refused.value)
        release = threading.Timer(0.3, foreign.communicate, ["\n"])
        release.start()
        assert rows_of(patient, COUNT) == [(5,)]
        release.join()
