"""Sensors on a real home: what they request and whom they tell, once."""

import datetime as dt
import json
import os
import time
import uuid
from importlib.resources import files
from pathlib import Path
from types import SimpleNamespace

import dagster as dg
import pytest
import yaml
from dagster._core.definitions.assets.job.asset_job import IMPLICIT_ASSET_JOB_NAME
from dagster._core.events import (
    DagsterEvent,
    DagsterEventType,
    JobFailureData,
    RunFailureReason,
    StepMaterializationData,
)

from health_pipeline.clock import system_clock
from health_pipeline.defs.build import build_definitions
from health_pipeline.defs.due import Due, Stage
from health_pipeline.defs.instance import open_instance
from health_pipeline.defs.partitions import Partitions
from health_pipeline.defs.requests import (
    EXTRACTS_TAG,
    IMPROVEMENT_TAG,
    LONGEST_RUN_SECONDS,
    PAUSES,
    REQUEST_TAG,
    next_attempt,
    requests,
    under_way,
)
from health_pipeline.defs.sensors import LATE_SECONDS, build_sensors
from health_pipeline.months import parse_month
from health_pipeline.settings import load_settings

MONTHS = dg.MonthlyPartitionsDefinition(start_date="2022-01-01", end_date="2022-07-01")
JAN = parse_month("2022-01")


@dg.asset(key=["gold", "labels"], partitions_def=MONTHS)
def labels() -> None: ...


@dg.asset_check(asset=["gold", "labels"])
def suspicious():
    return dg.AssetCheckResult(passed=False, severity=dg.AssetCheckSeverity.WARN, description="too few")


@dg.asset_check(asset=["gold", "labels"])
def fine():
    return dg.AssetCheckResult(passed=True)


@pytest.fixture
def settings(tmp_path, monkeypatch):
    monkeypatch.delenv("DAGSTER_HOME", raising=False)
    return load_settings(home=tmp_path)


def later():
    """A moment at which nothing of now can still be on its way into the storage."""
    return system_clock() + dt.timedelta(seconds=2 * LATE_SECONDS)


def sensor(settings, name, clock=later):
    built = build_sensors(settings, Partitions.of(settings), clock)
    return next(each for each in built if each.name == name)


def told(settings):
    lines = (settings.home / "logs" / "alerts.jsonl").read_text().splitlines()
    return [json.loads(line) for line in lines]


def test_every_failed_check_is_told_once_with_any_severity(settings):
    defs = dg.Definitions(assets=[labels], asset_checks=[suspicious, fine], executor=dg.in_process_executor)
    alerts = sensor(settings, "failed_check_alerts")
    with open_instance(settings) as instance:
        run = defs.resolve_implicit_global_asset_job_def().execute_in_process(
            instance=instance, partition_key="2022-01-01"
        )
        assert run.success, "a failed check that does not block leaves the run green"
        context = dg.build_sensor_context(instance=instance)
        first = alerts.evaluate_tick(context)
        again = alerts.evaluate_tick(dg.build_sensor_context(instance=instance, cursor=first.cursor))
        replayed = alerts.evaluate_tick(dg.build_sensor_context(instance=instance, cursor="0"))
    assert "1 failed" in first.skip_message
    assert "0 evaluations read" in again.skip_message
    assert "1 failed" in replayed.skip_message
    assert [line["title"] for line in told(settings)] == ["Check warns: suspicious on gold/labels"]


def evaluate(instance, month, subjects, *, passed=False, severity=dg.AssetCheckSeverity.ERROR):
    metadata = {"subjects": subjects} if subjects else {}
    evaluation = dg.AssetCheckEvaluation(
        check_name="features_resemble_training",
        asset_key=dg.AssetKey(["monitoring", "drift"]),
        passed=passed,
        severity=severity,
        metadata={name: dg.MetadataValue.text(value) for name, value in metadata.items()},
        partition=f"2024-{month:02d}-01",
    )
    event = DagsterEvent(DagsterEventType.ASSET_CHECK_EVALUATION.value, "any", event_specific_data=evaluation)
    instance.report_dagster_event(event, run_id=str(uuid.uuid4()))


def rung(settings):
    """Month and whether it rang, of every alert."""
    return [(int(line["partition"][5:7]), line["severity"]) for line in told(settings)]


@pytest.fixture
def home_instance(settings):
    with open_instance(settings) as opened:
        yield opened


