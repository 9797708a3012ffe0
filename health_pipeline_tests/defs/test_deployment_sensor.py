"""The sensor that deploys, against decisions, runs and a history: what it asks for, how often, and when it says no."""

import datetime as dt
import json
import uuid

import dagster as dg
import pytest
from dagster._core.definitions.asset_checks.asset_check_evaluation import AssetCheckEvaluationTargetMaterializationData
from dagster._core.events import DagsterEvent, DagsterEventType

from health_pipeline.clock import frozen_clock
from health_pipeline.defs.build import build_definitions
from health_pipeline.defs.deployment import build_jobs
from health_pipeline.defs.deployment_sensor import GATES, PAUSES, build_sensor
from health_pipeline.defs.partitions import Partitions
from health_pipeline.defs.requests import PAUSES as REQUEST_PAUSES
from health_pipeline.defs.requests import REQUEST_TAG, retry_after
from health_pipeline.deployment import history_of
from health_pipeline.modeling.rows import arrow_rows
from health_pipeline.months import MonthRange, parse_month
from health_pipeline.promotion import CHAMPION
from health_pipeline.settings import load_settings
from health_pipeline.warehouse import Warehouse

KEY = dg.AssetKey(["models", "champion"])
FAILURE, SUCCESS, CANCELED = dg.DagsterRunStatus.FAILURE, dg.DagsterRunStatus.SUCCESS, dg.DagsterRunStatus.CANCELED


def at(seconds):
    return frozen_clock(dt.datetime.fromtimestamp(seconds, dt.UTC))


FAR = at(4e9)


@pytest.fixture(scope="module")
def defs(tmp_path_factory):
    return build_definitions(load_settings(home=tmp_path_factory.mktemp("home")))


@pytest.fixture
def settings(tmp_path, monkeypatch):
    monkeypatch.delenv("DAGSTER_HOME", raising=False)
    return load_settings(home=tmp_path)


@pytest.fixture
def tick(settings, instance, defs):
    def look(clock=FAR, mirrored=100):
        jobs = build_jobs(settings, clock)
        built = build_sensor(settings, Partitions.of(settings), clock, jobs, dg.DefaultSensorStatus.STOPPED)
        cursor = json.dumps({"mirrored": mirrored})
        context = dg.build_sensor_context(instance=instance, cursor=cursor, definitions=defs)
        return built.evaluate_tick(context)

    return look


def store(settings, month, decision, model):
    row = {column.name: None if column.nullable else "" for column in CHAMPION.columns}
    row |= {"month": parse_month(month), "decision": decision, "model_id": model, "holdout_rows": 0}
    Warehouse.from_settings(settings).replace(CHAMPION, MonthRange.of(month), arrow_rows(CHAMPION, [row]))


def decide(settings, instance, month, decision, model, *, gates=GATES, passed=True):
    """A decision in the warehouse, its materialisation, and the verdicts of its gates."""
    store(settings, month, decision, model)
    partition = f"{month}-01"
    instance.report_runless_asset_event(dg.AssetMaterialization(KEY, partition=partition))
    wanted = dg.AssetRecordsFilter(asset_key=KEY, asset_partitions=[partition])
    (record,) = instance.fetch_materializations(wanted, limit=1).records
    target = AssetCheckEvaluationTargetMaterializationData(
        storage_id=record.storage_id, run_id="", timestamp=record.timestamp
    )
    for name in gates:
        evaluation = dg.AssetCheckEvaluation(
            check_name=name,
            asset_key=KEY,
            passed=passed,
            severity=dg.AssetCheckSeverity.ERROR,
            metadata={"model_id": dg.MetadataValue.text(model)} if name == "decision_record" else {},
            partition=partition,
            target_materialization_data=target,
        )
        event = DagsterEvent(DagsterEventType.ASSET_CHECK_EVALUATION.value, "any", event_specific_data=evaluation)
        instance.report_dagster_event(event, run_id=str(uuid.uuid4()))


def asked(result):
    return [(each.job_name, each.partition_key and each.partition_key[:7]) for each in result.run_requests or []]


def ran(instance, result, status, job="deploy"):
    """Let what was asked for run and end; its process died, or a step failed."""
    (request,) = [each for each in result.run_requests if each.job_name == job]
    run = dg.DagsterRun(job_name=job, run_id=None, tags=dict(request.tags), status=status)
    instance.add_run(run)
    return request


