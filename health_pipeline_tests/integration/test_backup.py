"""A real home: backup, destroy, restore elsewhere; tables, champion, registry and UI history are the same."""

import datetime as dt
import shutil

import dagster as dg
import pytest
from mlflow import MlflowClient

from health_pipeline.backup import create_backup, restore_backup
from health_pipeline.clock import frozen_clock
from health_pipeline.defs.build import tables
from health_pipeline.defs.instance import instance_folder, open_instance
from health_pipeline.modeling import load_bundle
from health_pipeline.months import MonthRange
from health_pipeline.warehouse import Warehouse
from health_pipeline_tests.integration.home import land, run, small_settings

pytestmark = pytest.mark.slow
CLOCK = frozen_clock(dt.datetime(2024, 5, 6, tzinfo=dt.UTC))
LAST = MonthRange.of("2022-10", "2022-10")


@pytest.fixture(autouse=True)
def _own_instance(monkeypatch):
    monkeypatch.delenv("DAGSTER_HOME", raising=False)


def table_hashes(settings):
    warehouse = Warehouse.from_settings(settings)
    return {
        table.qualified: [(each.rows, each.content_hash) for each in warehouse.reports(table, settings.months)]
        for table in tables(settings)
    }


def records(settings, monkeypatch):
    """What the UI shows: runs, materialised months and check results."""
    monkeypatch.delenv("DAGSTER_HOME", raising=False)
    with open_instance(settings) as instance:
        key = dg.AssetKey(["models", "champion"])
        check = dg.AssetCheckKey(key, "decision_record")
        history = instance.event_log_storage.get_asset_check_execution_history(check, limit=100)
        return (
            sorted((each.run_id, each.status.value) for each in instance.get_runs()),
            instance.get_materialized_partitions(key),
            sorted((each.partition, each.status.value) for each in history),
        )


def champion(settings):
    sql = "SELECT model_id, artefact_path, artefact_hash FROM models.champion WHERE month = DATE '2022-10-01'"
    return Warehouse.from_settings(settings).fetch(sql, "champion").to_pylist()[0]


def test_a_destroyed_home_comes_back_whole(tmp_path, monkeypatch):
    settings = small_settings(tmp_path / "home")
    land(settings)
    run(settings, select="group:bronze,group:silver,group:gold,group:models,group:scoring")
    stored, in_force, shown = table_hashes(settings), champion(settings), records(settings, monkeypatch)
    assert in_force["model_id"]
    assert shown[0]
    assert shown[1]
    create_backup(
        settings, tmp_path / "home.tar", instance_folder=instance_folder(settings), clock=CLOCK, with_landing=True
    )
    shutil.rmtree(settings.home)

    moved = small_settings(tmp_path / "elsewhere" / "home")
    moved.home.parent.mkdir()
    restore_backup(moved, tmp_path / "home.tar", clock=CLOCK)
    assert table_hashes(moved) == stored
    assert champion(moved) == in_force
    assert records(moved, monkeypatch) == shown
    assert load_bundle(moved.home / in_force["artefact_path"], in_force["artefact_hash"]) is not None
    versions = MlflowClient(moved.mlflow_uri, registry_uri=moved.mlflow_uri).search_model_versions()
    assert versions
    for version in versions:
        assert "elsewhere" in version.source or version.source.startswith(("runs:", "models:"))

    monkeypatch.delenv("DAGSTER_HOME", raising=False)
    run(moved, LAST, select="gold/predictions")  # and it works on: the same model scores the same rows
    assert table_hashes(moved)["gold.predictions"] == stored["gold.predictions"]