@pytest.mark.parametrize("name", ["failed_check_alerts", "failed_run_alerts"])
def test_a_clock_that_was_set_back_holds_nothing_back(settings, home_instance, monkeypatch, name):
    monkeypatch.setattr("health_pipeline.defs.sensors.BATCH", 2)
    alerts, cursor = sensor(settings, name, lambda: system_clock() - dt.timedelta(days=1)), None
    for month in range(1, 6):
        evaluate(home_instance, month, "")
        fail(home_instance, {})
    for _ in range(3):
        cursor = look(alerts, home_instance, cursor)
    assert len(told(settings)) == 5


def test_an_episode_rings_once_and_again_when_something_is_new(settings, home_instance):
    instance = home_instance
    warn = dg.AssetCheckSeverity.WARN
    alerts = sensor(settings, "failed_check_alerts")
    evaluate(instance, 1, "age", severity=warn)
    evaluate(instance, 2, "age")  # worse
    evaluate(instance, 3, "age")  # nothing new
    evaluate(instance, 4, "age; payer")  # something joins
    evaluate(instance, 5, "payer", severity=warn)  # better
    evaluate(instance, 6, "payer", passed=True)  # over
    evaluate(instance, 7, "payer")  # another episode
    evaluate(instance, 7, "payer")  # the month is judged again
    evaluate(instance, 8, None)  # what has no subjects is told every month
    evaluate(instance, 9, None)
    tick = alerts.evaluate_tick(dg.build_sensor_context(instance=instance))
    expected = [(1, "warning"), (2, "critical"), (3, "info"), (4, "critical"), (5, "info"), (7, "critical")]
    assert rung(settings) == [*expected, (7, "info"), (8, "critical"), (9, "critical")]
    assert "still fails" in told(settings)[2]["title"]
    assert "told since 2024-01" in told(settings)[2]["body"]
    alerts.evaluate_tick(dg.build_sensor_context(instance=instance, cursor="0"))
    assert len(rung(settings)) == 9, "a lost cursor repeats nothing"
    assert "9 failed" in tick.skip_message


def test_a_month_that_failed_again_after_it_passed_rings(settings, home_instance):
    instance = home_instance
    alerts = sensor(settings, "failed_check_alerts")
    evaluate(instance, 1, "age")
    evaluate(instance, 1, "age", passed=True)
    evaluate(instance, 1, "age")
    alerts.evaluate_tick(dg.build_sensor_context(instance=instance))
    assert rung(settings) == [(1, "critical"), (1, "critical")]


@pytest.mark.parametrize("name", ["failed_check_alerts", "failed_run_alerts"])
def test_what_shows_later_under_a_lower_number_is_told_too(settings, home_instance, monkeypatch, name):
    """On PostgreSQL: two runs write at once, and the one that was first is committed last."""
    instance = home_instance
    if name == "failed_check_alerts":
        evaluate(instance, 1, "age")
        evaluate(instance, 2, "payer", severity=dg.AssetCheckSeverity.WARN)
        place, reads = type(instance.event_log_storage), "get_event_records"
    else:
        fail(instance, {REQUEST_TAG: "first"})
        fail(instance, {REQUEST_TAG: "second"})
        place, reads = type(instance), "fetch_run_status_changes"
    read = getattr(place, reads)

    def without_the_first(*arguments, **named):
        found = read(*arguments, **named)
        return found[1:] if isinstance(found, list) else SimpleNamespace(records=found.records[1:])

    with monkeypatch.context() as patched:
        patched.setattr(place, reads, without_the_first)
        cursor = look(sensor(settings, name, system_clock), instance)
    assert len(told(settings)) == 1
    cursor = look(sensor(settings, name, system_clock), instance, cursor)
    assert len(told(settings)) == 2
    done = look(sensor(settings, name), instance, cursor)
    assert int(done) > int(cursor), "what is old enough is not read again"
    assert len(told(settings)) == 2


def graph():
    return dg.Definitions(assets=[labels]).resolve_asset_graph()


def tagged_run(instance, key, status):
    run = dg.DagsterRun(job_name="any", run_id=None, tags={REQUEST_TAG: key}, status=status)
    instance.add_run(run)


@pytest.mark.parametrize(
    ("status", "asked"),
    [
        (dg.DagsterRunStatus.NOT_STARTED, False),
        (dg.DagsterRunStatus.STARTED, False),
        (dg.DagsterRunStatus.SUCCESS, False),
        (dg.DagsterRunStatus.FAILURE, True),
    ],
)
def test_a_request_is_made_once_and_again_after_a_failure(instance, status, asked):
    item = Due(Stage.LABELS, JAN, "7")
    (first,) = requests([item], instance, graph(), now=1e12, trigger="new_files")
    assert first.run_key == "labels:2022-01:7#1"
    assert first.partition_key == "2022-01-01"
    tagged_run(instance, item.key, status)
    assert bool(list(requests([item], instance, graph(), now=1e12, trigger="new_files"))) is asked


