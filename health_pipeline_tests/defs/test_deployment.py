"""The deployment graph on a real home: sensor, gates, run, failure, rollback."""

from __future__ import annotations

import datetime as dt
import json
import warnings

import dagster as dg
import duckdb
import pytest

from health_pipeline.clock import system_clock
from health_pipeline.defs.build import build_definitions
from health_pipeline.defs.checks import asset_checks
from health_pipeline.defs.deployment import DeploymentOptions, build_jobs
from health_pipeline.defs.deployment_sensor import build_sensor
from health_pipeline.defs.instance import open_instance
from health_pipeline.defs.partitions import Partitions
from health_pipeline.deployment import STEPS, LocalTarget, history_of, tools_of
from health_pipeline.deployment.monthly import plan_of
from health_pipeline.deployment.skips import skip_rows
from health_pipeline.errors import DeploymentError
from health_pipeline.months import MonthRange, parse_month
from health_pipeline.promotion import CHAMPION, CHECKS
from health_pipeline.warehouse import Warehouse
from health_pipeline_tests.deployment.conftest import free_port
from health_pipeline_tests.promotion.history import FAMILIES, candidate_row, history, run, settings_in, write_candidates
from health_pipeline_tests.serving.bundles import linear_bundle

QUICK = {
    "canary_weights": (0.5,),
    "canary_seconds": 0.1,
    "health_seconds": 0.2,
    "health_interval_seconds": 0.05,
    "start_timeout_seconds": 60,
}


@pytest.fixture(scope="module")
def home(tmp_path_factory):
    """Decisions of 2022-07 (INITIAL), 2022-08 (SKIP) and 2022-09 (DEPLOY), with real bundles behind the candidates."""
    settings = _settings(tmp_path_factory.mktemp("home"), free_port())
    warehouse = Warehouse.from_settings(settings)
    history(warehouse)
    for family, seen, first in ((FAMILIES[0], "0", 7), (FAMILIES[1], "012", 9)):
        rows = []
        for month in (dt.date(2022, number, 1) for number in range(first, 10)):
            bundle = linear_bundle(0.01 * month.month)
            folder = settings.home / "models" / family / f"{month:%Y-%m}"
            digest = bundle.save(folder)
            where = str(folder.relative_to(settings.home))
            rows.append(candidate_row(month, family, seen=seen, artefact_path=where, artefact_hash=digest))
        write_candidates(warehouse, family, rows)
    run(warehouse, settings, "2022-07", "2022-09")
    with duckdb.connect(settings.warehouse_path) as connection:
        connection.execute("DROP TABLE gold.features")  # columns of that history, not the catalogue's
    yield settings
    LocalTarget(settings).stop()


def _settings(home, port):
    base = settings_in(home, max_days_since_update=62)
    return base.model_copy(
        update={
            "serving": base.serving.model_copy(update={"port": port}),
            "deployment": base.deployment.model_copy(update=QUICK),
            "automation": False,
        }
    )


def options(**values):
    return DeploymentOptions(**values).options({})


@pytest.fixture
def instance(home, monkeypatch):
    monkeypatch.delenv("DAGSTER_HOME", raising=False)
    with open_instance(home) as opened:
        yield opened


def sensor(settings):
    partitions = Partitions.of(settings)
    jobs = build_jobs(settings, system_clock)
    return build_sensor(settings, partitions, system_clock, jobs, dg.DefaultSensorStatus.STOPPED)


@pytest.fixture(scope="module")
def defs(home):
    return build_definitions(home)


def look(defs, instance, cursor=None):
    return dg.build_sensor_context(instance=instance, cursor=cursor, definitions=defs)


def decide_in_dagster(settings, instance, month, *, checks=CHECKS):
    """A run of the champion asset with its gates; the row is in the warehouse already."""
    partitions = Partitions.of(settings)

    @dg.asset(key=["models", "champion"], partitions_def=partitions.models)
    def champion() -> None: ...

    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        bound = asset_checks(checks, {champion.key: partitions.models}, settings)
        defs = dg.Definitions(assets=[champion], asset_checks=bound, executor=dg.in_process_executor)
        job = defs.resolve_implicit_global_asset_job_def()
    return job.execute_in_process(instance=instance, partition_key=month, raise_on_error=False)


def test_the_sensor_waits_for_gates_then_deploys_or_reports(home, instance, defs):
    tick = sensor(home)
    assert "no champion" in tick.evaluate_tick(look(defs, instance)).skip_message

    decide_in_dagster(home, instance, "2022-07-01", checks=CHECKS[:2])
    waiting = tick.evaluate_tick(look(defs, instance))
    assert "gates not judged yet" in waiting.skip_message

    assert decide_in_dagster(home, instance, "2022-07-01").success
    asked = tick.evaluate_tick(look(defs, instance))
    (request,) = asked.run_requests
    assert (request.job_name, request.partition_key) == ("deploy", "2022-07-01")

    decide_in_dagster(home, instance, "2022-08-01")
    both = tick.evaluate_tick(look(defs, instance, asked.cursor))
    assert sorted((one.job_name, one.partition_key) for one in both.run_requests) == [
        ("deploy", "2022-07-01"),  # nothing has deployed it yet
        ("report_skip", "2022-08-01"),
    ]


