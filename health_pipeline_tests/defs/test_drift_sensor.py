"""The retrain on drift: which run it asks for, when it waits, and when it says no."""

import datetime as dt
import json
import uuid

import dagster as dg
import pytest
from dagster._core.events import DagsterEvent

from health_pipeline.clock import frozen_clock
from health_pipeline.defs.drift_sensor import build_drift_sensor
from health_pipeline.defs.partitions import Partitions
from health_pipeline.defs.requests import IMPROVEMENT_TAG, PAUSES, REASON_TAG, REQUEST_TAG, TRIGGER_TAG
from health_pipeline.monitoring import DRIFT, PERFORMANCE
from health_pipeline.monitoring.rows import to_table
from health_pipeline.months import MonthRange, parse_month, shift
from health_pipeline.settings import load_settings
from health_pipeline.warehouse import Warehouse


def at(seconds):
    return frozen_clock(dt.datetime.fromtimestamp(seconds, dt.UTC))


FAR = at(4e9)
"""After every pause."""


@pytest.fixture
def settings(tmp_path, monkeypatch):
    monkeypatch.delenv("DAGSTER_HOME", raising=False)
    return load_settings(home=tmp_path)


def months_of(settings, count=4):
    return MonthRange(settings.first_model_month, shift(settings.first_model_month, count - 1))


def store(instance, table, *months):
    for month in months:
        event = dg.AssetMaterialization(table.split("/"), partition=f"{month:%Y-%m-01}")
        instance.report_runless_asset_event(event)


def drifting(settings, instance, months, statuses=None):
    """A home whose months alarmed, monitored in order."""
    row = {"subject_kind": "summary", "subject": "month", "metric": "subjects_in_alarm", "n": 500}
    row |= {"reference": "none", "reference_n": 0}
    statuses = statuses or ["alarm"] * len(months)
    rows = [{**row, "month": month, "status": status} for month, status in zip(months, statuses, strict=True)]
    Warehouse.from_settings(settings).replace(DRIFT, months, to_table(DRIFT, rows))
    store(instance, "monitoring/drift", *months)
    store(instance, "gold/labels", *(month for month in months if month != months.last))


def tick(settings, instance, cursor=None, clock=FAR):
    partitions = Partitions.of(settings)

    @dg.asset(key=["models", "champion"], group_name="models", partitions_def=partitions.models)
    def champion(): ...

    @dg.asset(key=["monitoring", "drift"], group_name="monitoring", partitions_def=partitions.scored)
    def drift(): ...

    built = build_drift_sensor(settings, partitions, clock, dg.DefaultSensorStatus.STOPPED)
    repository = dg.Definitions(assets=[champion, drift], sensors=[built]).get_repository_def()
    return built.evaluate_tick(dg.build_sensor_context(instance=instance, cursor=cursor, repository_def=repository))


def alerts(settings):
    log = settings.home / "logs" / "alerts.jsonl"
    return [json.loads(line) for line in log.read_text().splitlines()] if log.exists() else []


def asked_run(instance, month, status, request="retrain"):
    tags = {TRIGGER_TAG: "drift", "dagster/partition": f"{month:%Y-%m-01}", REQUEST_TAG: request}
    instance.add_run(dg.DagsterRun(job_name="any", run_id=None, tags=tags, status=status))


def test_nothing_monitored_nothing_asked(settings, instance):
    assert "no month was monitored" in tick(settings, instance).skip_message


def test_drift_brings_the_next_months_models_forward(settings, instance):
    months = months_of(settings)
    drifting(settings, instance, months)
    (request,) = tick(settings, instance).run_requests
    assert request.partition_key == f"{shift(months.last, 1):%Y-%m-01}", "the model that can exist now"
    assert request.asset_selection == [dg.AssetKey(["models", "champion"])], "there is nothing to score yet"
    assert (request.tags[TRIGGER_TAG], request.tags[IMPROVEMENT_TAG]) == ("drift", "true")
    assert "drift or estimated loss in 3 of the last 3 months" in request.tags[REASON_TAG]
    (alert,) = alerts(settings)
    assert alert["title"] == f"Retrain requested ({months.last:%Y-%m})"
    assert f"models of {shift(months.last, 1):%Y-%m} are trained now" in alert["body"]


@pytest.mark.parametrize(
    ("statuses", "asks"),
    [
        (["ok", "alarm", "ok", "alarm"], True),
        (["alarm", "ok", "ok", "alarm"], False),
        (["alarm", "alarm", "alarm", "ok"], False),
        (["ok", "ok", "ok", "ok"], False),
    ],
    ids=["two of three and the latest", "one of three", "not the latest", "none"],
)
def test_n_of_m_months_and_the_latest(settings, instance, statuses, asks):
    drifting(settings, instance, months_of(settings), statuses)
    found = tick(settings, instance)
    assert bool(found.run_requests) is asks
    assert bool(alerts(settings)) is asks