def happened(settings, month, model, *steps):
    """Rows of the history: ``(step, outcome)``."""
    history = history_of(settings, FAR)
    for step, outcome in steps:
        history.append(
            month=parse_month(month), attempt="a", actor="dagster", step=step, outcome=outcome, model_id=model
        )


def alerts(settings):
    log = settings.home / "logs" / "alerts.jsonl"
    return [json.loads(line)["title"] for line in log.read_text().splitlines()] if log.exists() else []


def test_a_promoting_decision_is_deployed_and_a_skip_is_explained(settings, instance, tick):
    assert "no champion" in tick().skip_message
    decide(settings, instance, "2024-03", "INITIAL", "one")
    first = tick()
    assert asked(first) == [("deploy", "2024-03")]
    ran(instance, first, SUCCESS)
    happened(settings, "2024-03", "one", ("promotion", "pass"))
    assert "one is promoted" in tick().skip_message
    decide(settings, instance, "2024-04", "SKIP", "one")
    skipped = tick()
    assert asked(skipped) == [("report_skip", "2024-04")]
    ran(instance, skipped, SUCCESS, "report_skip")
    assert asked(tick()) == []


def test_gates_have_to_judge_and_to_pass(settings, instance, tick):
    decide(settings, instance, "2024-03", "INITIAL", "one", gates=GATES[:2])
    assert "gates not judged yet" in tick().skip_message
    decide(settings, instance, "2024-03", "INITIAL", "one", passed=False)
    assert asked(tick()) == [("report_skip", "2024-03")]


def test_a_row_that_dagster_has_not_recorded_yet_does_not_pass_by_the_gates_of_the_row_before(settings, instance, tick):
    decide(settings, instance, "2024-03", "DEPLOY", "judged")
    store(settings, "2024-03", "DEPLOY", "not judged")
    waiting = tick()
    assert asked(waiting) == []
    assert "gates not judged yet: decision_record" in waiting.skip_message
    decide(settings, instance, "2024-03", "DEPLOY", "not judged", passed=False)
    assert asked(tick()) == [("report_skip", "2024-03")]


def test_a_champion_whose_turn_was_missed_is_deployed_beside_the_report_of_the_skip_after_it(settings, instance, tick):
    """Months that land in a row are decided faster than they are deployed."""
    decide(settings, instance, "2024-03", "DEPLOY", "one")
    decide(settings, instance, "2024-04", "SKIP", "one")
    assert sorted(asked(tick())) == [("deploy", "2024-03"), ("report_skip", "2024-04")]


@pytest.mark.parametrize(
    ("status", "seconds", "again"),
    [
        (FAILURE, PAUSES[0] + 1, True),
        (FAILURE, PAUSES[0] - 1, False),
        (SUCCESS, 4e9, False),
        (CANCELED, 4e9, False),
    ],
    ids=["killed", "the pause is not over", "succeeded", "a person ended it"],
)
def test_a_deployment_whose_run_died_is_asked_for_again(settings, instance, tick, status, seconds, again):
    decide(settings, instance, "2024-03", "DEPLOY", "one")
    first = ran(instance, tick(at(0)), status)
    happened(settings, "2024-03", "one", ("registered_model", "pass"), ("api_image", "started"))
    second = tick(at(seconds))
    assert asked(second) == ([("deploy", "2024-03")] if again else [])
    if again:
        (request,) = second.run_requests
        assert request.tags[REQUEST_TAG] == first.tags[REQUEST_TAG]
        assert request.run_key != first.run_key


def test_three_deaths_are_enough_and_a_person_is_told_once_what_to_do(settings, instance, tick):
    decide(settings, instance, "2024-03", "DEPLOY", "one")
    for _ in range(3):
        ran(instance, tick(), FAILURE)
    assert asked(tick()) == []
    assert asked(tick()) == []
    assert alerts(settings) == ["Deployment given up (2024-03): one"]
    assert "launch the job `deploy`" in (settings.home / "logs" / "alerts.jsonl").read_text()


@pytest.mark.parametrize("outcome", ["fail", "inconclusive"])
@pytest.mark.parametrize("step", ["api_tests", "rollout", "verification", "health"])
def test_a_refused_model_waits_for_a_person_and_the_next_champion_does_not(settings, instance, tick, step, outcome):
    decide(settings, instance, "2024-03", "DEPLOY", "one")
    ran(instance, tick(), FAILURE)
    happened(settings, "2024-03", "one", (step, "started"), (step, outcome), ("rollback", "pass"))
    refused = tick()
    assert asked(refused) == []
    assert f"one was refused by {step}; a person decides" in refused.skip_message
    decide(settings, instance, "2024-03", "DEPLOY", "one")  # the same decision, made again
    assert asked(tick()) == []
    decide(settings, instance, "2024-04", "SKIP", "one")
    assert asked(tick()) == [("report_skip", "2024-04")]
    decide(settings, instance, "2024-05", "DEPLOY", "two")
    assert asked(tick()) == [("deploy", "2024-05")]