def test_a_failing_request_pauses_and_then_gives_up(instance):
    item = Due(Stage.LABELS, JAN, "7")
    tagged_run(instance, item.key, dg.DagsterRunStatus.FAILURE)
    assert not list(requests([item], instance, graph(), now=0.0, trigger="new_files")), "the pause is not over"
    for _ in PAUSES:
        assert list(requests([item], instance, graph(), now=1e12, trigger="new_files"))
        tagged_run(instance, item.key, dg.DagsterRunStatus.FAILURE)
    assert not list(requests([item], instance, graph(), now=1e12, trigger="new_files")), "a person's turn"


def fail(
    instance,
    tags,
    reason=RunFailureReason.STEP_FAILURE,
    *,
    selected=(),
    made=(),
    job=IMPLICIT_ASSET_JOB_NAME,
    month="2022-01-01",
):
    """A run of January that failed, after it had made some of what it was to make; gives its id."""
    run = dg.DagsterRun(
        job_name=job,
        tags={"dagster/partition": month, **tags} if month else tags,
        status=dg.DagsterRunStatus.STARTED,
        asset_selection=frozenset(map(dg.AssetKey.from_user_string, selected)) or None,
    )
    instance.add_run(run)
    for name in made:
        data = StepMaterializationData(dg.AssetMaterialization(name.split("/"), partition="2022-01-01"))
        event = DagsterEvent(DagsterEventType.ASSET_MATERIALIZATION.value, "any", event_specific_data=data)
        instance.report_dagster_event(event, run_id=run.run_id)
    instance.report_run_failed(run, job_failure_data=JobFailureData(error=None, failure_reason=reason))
    return run.run_id


def test_a_clock_that_was_set_back_keeps_no_request_waiting(home_instance):
    """A machine that starts with its clock hours ahead, finds its runs dead, and then is told the time."""
    fail(home_instance, {REQUEST_TAG: "labels:2022-01:7"})
    ended_at, hours = time.time(), 8 * 3600
    assert next_attempt("labels:2022-01:7", home_instance, ended_at + PAUSES[0] - 5) is None
    assert next_attempt("labels:2022-01:7", home_instance, ended_at - 5) is None, (
        "clocks of two machines differ a little"
    )
    assert next_attempt("labels:2022-01:7", home_instance, ended_at - hours) == 2


def look(alerts, instance, cursor=None):
    return alerts.evaluate_tick(dg.build_sensor_context(instance=instance, cursor=cursor)).cursor


def test_a_failed_run_rings_when_nobody_else_will_try_it_again_soon(settings, home_instance):
    alerts = sensor(settings, "failed_run_alerts")
    cursor = None
    failures = [({REQUEST_TAG: "labels:2022-01:7"}, RunFailureReason.STEP_FAILURE)] * (len(PAUSES) + 1)
    failures.append(({REQUEST_TAG: "labels:2022-01:9"}, RunFailureReason.RUN_EXCEPTION))
    failures.append(({}, RunFailureReason.STEP_FAILURE))
    for tags, reason in failures:
        fail(home_instance, tags, reason)
        cursor = look(alerts, home_instance, cursor)
    found = told(settings)
    last = "; mend the cause, then run the month again: health-pipeline run --from 2022-01 --to 2022-01."
    expected = [
        ("warning", "in 2 minutes."),
        ("warning", "in 20 minutes."),
        ("critical", "in 2 hours."),
        ("critical", "in 6 hours."),
        ("critical", "in 12 hours."),
        ("critical", last),
        ("warning", "at once."),
        ("critical", last),
    ]
    assert [line["severity"] for line in found] == [severity for severity, _ in expected]
    for line, (_, end) in zip(found, expected, strict=True):
        assert line["body"].endswith(end), line["body"]


DEPLOYMENT = (
    "the alert of the deployment says what follows; where there is none, it is tried again by itself, three times"
)
RANGE = {"dagster/asset_partition_range_start": "2022-01-01", "dagster/asset_partition_range_end": "2022-03-01"}


