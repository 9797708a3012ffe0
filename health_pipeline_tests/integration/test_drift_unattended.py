"""Drift, unattended: the real daemon, drifted months dropped into the landing zone, and nobody at the keyboard.

The laboratory changes the unit of urea nitrogen and does not say so: what the simulator's script plays in month 28,
here put into an extract by hand, so that a small hospital without much history shows it.
"""

from __future__ import annotations

import shutil
import time

import dagster as dg
import duckdb
import pytest

from health_pipeline.contracts import LANDING_TABLES
from health_pipeline.defs.instance import open_instance
from health_pipeline.defs.requests import REASON_TAG, TRIGGER_TAG
from health_pipeline.defs.state import records_of
from health_pipeline.deployment import LocalTarget, history_of
from health_pipeline.months import MonthRange, month_key, parse_month
from health_pipeline.settings import load_settings
from health_pipeline.sources.simulator import simulate
from health_pipeline_tests.integration.dagster_services import services
from health_pipeline_tests.integration.home import run, small_settings, unattended_environment
from health_pipeline_tests.notify.receivers import webhook

MONTHS = MonthRange.of("2022-01", "2023-01")
NOVEMBER, DECEMBER, JANUARY = (parse_month(month) for month in ("2022-11", "2022-12", "2023-01"))
PATIENCE_SECONDS = 900
UREA = "LOINC//3094-0"


@pytest.fixture
def home(tmp_path, monkeypatch):
    """Settings of the home, as the services see them, and of the place where the extracts wait."""
    monkeypatch.delenv("DAGSTER_HOME", raising=False)
    waiting = small_settings(tmp_path / "extracts", MONTHS)
    simulate(MONTHS, waiting)
    environment = unattended_environment(tmp_path / "home", MONTHS, health_seconds=2)
    for name, value in environment.items():
        monkeypatch.setenv(name, value)
    settings = load_settings()
    yield settings, waiting, environment
    LocalTarget(settings).stop()


def drop(waiting, settings, month, *, drifted=False):
    """The extracts of a month appear in the landing zone; drifted: urea comes in another unit than it says."""
    for table in LANDING_TABLES:
        name = f"{table}/{month:%Y-%m}.parquet"
        source, target = waiting.home / "landing" / name, settings.home / "landing" / name
        target.parent.mkdir(parents=True, exist_ok=True)
        draft = target.with_name(f".{target.name}")
        if drifted and table == "clinical_events":
            with duckdb.connect() as connection:
                connection.execute(
                    "COPY (SELECT * REPLACE (CASE WHEN starts_with(code, $code) "
                    "THEN coalesce(round(try_cast(numeric_value AS DOUBLE) * 0.357, 1)::VARCHAR, numeric_value) "
                    f"ELSE numeric_value END AS numeric_value) FROM '{source}') TO '{draft}' (FORMAT parquet)",
                    {"code": UREA},
                )
        else:
            shutil.copy(source, draft)
        draft.rename(target)


def until(what, condition):
    deadline = time.monotonic() + PATIENCE_SECONDS
    while time.monotonic() < deadline:
        if found := condition():
            return found
        time.sleep(1)
    raise TimeoutError(what)


def drift_runs(instance):
    return instance.get_runs(dg.RunsFilter(tags={TRIGGER_TAG: "drift"}))


def ended(settings, month):
    """How the month's decision came to its end in production: the promotion or the skip."""
    return [
        event
        for event in history_of(settings).events()
        if event.month == month_key(month)
        and (event.step, event.outcome) in {("promotion", "pass"), ("skip", "skipped")}
    ]


@pytest.mark.slow
def test_drifted_months_are_told_and_answered_by_a_retrain_without_anybody(home):
    settings, waiting, environment = home
    for month in MonthRange.of("2022-01", "2022-10"):
        drop(waiting, settings, month)
    run(settings, MonthRange.of("2022-01", "2022-10"))
    with webhook() as hook, open_instance(settings) as instance:

        def told(*words):
            return [item for item in hook.received if all(word in item["title"] + item["message"] for word in words)]

        with services(settings.home, environment | {"HEALTH_PIPELINE_NOTIFY__URLS": f'["{hook.url}"]'}):
            drop(waiting, settings, NOVEMBER, drifted=True)
            until(
                "an alert about drifted urea",
                lambda: told("Check failed: features_resemble_training", "2022-11", "urea"),
            )
            until("the decision of November", lambda: told("(2022-11)", "for 2022-11"))
            assert not drift_runs(instance), "one month of three is not enough"

            drop(waiting, settings, DECEMBER, drifted=True)
            until("the request of a retrain", lambda: told("Retrain requested (2022-12)", "2 of the last 3", "urea"))
            until("the champion of January", lambda: JANUARY in records_of(instance, "models.champion"))
            until("the decision of January", lambda: told("(2023-01)", "for 2023-01"))
            (retrain,) = drift_runs(instance)
            assert retrain.tags["dagster/partition"] == month_key(JANUARY), "the model that could exist by then"
            assert "drift or estimated loss in 2 of the last 3 months" in retrain.tags[REASON_TAG]
            assert {key.path[0] for key in retrain.asset_selection} == {"models"}
            until(
                "a deployment, or the report why not",
                lambda: ended(settings, JANUARY) or JANUARY in records_of(instance, "deployment.skip_report"),
            )

            models = records_of(instance, "models.champion")[JANUARY]
            drop(waiting, settings, JANUARY, drifted=True)
            until("January's drift", lambda: JANUARY in records_of(instance, "monitoring.drift"))
            assert records_of(instance, "models.champion")[JANUARY] == models, "trained once"
            until(
                "everybody at rest",
                lambda: not instance.get_runs(dg.RunsFilter(statuses=[dg.DagsterRunStatus.STARTED])),
            )
            assert len(drift_runs(instance)) == 1
        assert len(told("Retrain requested")) == 1
        failed = instance.get_runs(dg.RunsFilter(statuses=[dg.DagsterRunStatus.FAILURE]))
        assert [each.tags for each in failed] == []