@pytest.mark.parametrize("step", ["registered_model", "api_image", "published_image", "promotion"])
def test_a_server_that_was_away_is_no_verdict(settings, instance, tick, step):
    decide(settings, instance, "2024-03", "DEPLOY", "one")
    ran(instance, tick(), FAILURE)
    happened(settings, "2024-03", "one", (step, "started"), (step, "fail"))
    assert asked(tick()) == [("deploy", "2024-03")]


def test_what_a_person_took_back_or_forced_stays(settings, instance, tick):
    decide(settings, instance, "2024-03", "DEPLOY", "one")
    happened(settings, "2024-03", "one", ("promotion", "pass"))
    happened(settings, "2024-02", "zero", ("rollback", "started"), ("rollback", "pass"))
    assert asked(tick()) == [], "rolled back by hand"
    decide(settings, instance, "2024-04", "DEPLOY", "two")
    decide(settings, instance, "2024-05", "SKIP", "two")
    happened(settings, "2024-05", "forced", ("promotion", "pass"))
    result = tick()
    assert asked(result) == [("report_skip", "2024-05")]


def test_a_decision_made_again_for_another_model_is_deployed(settings, instance, tick):
    decide(settings, instance, "2024-03", "DEPLOY", "one")
    ran(instance, tick(), SUCCESS)
    happened(settings, "2024-03", "one", ("promotion", "pass"))
    decide(settings, instance, "2024-03", "DEPLOY", "other")
    assert asked(tick()) == [("deploy", "2024-03")]


def test_what_was_left_half_done_is_recovered_before_anything_else(settings, instance, tick):
    decide(settings, instance, "2024-03", "DEPLOY", "one")
    ran(instance, tick(), FAILURE)
    happened(settings, "2024-03", "one", ("rollout", "started"))
    first = tick()
    assert asked(first) == [("recover_deployment", None)]
    ran(instance, first, FAILURE, "recover_deployment")
    assert "after a pause" in tick(at(29)).skip_message
    second = tick(at(31))
    assert asked(second) == [("recover_deployment", None)], "also when its own run was killed"
    ran(instance, second, FAILURE, "recover_deployment")
    assert asked(tick(at(59))) == []
    assert asked(tick(at(61))) == [("recover_deployment", None)]
    happened(settings, "2024-03", None, ("recovery", "pass"))
    assert asked(tick()) == [("deploy", "2024-03")], "and then asked for again"


def test_nothing_is_asked_for_while_a_deployment_is_under_way(settings, instance, tick):
    decide(settings, instance, "2024-03", "DEPLOY", "one")
    tags = {"health_pipeline/deployment": "true"}
    instance.add_run(dg.DagsterRun(job_name="deploy", run_id=None, tags=tags, status=dg.DagsterRunStatus.STARTED))
    assert "under way" in tick().skip_message


def test_rows_of_the_history_are_copied_until_a_copy_has_succeeded(settings, instance, tick):
    """A copy whose run died is asked for again: the rows of a deployment that failed would never reach the table."""
    happened(settings, "2024-03", "one", ("registered_model", "fail"))
    first = tick(at(0), mirrored=0)
    assert asked(first) == [("mirror_history", "2024-03")]
    ran(instance, first, FAILURE, "mirror_history")
    (failed,) = instance.get_runs()
    assert retry_after(failed, instance) == REQUEST_PAUSES[0], "what its alert says"
    assert json.loads(first.cursor) == {"mirrored": 0}
    assert asked(tick(at(REQUEST_PAUSES[0] - 1), mirrored=0)) == []
    second = tick(at(REQUEST_PAUSES[0] + 1), mirrored=0)
    assert asked(second) == [("mirror_history", "2024-03")]
    ran(instance, second, SUCCESS, "mirror_history")
    done = tick(mirrored=0)
    assert asked(done) == []
    assert json.loads(done.cursor) == {"mirrored": 1}
    happened(settings, "2024-03", "one", ("skip", "skipped"))
    assert asked(tick(mirrored=1)) == [("mirror_history", "2024-03")]
