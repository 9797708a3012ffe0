"""What the sensors see on a real home: landed files against what bronze was read from."""

import os
import uuid
from pathlib import Path

import dagster as dg
import pytest
from dagster._core.events import DagsterEvent
from dagster._core.storage.asset_check_execution_record import AssetCheckExecutionRecordStatus

from health_pipeline.defs.due import Stage, due
from health_pipeline.defs.instance import open_instance
from health_pipeline.defs.state import read_state, refused_months
from health_pipeline.months import MonthRange, parse_month
from health_pipeline_tests.integration.home import land, run, small_settings

LATER = 4e9
EXTRACTS = "group:bronze,group:silver,gold/features,gold/cohort_attrition"
MONTHS = MonthRange.of("2022-01", "2022-02")


@pytest.fixture
def settings(tmp_path, monkeypatch):
    monkeypatch.delenv("DAGSTER_HOME", raising=False)
    made = small_settings(tmp_path, MONTHS)
    made = made.model_copy(update={"simulator": made.simulator.model_copy(update={"admissions_per_month": 60})})
    land(made)
    return made


def asked(settings):
    with open_instance(settings) as instance:
        return [
            f"{item.month:%Y-%m}" for item in due(read_state(instance, settings, LATER)) if item.stage is Stage.EXTRACTS
        ]


def test_months_are_asked_for_until_stored_and_again_when_their_files_change(settings):
    assert asked(settings) == ["2022-01", "2022-02"]
    run(settings, select="group:bronze")
    assert asked(settings) == ["2022-01", "2022-02"], "bronze alone is not the whole way"
    run(settings, select=EXTRACTS)
    assert asked(settings) == []

    claims = Path(settings.landing_uri, "claims", "2022-02.parquet")
    written_at = claims.stat().st_mtime - 3_600
    os.utime(claims, (written_at, written_at))
    assert asked(settings) == ["2022-02"], "a correction that keeps the time of its source"
    run(settings, MonthRange.of("2022-02"), EXTRACTS)
    assert asked(settings) == []

    claims.unlink()
    assert asked(settings) == ["2022-02"], "a file was withdrawn"


def judge(instance, table, check, month, *, passed):
    evaluation = dg.AssetCheckEvaluation(
        check_name=check, asset_key=dg.AssetKey(table.split(".")), passed=passed, metadata={}, partition=month
    )
    kind = dg.DagsterEventType.ASSET_CHECK_EVALUATION.value
    event = DagsterEvent(kind, "any", event_specific_data=evaluation)
    instance.report_dagster_event(event, run_id=str(uuid.uuid4()))


def test_months_that_a_blocking_check_refuses_count_until_it_passes(instance):
    judge(instance, "gold.labels", "labels_matured", "2022-01-01", passed=False)
    judge(instance, "gold.labels", "labels_matured", "2022-02-01", passed=True)
    judge(instance, "gold.labels", "label_rate_plausible", "2022-02-01", passed=False)  # blocks nothing
    judge(instance, "gold.features", "features_see_no_future", "2022-03-01", passed=False)
    assert refused_months(instance) == {
        "gold.labels": {parse_month("2022-01")},
        "gold.features": {parse_month("2022-03")},
    }
    judge(instance, "gold.labels", "labels_matured", "2022-01-01", passed=True)
    assert refused_months(instance) == {"gold.features": {parse_month("2022-03")}}


MONTHLY = dg.MonthlyPartitionsDefinition(start_date="2022-01-01", end_date="2022-07-01")


@dg.asset(key=["gold", "labels"], partitions_def=MONTHLY)
def labels() -> None: ...


@dg.multi_asset_check(
    specs=[dg.AssetCheckSpec("labels_matured", asset=["gold", "labels"], blocking=True, partitions_def=MONTHLY)]
)
def judged():
    yield dg.AssetCheckResult(check_name="labels_matured", asset_key=["gold", "labels"], passed=True)


@pytest.mark.parametrize(("ended", "months"), [(False, {parse_month("2022-01")}), (True, set())])
def test_a_month_whose_check_is_still_to_come_waits_for_it_but_not_for_a_run_that_was_killed(instance, ended, months):
    job = dg.Definitions(assets=[labels], asset_checks=[judged]).resolve_implicit_global_asset_job_def()
    run = instance.create_run_for_job(job, tags={"dagster/partition": "2022-01-01"}, status=dg.DagsterRunStatus.STARTED)
    key = dg.AssetCheckKey(dg.AssetKey(["gold", "labels"]), "labels_matured")
    (planned,) = instance.event_log_storage.get_asset_check_execution_history(key, limit=1)
    assert planned.status is AssetCheckExecutionRecordStatus.PLANNED
    if ended:
        instance.report_run_failed(run)
    assert refused_months(instance).get("gold.labels", set()) == months
