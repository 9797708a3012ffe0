"""What is particular to a backend: keys, extensions, places, bounds."""

from __future__ import annotations

import importlib.util
import logging
import time
from pathlib import Path

import duckdb
import pytest

from health_pipeline.errors import LockTimeoutError, SettingsError, WarehouseError
from health_pipeline.months import MonthRange
from health_pipeline.settings import Settings
from health_pipeline.warehouse import Query, Slice, Warehouse
from health_pipeline.warehouse.extensions import extension_file
from health_pipeline.warehouse.transactions import is_conflict, retry_conflicts
from health_pipeline_tests.warehouse.conftest import VISITS, rows_of, visits

JANUARY = MonthRange.of("2022-01")
KEY = "a secret key that must never be shown"


def encrypted(home: Path, key: str | None = KEY) -> Warehouse:
    return Warehouse.from_settings(Settings(home=home, warehouse={"backend": "encrypted", "encryption_key": key}))


def test_an_encrypted_file_shows_nothing(tmp_path: Path) -> None:
    shown = {}
    for name, warehouse in (
        ("plain", Warehouse.from_settings(Settings(home=tmp_path / "plain"))),
        ("encrypted", encrypted(tmp_path / "encrypted")),
    ):
        warehouse.replace(VISITS, JANUARY, visits("2022-01", rows=3))
        content = (tmp_path / name / "warehouse.duckdb").read_bytes()
        shown[name] = [word for word in (b"gold", b"visit_id", b"seen_at") if word in content]
    assert shown == {"plain": [b"gold", b"visit_id", b"seen_at"], "encrypted": []}


def test_a_wrong_or_missing_key_is_said_clearly_and_the_key_is_never_shown(tmp_path: Path, caplog) -> None:
    caplog.set_level(logging.DEBUG)
    warehouse = encrypted(tmp_path)
    warehouse.replace(VISITS, JANUARY, visits("2022-01"))
    with pytest.raises(WarehouseError, match="cannot be opened") as refused:
        encrypted(tmp_path, "another key, also secret").ensure(VISITS)
    with pytest.raises(SettingsError, match="has no key"):
        encrypted(tmp_path, None)
    with pytest.raises(WarehouseError) as failed:
        warehouse.replace(VISITS, JANUARY, Query("SELECT nonsense"))
    for shown in (str(refused.value), str(failed.value), repr(warehouse.backend), caplog.text):
        assert KEY not in shown
        assert "another key" not in shown
    assert rows_of(warehouse, f"SELECT count(*) FROM {Slice(VISITS, JANUARY)}") == [(5,)]


def test_a_file_that_is_no_database_is_said_clearly(tmp_path: Path) -> None:
    (tmp_path / "warehouse.duckdb").write_bytes(b"not a database" * 1000)
    with pytest.raises(WarehouseError, match="cannot be opened"):
        Warehouse.from_settings(Settings(home=tmp_path)).reports(VISITS, JANUARY)