@pytest.mark.parametrize(
    ("tags", "job", "month", "title", "says"),
    [
        # The months of a deployment run again would be decided again, and not deployed.
        ({REQUEST_TAG: "deploy:2022-01:9"}, "deploy", "2022-01-01", "deploy:2022-01:9 (2022-01)", DEPLOYMENT),
        ({}, "deploy", "2022-01-01", "deploy (2022-01)", DEPLOYMENT),
        ({REQUEST_TAG: "recover:f3a"}, "recover_deployment", None, "recover:f3a", "by itself until it succeeds"),
        ({}, "rollback", None, "rollback", "mend the cause, then launch the job `rollback` again."),
        # A backfill from the UI: without its months the command would run everything there is.
        (RANGE, "__ASSET_JOB", None, "__ASSET_JOB (2022-01 to 2022-03)", " --from 2022-01 --to 2022-03."),
        ({}, "__ASSET_JOB", None, "__ASSET_JOB", "mend the cause, then run it again."),
    ],
)
def test_a_failed_run_says_what_is_to_do_about_it(settings, home_instance, tags, job, month, title, says):
    fail(home_instance, tags, job=job, month=month)
    look(sensor(settings, "failed_run_alerts"), home_instance)
    (alert,) = told(settings)
    assert alert["title"] == f"Run failed: {title}"
    assert says in alert["body"]
    assert (tags is RANGE) == ("health-pipeline run" in alert["body"])
    assert alert["severity"] == "critical"


SCORING = ("gold/predictions", "monitoring/drift", "monitoring/performance")


@pytest.mark.parametrize(
    ("stage", "selected", "made", "told_of"),
    [
        # Labels that a blocking check refused are stored: nothing is due, and a person has to look.
        ("labels", ("gold/labels",), ("gold/labels",), "critical"),
        ("labels", ("gold/labels",), (), "warning"),
        ("extracts", ("silver/claims", "gold/features"), ("silver/claims", "gold/features"), "critical"),
        ("extracts", ("silver/claims", "gold/features"), ("silver/claims",), "warning"),
        ("retrain", ("models/xgboost", "models/champion"), ("models/xgboost", "models/champion"), "critical"),
        ("improvement", ("models/champion", *SCORING), ("models/champion", *SCORING), "critical"),
        ("improvement", ("models/champion", *SCORING), ("models/champion",), "at once"),
        ("improvement", ("models/champion", *SCORING), (), "warning"),
        ("performance", ("monitoring/performance", "monitoring/visuals"), ("monitoring/performance",), "critical"),
    ],
)
def test_no_other_try_is_promised_of_a_run_that_has_made_what_it_was_to_make(
    settings, home_instance, stage, selected, made, told_of
):
    fail(home_instance, {REQUEST_TAG: f"{stage}:2022-01:7"}, selected=selected, made=made)
    look(sensor(settings, "failed_run_alerts"), home_instance)
    (alert,) = told(settings)
    assert alert["severity"] == ("critical" if told_of == "critical" else "warning")
    said = {"critical": "run the month again", "warning": "in 2 minutes", "at once": "at once"}
    assert said[told_of] in alert["body"]


def test_a_failed_run_is_told_once_the_alert_can_be_kept(settings, home_instance):
    alerts = sensor(settings, "failed_run_alerts")
    told_before = look(alerts, home_instance)
    outbox = settings.home / "notify" / "outbox.sqlite"
    outbox.mkdir(parents=True)  # a disk that takes nothing: the same that failed the run
    fail(home_instance, {})
    with pytest.raises(Exception, match="unable to open database"):
        look(alerts, home_instance, told_before)
    outbox.rmdir()
    cursor = look(alerts, home_instance, told_before)
    assert len(told(settings)) == 1
    assert look(alerts, home_instance, cursor) == cursor
    assert look(alerts, home_instance, json.dumps({"record_id": int(cursor)})) == cursor, "what Dagster's sensor left"
    assert len(told(settings)) == 1


def test_alerts_lead_to_the_page_of_what_failed(tmp_path, monkeypatch):
    monkeypatch.delenv("DAGSTER_HOME", raising=False)
    settings = load_settings(home=tmp_path, notify={"ui_url": "https://dagster.hospital.example/"})
    with open_instance(settings) as instance:
        failed = fail(instance, {})
        look(sensor(settings, "failed_run_alerts"), instance)
        evaluate(instance, 1, "urea")
        sensor(settings, "failed_check_alerts").evaluate_tick(dg.build_sensor_context(instance=instance))
    run, check = (line["links"] for line in told(settings))
    assert run == {"run": f"https://dagster.hospital.example/runs/{failed}"}
    assert check == {"monitoring/drift": "https://dagster.hospital.example/assets/monitoring/drift?view=checks"}


def empty_asset(schema, name, group, partitions=MONTHS):
    @dg.asset(key=[schema, name], group_name=group, partitions_def=partitions)
    def empty() -> None: ...

    return empty


