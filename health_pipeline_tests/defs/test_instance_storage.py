"""The pooled storage keeps the same records as Dagster's own, and either reads what the other wrote."""

import threading
from contextlib import suppress

import dagster as dg
import pytest
from dagster._core.storage.event_log.sqlite.sqlite_event_log import SqliteEventLogStorage
from dagster._core.storage.tags import ASSET_PARTITION_RANGE_END_TAG, ASSET_PARTITION_RANGE_START_TAG
from dagster_shared.check import CheckError
from sqlalchemy import text

from health_pipeline.defs.instance import open_instance
from health_pipeline.defs.instance_storage import PooledEventLogStorage
from health_pipeline.settings import load_settings

MONTHS = dg.MonthlyPartitionsDefinition(start_date="2022-01-01", end_date="2023-01-01")
KEY = dg.AssetKey("numbers")


@dg.asset(key=KEY, partitions_def=MONTHS, backfill_policy=dg.BackfillPolicy.single_run())
def numbers() -> None: ...


def run(instance):
    defs = dg.Definitions(assets=[numbers], executor=dg.in_process_executor)
    tags = {ASSET_PARTITION_RANGE_START_TAG: "2022-02-01", ASSET_PARTITION_RANGE_END_TAG: "2022-09-01"}
    return defs.resolve_implicit_global_asset_job_def().execute_in_process(instance=instance, tags=tags)


def kinds(storage, run_id):
    with storage.run_connection(run_id) as connection:
        rows = connection.execute(text("SELECT dagster_event_type, count(*) FROM event_logs GROUP BY 1 ORDER BY 1"))
        return [tuple(row) for row in rows]


@pytest.fixture
def home(tmp_path, monkeypatch):
    monkeypatch.delenv("DAGSTER_HOME", raising=False)
    monkeypatch.setenv("DAGSTER_EVENT_BATCH_SIZE", "500")
    return load_settings(home=tmp_path)


def test_a_home_uses_it_and_the_stock_storage_reads_the_same_records(home):
    with open_instance(home) as instance:
        storage = instance.event_log_storage
        assert isinstance(storage, PooledEventLogStorage)
        run_id = run(instance).run_id
        assert len(instance.get_materialized_partitions(KEY)) == 8
        pooled = kinds(storage, run_id)
    stock = SqliteEventLogStorage(str(home.home / "dagster" / "history" / "runs"))
    assert kinds(stock, run_id) == pooled
    assert len(stock.get_materialized_partitions(KEY)) == 8


def test_it_records_what_the_stock_storage_records(home, tmp_path):
    (tmp_path / "stock").mkdir()
    with dg.DagsterInstance.local_temp(str(tmp_path / "stock")) as instance:
        stock = kinds(instance.event_log_storage, run(instance).run_id)
    with open_instance(home) as instance:
        assert kinds(instance.event_log_storage, run(instance).run_id) == stock


def test_a_batch_that_cannot_be_stored_leaves_nothing_behind(tmp_path, home):
    with open_instance(home) as instance:
        run_id = run(instance).run_id
        storage = instance.event_log_storage
        before = kinds(storage, run_id)
        events = [entry for entry in instance.all_logs(run_id) if entry.is_dagster_event][:3]
        with pytest.raises(CheckError):
            storage.store_event_batch([*events, None])
        assert kinds(storage, run_id) == before


def test_another_thread_has_no_part_in_the_transaction_of_a_batch(home, monkeypatch):
    """Sensors run in threads of one process; what one of them records must not vanish with another's batch."""
    with open_instance(home) as instance:
        run_id = run(instance).run_id
        storage = instance.event_log_storage
        events = [entry for entry in instance.all_logs(run_id) if entry.is_dagster_event]
        before = sum(count for _, count in kinds(storage, run_id))
        within, stored = threading.Event(), PooledEventLogStorage.store_event

        def fail_late(self, entry):
            stored(self, entry)
            if threading.current_thread() is batch:
                within.set()
                other.join(0.5)  # waits for the batch, or has got into it
                raise RuntimeError("disk full")

        def store_batch():
            with suppress(RuntimeError):
                storage.store_event_batch(events[:2])

        monkeypatch.setattr(PooledEventLogStorage, "store_event", fail_late)
        batch = threading.Thread(target=store_batch)
        other = threading.Thread(target=lambda: within.wait() and storage.store_event(events[2]))
        other.start()
        batch.start()
        batch.join()
        other.join()
        assert sum(count for _, count in kinds(storage, run_id)) == before + 1


def test_only_the_newest_runs_stay_open(tmp_path):
    storage = PooledEventLogStorage(str(tmp_path))
    for number in range(20):
        with storage.run_connection(f"run{number}") as connection:
            connection.execute(text("SELECT 1"))
    assert len(storage._engines) <= 9
    storage.dispose()
    assert not storage._engines
