"""The code location as webserver and daemon load it, and the schedule as the daemon ticks it."""

import os

import dagster as dg
import pytest
from dagster._core.remote_representation.external_data import RepositorySnap

from health_pipeline.defs.build import build_definitions
from health_pipeline.defs.instance import open_instance
from health_pipeline.settings import load_settings
from health_pipeline.sources.simulator import simulate


@pytest.fixture
def settings(tmp_path, monkeypatch):
    monkeypatch.setenv("DAGSTER_HOME", str(tmp_path / "dagster"))
    return load_settings(
        home=tmp_path, start_month="2022-01", end_month="2024-12", simulator={"admissions_per_month": 100}
    )


# Dagster itself reads the deprecated property of every schedule.
@pytest.mark.filterwarnings("ignore:Property `ScheduleDefinition.environment_vars`:DeprecationWarning")
def test_webserver_and_daemon_can_load_every_job_and_automation(settings):
    repository = build_definitions(settings).get_repository_def()
    snapshot = RepositorySnap.from_def(repository, defer_snapshots=True)
    assert {each.name for each in snapshot.sensors} >= {"new_landing_files", "champion_deployment", "drift_retrain"}
    assert [each.name for each in snapshot.schedules] == ["monthly_improvement"]


def test_the_schedule_asks_for_months_of_assets_with_different_partitions(settings):
    report = simulate(type(settings.months).of("2022-01", "2022-02"), settings)
    assert report
    for file in (settings.home / "landing").rglob("*.*"):
        os.utime(file, (1_700_000_000, 1_700_000_000))
    definitions = build_definitions(settings)
    schedule = definitions.get_repository_def().get_schedule_def("monthly_improvement")
    with open_instance(settings) as instance:
        context = dg.build_schedule_context(instance=instance, repository_def=definitions.get_repository_def())
        tick = schedule.evaluate_tick(context)
    assert [request.tags["health_pipeline/request"].rpartition(":")[0] for request in tick.run_requests] == [
        "extracts:2022-01",
        "extracts:2022-02",
    ]
    assert dg.AssetKey(["silver", "admissions"]) in tick.run_requests[0].asset_selection
    assert tick.run_requests[0].tags["dagster/partition"] == "2022-01-01"