def test_a_missing_extension_gives_the_pip_command(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setattr(importlib.util, "find_spec", lambda _: None)
    warehouse = Warehouse.from_settings(Settings(home=tmp_path, warehouse={"backend": "ducklake"}))
    with pytest.raises(WarehouseError) as refused:
        warehouse.ensure(VISITS)
    assert f"pip install 'duckdb-extension-ducklake=={duckdb.__version__}'" in str(refused.value)


def test_an_extension_of_another_duckdb_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(duckdb, "__version__", "9.9.9")
    with pytest.raises(WarehouseError, match=r"built for v.*, DuckDB is v9\.9\.9") as refused:
        extension_file("httpfs")
    assert "duckdb-extension-httpfs==9.9.9" in str(refused.value)


def test_nothing_is_downloaded_at_run_time(file_warehouse: Warehouse) -> None:
    with file_warehouse.write("look") as connection:
        settings = dict(
            connection.execute(
                "SELECT name, value FROM duckdb_settings() WHERE name LIKE 'auto%_known_extensions'"
            ).fetchall()
        )
        assert settings == {"autoinstall_known_extensions": "false", "autoload_known_extensions": "false"}
        with pytest.raises(duckdb.Error, match="httpfs"):
            connection.execute("SELECT * FROM 'https://localhost/x.parquet'")


def test_memory_threads_and_spill_folder_come_from_the_settings(tmp_path: Path) -> None:
    warehouse = Warehouse.from_settings(Settings(home=tmp_path, warehouse={"memory_limit": "32MiB", "threads": 1}))
    with warehouse.write("sort what does not fit") as connection:
        stated = connection.execute(
            "SELECT current_setting('memory_limit'), current_setting('threads'), current_setting('temp_directory')"
        ).fetchone()
        assert stated == ("32.0 MiB", 1, str(warehouse.backend.spill))
        assert warehouse.backend.spill.parent == tmp_path / "spill"
        # About 48 MB of rows: more than the limit, so this works only because DuckDB spills.
        connection.execute(
            "CREATE TEMP TABLE big AS SELECT hash(i) AS h, hash(i, 1) AS g FROM range(3_000_000) AS r(i)"
        )
        assert connection.execute("SELECT count(*) FROM (FROM big ORDER BY h, g OFFSET 5)").fetchone() == (2_999_995,)


def test_replacing_again_and_again_does_not_grow_the_file(tmp_path: Path) -> None:
    warehouse = Warehouse.from_settings(Settings(home=tmp_path))
    sizes = []
    for turn in range(12):
        warehouse.replace(VISITS, MonthRange.of("2022-01", "2022-03"), visits("2022-01", 3, rows=50_000, cost=turn))
        sizes.append((tmp_path / "warehouse.duckdb").stat().st_size)
    # Old and new rows stand side by side until the commit, and which free blocks are taken depends on the threads, so
    # some slack stays and varies; it does not add up to the twelve sizes that were written.
    assert max(sizes) <= 4 * sizes[0], sizes


def test_a_stream_holds_no_lock_and_leaves_no_file(file_warehouse: Warehouse, tmp_path: Path) -> None:
    file_warehouse.replace(VISITS, JANUARY, visits("2022-01", rows=250_000))
    stream = file_warehouse.stream(f"SELECT visit_id, cost FROM {Slice(VISITS, JANUARY)}", "training")
    first = next(stream)
    assert first.num_rows <= 100_000
    file_warehouse.replace(VISITS, JANUARY, visits("2022-01", rows=1))  # nobody waits for the stream's reader
    assert first.num_rows + sum(batch.num_rows for batch in stream) == 250_000
    assert list(file_warehouse.backend.spill.glob("*.arrow")) == []


@pytest.mark.parametrize("backend", ["duckdb", "encrypted", "ducklake"])
def test_a_home_that_was_moved_is_read_and_written(tmp_path: Path, backend: str) -> None:
    def at(name: str) -> Warehouse:
        chosen = {"backend": backend, "encryption_key": "a key for tests only"}
        return Warehouse.from_settings(Settings(home=tmp_path / name, warehouse=chosen))

    stored = at("before").replace(VISITS, JANUARY, visits("2022-01", rows=500))
    (tmp_path / "before").rename(tmp_path / "after")
    assert at("after").reports(VISITS, JANUARY) == stored
    assert at("after").replace(VISITS, JANUARY, visits("2022-01", rows=900))[0].rows == 900
    assert not (tmp_path / "before").exists()


def test_a_conflict_is_tried_again_and_other_errors_are_not() -> None:
    tries = []

    def lose_twice() -> str:
        tries.append(1)
        if len(tries) < 3:
            raise duckdb.TransactionException("Transaction conflict - attempting to insert into table")
        return "won"

    assert retry_conflicts(lose_twice, "gold.visits", 10) == "won"

    def fail() -> None:
        tries.append(1)
        raise duckdb.IOException("disk full while writing 'value of a patient'")

    before = len(tries)
    with pytest.raises(WarehouseError, match="disk full") as refused:
        retry_conflicts(fail, "gold.visits", 10)
    assert len(tries) == before + 1
    assert "value of a patient" not in str(refused.value)


@pytest.mark.parametrize(
    ("said", "lost"),
    [
        ('Failed to initialize DuckLake: ERROR:  relation "ducklake_metadata" already exists', True),
        ('Failed to initialize DuckLake: ERROR:  type "ducklake_metadata" already exists', True),
        ("Failed to initialize DuckLake: ERROR:  duplicate key value violates unique constraint", True),
        ("Failed to commit DuckLake transaction.\nTransaction conflict - attempting to insert", True),
        ("Failed to initialize DuckLake: ERROR:  permission denied for schema public", False),
        ('Table with name "visits" already exists!', False),
    ],
)
def test_a_lost_race_is_told_from_other_errors_of_the_server(said: str, lost: bool) -> None:
    assert is_conflict(duckdb.Error(said)) == lost


@pytest.mark.parametrize(
    ("said", "lost"),
    [
        ("TransactionContext Error: Conflict on update!", True),
        ('Catalog write-write conflict on create with "visits"', True),
        ("Failed to commit: Could not write file 'warehouse.duckdb.wal': No space left on device", False),
        ("Current transaction is aborted (please ROLLBACK)", False),
    ],
)
def test_a_commit_that_fails_otherwise_is_no_lost_race(said: str, lost: bool) -> None:
    assert is_conflict(duckdb.TransactionException(said)) == lost


def test_who_always_loses_is_told_so_after_the_bounded_wait() -> None:
    def lose() -> None:
        raise duckdb.TransactionException("Transaction conflict")

    begun = time.monotonic()
    with pytest.raises(LockTimeoutError, match="kept committing first"):
        retry_conflicts(lose, "gold.visits", 0.2)
    assert time.monotonic() - begun < 3
