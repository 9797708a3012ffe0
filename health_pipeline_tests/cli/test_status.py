"""Open alerts as `health-pipeline status` lists them."""

import dagster as dg
import pytest
from dagster._core.definitions.asset_checks.asset_check_evaluation import AssetCheckEvaluationPlanned
from dagster._core.events import DagsterEvent
from dagster._core.utils import make_new_run_id

from health_pipeline.cli.status import _failed_checks

MONTHS = dg.MonthlyPartitionsDefinition("2022-01-01", end_date="2022-03-01")
KEY = dg.AssetCheckKey(dg.AssetKey("stays"), "complete")


@dg.asset(partitions_def=MONTHS)
def stays():
    """A monthly table."""


@dg.asset_check(asset=stays, name="complete", partitions_def=MONTHS)
def complete() -> dg.AssetCheckResult:
    return dg.AssetCheckResult(passed=True)


@pytest.fixture
def instance():
    with dg.DagsterInstance.ephemeral() as opened:
        yield opened


def stored(instance, kind, data):
    """An event of a run of its own."""
    event = DagsterEvent(event_type_value=kind.value, job_name="a run", event_specific_data=data)
    instance.report_dagster_event(event, make_new_run_id())


def evaluated(instance, month, *, passed):
    evaluation = dg.AssetCheckEvaluation(
        asset_key=KEY.asset_key, check_name=KEY.name, passed=passed, metadata={}, partition=month
    )
    stored(instance, dg.DagsterEventType.ASSET_CHECK_EVALUATION, evaluation)


def open_months(instance):
    defs = dg.Definitions([stays], asset_checks=[complete])
    return [each["month"] for each in _failed_checks(defs, instance)]


def test_the_newest_evaluation_of_each_month_counts(instance):
    evaluated(instance, "2022-01-01", passed=False)
    evaluated(instance, "2022-02-01", passed=False)
    evaluated(instance, "2022-02-01", passed=True)
    assert open_months(instance) == ["2022-01"]


def test_a_run_that_was_killed_hides_no_alert(instance):
    evaluated(instance, "2022-01-01", passed=False)
    months = MONTHS.subset_with_partition_keys(["2022-01-01"]).to_serializable_subset()
    planned = AssetCheckEvaluationPlanned(asset_key=KEY.asset_key, check_name=KEY.name, partitions_subset=months)
    stored(instance, dg.DagsterEventType.ASSET_CHECK_EVALUATION_PLANNED, planned)
    assert open_months(instance) == ["2022-01"]