@pytest.mark.parametrize(
    ("realised", "asks"),
    [(["alarm", "ok", "alarm"], True), (["alarm", "ok", "ok"], False), (["ok", "ok", "alarm"], False)],
)
def test_outcomes_are_judged_over_as_many_months_as_drift(settings, instance, realised, asks):
    """The latest month's outcome is open: the window of outcomes begins and ends a month before that of drift."""
    months = months_of(settings)
    drifting(settings, instance, months, ["ok"] * 4)
    matured = MonthRange(months.first, shift(months.last, -1))
    row = {"model_role": "champion", "window_months": 1, "segment": "all", "metric": "roc_auc", "n": 500}
    rows = [
        {**row, "kind": kind, "month": month, "status": status}
        for kind, judged in (
            ("realised", zip(matured, realised, strict=True)),
            ("estimated", zip(months, ["ok"] * 4, strict=True)),
        )
        for month, status in judged
    ]
    Warehouse.from_settings(settings).replace(PERFORMANCE, months, to_table(PERFORMANCE, rows))
    found = tick(settings, instance)
    assert bool(found.run_requests) is asks
    if asks:
        assert "realised loss in 2 of the last 3 months: roc_auc" in found.run_requests[0].tags[REASON_TAG]


def test_a_month_is_judged_again_only_when_monitoring_says_something_new(settings, instance):
    months = months_of(settings)
    drifting(settings, instance, months, ["ok"] * 4)
    first = tick(settings, instance)
    assert "no retrain needed" in first.skip_message
    assert "judged already" in tick(settings, instance, first.cursor).skip_message
    store(instance, "monitoring/performance", shift(months.last, -1))  # its outcomes have matured
    assert "no retrain needed" in tick(settings, instance, first.cursor).skip_message


def test_it_waits_for_labels_that_a_blocking_check_refuses(settings, instance):
    months = months_of(settings)
    drifting(settings, instance, months)
    evaluation = dg.AssetCheckEvaluation(
        check_name="labels_matured",
        asset_key=dg.AssetKey(["gold", "labels"]),
        passed=False,
        metadata={},
        partition=f"{months.first:%Y-%m-01}",
    )
    event = DagsterEvent(dg.DagsterEventType.ASSET_CHECK_EVALUATION.value, "any", event_specific_data=evaluation)
    instance.report_dagster_event(event, run_id=str(uuid.uuid4()))
    assert "a blocking check" in tick(settings, instance).skip_message


def test_it_waits_for_the_labels_that_matured_with_the_month(settings, instance):
    months = months_of(settings)
    drifting(settings, instance, months)
    instance.wipe_assets([dg.AssetKey(["gold", "labels"])])
    waiting = tick(settings, instance)
    assert "waits for the labels" in waiting.skip_message
    store(instance, "gold/labels", shift(months.last, -1))
    assert tick(settings, instance, waiting.cursor).run_requests


def test_models_that_are_made_or_lie_beyond_the_last_month_are_not_asked_for(settings, instance):
    months = months_of(settings)
    drifting(settings, instance, months)
    ending = settings.model_copy(update={"end_month": months.last})
    assert "lies after end_month" in tick(ending, instance).skip_message
    store(instance, "models/champion", shift(months.last, 1))
    assert "are made" in tick(settings, instance).skip_message
    assert alerts(settings) == []


def test_with_an_open_end_the_month_that_has_not_closed_has_models_and_no_scores(settings):
    partitions = Partitions.of(settings.model_copy(update={"end_month": None}))
    last = parse_month(partitions.scored.get_last_partition_key())
    assert parse_month(partitions.models.get_last_partition_key()) == shift(last, 1)
    assert partitions.extracts.get_last_partition_key() == partitions.scored.get_last_partition_key()


def test_a_retrain_under_way_or_done_is_not_asked_for_and_a_failed_one_is_after_a_pause(settings, instance):
    months = months_of(settings)
    drifting(settings, instance, months)
    first = tick(settings, instance)
    (request,) = first.run_requests
    key = request.tags[REQUEST_TAG]
    target = shift(months.last, 1)
    asked_run(instance, target, dg.DagsterRunStatus.STARTED, key)
    assert not tick(settings, instance, first.cursor).run_requests
    instance.delete_run(instance.get_runs()[0].run_id)
    asked_run(instance, target, dg.DagsterRunStatus.FAILURE, key)
    assert not tick(settings, instance, first.cursor, at(PAUSES[0] - 1)).run_requests
    (again,) = tick(settings, instance, first.cursor, at(PAUSES[0] + 1)).run_requests
    assert again.run_key == f"{key}#2"
    assert len(alerts(settings)) == 1, "told once"


@pytest.mark.parametrize(
    ("status", "asks"),
    [
        (dg.DagsterRunStatus.SUCCESS, False),
        (dg.DagsterRunStatus.STARTED, False),
        (dg.DagsterRunStatus.FAILURE, True),
        (None, True),
    ],
)
def test_drift_asks_once_and_then_waits_for_what_it_asked_for(settings, instance, status, asks):
    months = months_of(settings)
    drifting(settings, instance, months)
    if status is not None:  # what the drift of the month before asked for
        asked_run(instance, months.last, status)
    found = tick(settings, instance)  # the cursor is lost: what was asked for must be known all the same
    assert bool(found.run_requests) is asks
    if not asks:
        assert f"last asked for in {shift(months.last, -1):%Y-%m}" in found.skip_message
