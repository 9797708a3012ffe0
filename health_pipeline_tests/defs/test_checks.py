"""A check in a range run leaves the same records as one run a month."""

import dagster as dg
import pytest
from dagster._core.storage.asset_check_execution_record import AssetCheckExecutionRecordStatus as Status
from dagster._core.storage.tags import ASSET_PARTITION_RANGE_END_TAG, ASSET_PARTITION_RANGE_START_TAG

from health_pipeline.defs.checks import asset_checks, report
from health_pipeline.months import MonthRange
from health_pipeline.settings import load_settings
from health_pipeline.verdicts import Check, Verdict

MONTHS = dg.MonthlyPartitionsDefinition(start_date="2022-01-01", end_date="2022-07-01")
KEY = dg.AssetKey(["gold", "numbers"])


def definitions(tmp_path, evaluate, *, blocking=True):
    @dg.asset(key=KEY, partitions_def=MONTHS, backfill_policy=dg.BackfillPolicy.single_run())
    def numbers() -> None: ...

    @dg.asset(
        key=["gold", "after"],
        deps=[KEY],
        partitions_def=MONTHS,
        backfill_policy=dg.BackfillPolicy.single_run(),
    )
    def after() -> None: ...

    check = Check("plausible", "gold.numbers", "numbers are plausible", evaluate, blocking=blocking)
    checks = asset_checks([check], {KEY: MONTHS}, load_settings(home=tmp_path))
    return dg.Definitions(assets=[numbers, after], asset_checks=checks, executor=dg.in_process_executor)


def run(defs, instance, first, last):
    job = defs.resolve_implicit_global_asset_job_def()
    tags = {ASSET_PARTITION_RANGE_START_TAG: first, ASSET_PARTITION_RANGE_END_TAG: last}
    return job.execute_in_process(instance=instance, tags=tags, raise_on_error=False)


def records(instance):
    history = instance.event_log_storage.get_asset_check_execution_history(
        dg.AssetCheckKey(KEY, "plausible"), limit=100
    )
    return {record.partition: record for record in history}


def failing_in(*bad):
    return lambda _warehouse, months, _settings: [
        Verdict(month, f"{month:%Y-%m}" not in bad, "looked at", numbers={"rows": 3}) for month in months
    ]


def test_every_month_of_a_range_has_its_own_record(tmp_path, instance):
    result = run(definitions(tmp_path, failing_in()), instance, "2022-02-01", "2022-04-01")
    assert result.success
    found = records(instance)
    assert sorted(found) == ["2022-02-01", "2022-03-01", "2022-04-01"]
    assert {record.status for record in found.values()} == {Status.SUCCEEDED}
    evaluation = found["2022-03-01"].event.dagster_event.asset_check_evaluation_data
    assert evaluation.metadata["rows"].value == 3
    assert evaluation.target_materialization_data.run_id == result.run_id


def test_a_month_can_be_judged_outside_of_runs_again_and_again(instance):
    month = MonthRange.of("2022-03", "2022-03").first
    for passed in (False, True, False):
        report(instance, "plausible", "gold.numbers", Verdict(month, passed, "looked at"))
    history = instance.event_log_storage.get_asset_check_execution_history(dg.AssetCheckKey(KEY, "plausible"), limit=10)
    assert [each.status for each in history] == [Status.FAILED, Status.SUCCEEDED, Status.FAILED]


def test_a_blocking_failure_of_one_month_stops_what_follows_and_names_the_month(tmp_path, instance):
    result = run(definitions(tmp_path, failing_in("2022-03")), instance, "2022-02-01", "2022-04-01")
    assert not result.success
    found = records(instance)
    assert found["2022-03-01"].status == Status.FAILED
    assert found["2022-02-01"].status == found["2022-04-01"].status == Status.SUCCEEDED
    assert instance.get_materialized_partitions(dg.AssetKey(["gold", "after"])) == set()


def test_a_failure_that_does_not_block_lets_the_run_go_on(tmp_path, instance):
    defs = definitions(tmp_path, failing_in("2022-03"), blocking=False)
    assert run(defs, instance, "2022-02-01", "2022-04-01").success
    assert records(instance)["2022-03-01"].status == Status.FAILED


@pytest.mark.parametrize("dropped", [0, -1])
def test_a_check_that_forgets_a_month_fails_the_run(tmp_path, instance, dropped):
    def forgetful(_warehouse, months, _settings):
        verdicts = [Verdict(month, True, "fine") for month in months]
        verdicts.pop(dropped)
        return verdicts

    result = run(definitions(tmp_path, forgetful), instance, "2022-02-01", "2022-04-01")
    assert not result.success