def test_a_failed_gate_keeps_a_promoted_model_from_deployment(home, instance, defs):
    warehouse = Warehouse.from_settings(home)
    with warehouse.read("champion") as connection:
        rows = connection.execute(
            f"SELECT * FROM {CHAMPION.qualified} WHERE month = DATE '2022-09-01'"
        ).to_arrow_table()
    index = rows.schema.get_field_index("challenger_id")
    forged = rows.set_column(index, rows.schema.field(index), [["another-model"]])
    warehouse.replace(CHAMPION, MonthRange.of("2022-09"), forged)
    decide_in_dagster(home, instance, "2022-09-01")
    asked = sensor(home).evaluate_tick(look(defs, instance))
    assert [(one.job_name, one.partition_key) for one in asked.run_requests] == [("report_skip", "2022-09-01")]
    warehouse.replace(CHAMPION, MonthRange.of("2022-09"), rows)


def test_who_is_admitted(home):
    warehouse = Warehouse.from_settings(home)

    def plan(month, **values):
        return plan_of(warehouse, parse_month(month), home, options(**values))

    assert plan("2022-07").decision == "INITIAL"
    assert plan("2022-07").model_id == "logistic_regression@202207:0"
    assert "SKIP for 2022-08" in plan("2022-08").reason
    assert plan("2022-09").model_id == "xgboost@202209:012"
    assert plan("2022-09").gain > 0.02
    assert "improvement" in plan("2022-09", improvement_threshold=0.5).reason
    forced = plan("2022-08", force_deployment=True, actor="Dr. No", force_reason="pilot ward")
    assert forced.model_id == "logistic_regression@202208:0"
    with pytest.raises(DeploymentError, match="who orders it and why"):
        plan("2022-08", force_deployment=True)
    assert "no promotion decision" in plan("2022-11").reason


def test_the_skip_report_says_why_and_what_next(home):
    months = MonthRange.of("2022-07", "2022-09")
    rows = skip_rows(Warehouse.from_settings(home), months, [])
    assert [row["is_skipped"] for row in rows] == [False, True, False]
    report = rows[1]["report"]
    assert report.startswith("# 2022-08: not deployed")
    assert "| improvement |" in report
    assert "Next training worth its while: 2022-09-01" in report
    assert json.loads(rows[1]["recommendations"])


@pytest.mark.slow
def test_from_a_decision_to_traffic_and_back(home, instance, defs):
    def execute(job, month, **config):
        return defs.resolve_job_def(job).execute_in_process(
            instance=instance, partition_key=month, run_config=config or None, raise_on_error=False
        )

    result = execute("deploy", "2022-07-01")
    assert result.success
    tools = tools_of(home)
    assert tools.target.serving().model_id == tools.registry.holder("champion") == "logistic_regression@202207:0"

    # Gates failed: asked for all the same, nothing is deployed and the old version serves.
    assert execute("deploy", "2022-08-01").success
    assert execute("report_skip", "2022-08-01").success
    assert tools.target.serving().model_id == "logistic_regression@202207:0"

    assert execute("deploy", "2022-09-01").success
    assert tools.target.serving().model_id == tools.registry.holder("champion") == "xgboost@202209:012"
    warehouse = Warehouse.from_settings(home)
    with warehouse.read("steps") as connection:
        outcomes = {
            step: [
                row[0] for row in connection.execute(f"SELECT outcome FROM deployment.{step} ORDER BY month").fetchall()
            ]
            for step in STEPS
        }
        mirrored = connection.execute("SELECT count(*) FROM deployment.history").fetchone()[0]
    assert outcomes["promotion"] == ["pass", "skipped", "pass"]
    assert mirrored == len(history_of(home).events())

    back = defs.resolve_job_def("rollback").execute_in_process(
        instance=instance, run_config={"ops": {"roll_back": {"config": {"actor": "me", "reason": "ward complains"}}}}
    )
    assert back.success
    assert tools.target.serving().model_id == tools.registry.holder("champion") == "logistic_regression@202207:0"
    assert tools.history.verify() == []

    # A step that fails blocks what follows, and its run is red.
    forced = {"actor": "me", "force_deployment": True, "force_reason": "try", "improvement_threshold": 0.0}
    damaged = home.home / "models" / FAMILIES[0] / "2022-08" / "bundle.json"
    damaged.write_text("{}")
    failed = execute("deploy", "2022-08-01", resources={"deployment_options": {"config": forced}})
    assert not failed.success
    started = {event.step_key for event in failed.all_events if event.is_step_start}
    assert "deployment__registered_model" in started
    assert "deployment__api_image" not in started
    assert tools.target.serving().model_id == "logistic_regression@202207:0"