@pytest.mark.parametrize(
    ("stage", "turn"),
    [(Stage.EXTRACTS, EXTRACTS_TAG), (Stage.LABELS, None), (Stage.IMPROVEMENT, IMPROVEMENT_TAG)],
)
def test_stages_that_take_turns_carry_the_tag_that_lets_one_of_them_run_at_a_time(instance, stage, turn):
    """Extracts too: features look back, and a month that overtakes the one before would not see it."""
    made = [
        empty_asset("bronze", "admissions", "bronze"),
        empty_asset("silver", "admissions", "silver"),
        empty_asset("gold", "features", "gold"),
        empty_asset("gold", "cohort_attrition", "gold"),
        empty_asset("models", "champion", "models"),
        empty_asset("gold", "predictions", "scoring"),
        empty_asset("monitoring", "drift", "monitoring"),
    ]
    everything = dg.Definitions(assets=[labels, *made]).resolve_asset_graph()
    (request,) = requests([Due(stage, JAN, "7")], instance, everything, now=0.0, trigger="new_files")
    assert [tag for tag in (EXTRACTS_TAG, IMPROVEMENT_TAG) if tag in request.tags] == ([turn] if turn else [])
    limits = yaml.safe_load(files("health_pipeline.defs").joinpath("dagster.yaml").read_text())["concurrency"]["runs"]
    limited = {limit["key"] for limit in limits["tag_concurrency_limits"] if limit["limit"] == 1}
    assert turn is None or turn in limited


@pytest.mark.parametrize(("month", "asked"), [("2022-06", True), ("2022-07", False), ("2021-12", False)])
def test_a_month_that_its_assets_do_not_have_is_not_asked_for(instance, month, asked):
    items = [Due(Stage.LABELS, parse_month(month), "7")]
    assert bool(list(requests(items, instance, graph(), now=0.0, trigger="new_files"))) is asked


def test_a_file_of_a_month_that_has_not_closed_waits_and_keeps_no_other_from_being_asked_for(tmp_path, monkeypatch):
    monkeypatch.delenv("DAGSTER_HOME", raising=False)
    settings = load_settings(home=tmp_path, start_month="2022-01", end_month="")
    for month in ("2022-01", "2999-01"):
        file = Path(settings.landing_uri, "admissions", f"{month}.csv")
        file.parent.mkdir(parents=True, exist_ok=True)
        file.write_text("encounter_id")
        os.utime(file, (1e9, 1e9))
    repository = build_definitions(settings).get_repository_def()
    with open_instance(settings) as instance:
        context = dg.build_sensor_context(instance=instance, repository_def=repository)
        tick = repository.get_sensor_def("new_landing_files").evaluate_tick(context)
    assert [request.partition_key for request in tick.run_requests] == ["2022-01-01"]


def run_of(instance, *keys, first="2022-01-01", last="2022-03-01", status=dg.DagsterRunStatus.STARTED):
    tags = {"dagster/asset_partition_range_start": first, "dagster/asset_partition_range_end": last}
    run = dg.DagsterRun(
        job_name="any", run_id=None, tags=tags, status=status, asset_selection={dg.AssetKey(key) for key in keys}
    )
    instance.add_run(run)


@pytest.mark.parametrize(
    ("run", "asked"),
    [
        ({}, False),
        ({"first": "2022-02-01"}, True),
        ({"status": dg.DagsterRunStatus.NOT_STARTED}, False),
        ({"status": dg.DagsterRunStatus.FAILURE}, True),
        ({"status": dg.DagsterRunStatus.SUCCESS}, True),
    ],
    ids=["under way", "other months", "not started", "failed", "done"],
)
def test_what_a_run_under_way_is_making_is_not_asked_for(instance, run, asked):
    run_of(instance, ["gold", "labels"], **run)
    now = time.time()
    found = requests(
        [Due(Stage.LABELS, JAN, "7")], instance, graph(), now=now, trigger="x", busy=under_way(instance, now)
    )
    assert bool(list(found)) is asked


def test_a_run_that_makes_something_else_or_was_left_behind_is_not_waited_for(instance):
    run_of(instance, ["gold", "features"])
    now = time.time()
    item = Due(Stage.LABELS, JAN, "7")
    assert list(requests([item], instance, graph(), now=now, trigger="x", busy=under_way(instance, now)))
    run_of(instance, ["gold", "labels"])
    assert not list(requests([item], instance, graph(), now=now, trigger="x", busy=under_way(instance, now)))
    later = now + LONGEST_RUN_SECONDS + 60
    assert list(requests([item], instance, graph(), now=later, trigger="x", busy=under_way(instance, later)))
