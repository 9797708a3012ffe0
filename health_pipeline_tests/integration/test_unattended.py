"""The real daemon, nobody at the keyboard: a file drop becomes extracts, matured labels, a decision, and alerts."""

import json
import time

import pytest

from health_pipeline.deployment import LocalTarget
from health_pipeline.months import MonthRange, parse_month
from health_pipeline.settings import load_settings
from health_pipeline.sources.simulator import simulate
from health_pipeline.warehouse import Warehouse
from health_pipeline_tests.integration.dagster_services import free_port, services
from health_pipeline_tests.integration.home import KEY, run

LAST = parse_month("2022-10")
ENVIRONMENT = {
    "HEALTH_PIPELINE_START_MONTH": "2022-01",
    "HEALTH_PIPELINE_END_MONTH": "2022-10",
    "HEALTH_PIPELINE_SIMULATOR__ADMISSIONS_PER_MONTH": "700",
    "HEALTH_PIPELINE_SIMULATOR__SEED": "11",
    "HEALTH_PIPELINE_WINDOWS__TRAINING_MONTHS": "3",
    "HEALTH_PIPELINE_WINDOWS__MIN_TRAINING_MONTHS": "3",
    "HEALTH_PIPELINE_WINDOWS__VALIDATION_MONTHS": "1",
    "HEALTH_PIPELINE_WINDOWS__HOLDOUT_MONTHS": "2",
    "HEALTH_PIPELINE_TRAINING__SAMPLES": "0",
    "HEALTH_PIPELINE_TRAINING__MAX_ROUNDS": "60",
    "HEALTH_PIPELINE_PRIVACY__PSEUDONYM_KEY": KEY,
}
PATIENCE_SECONDS = 1200


@pytest.fixture
def environment():
    """The champion in force is deployed meanwhile: on a port of its own."""
    return ENVIRONMENT | {"HEALTH_PIPELINE_SERVING__PORT": str(free_port())}


@pytest.fixture
def settings(tmp_path, monkeypatch, environment):
    monkeypatch.delenv("DAGSTER_HOME", raising=False)
    for name, value in environment.items():
        monkeypatch.setenv(name, value)
    loaded = load_settings(home=tmp_path / "home")
    yield loaded
    LocalTarget(loaded).stop()


def months_of(settings, table):
    with Warehouse.from_settings(settings).read(f"months of {table}") as connection:
        return {month for (month,) in connection.execute(f"SELECT DISTINCT month FROM {table}").fetchall()}


def wait_for(settings, table, month):
    """Until the table holds the month; reading waits its turn behind writers."""
    deadline = time.monotonic() + PATIENCE_SECONDS
    while time.monotonic() < deadline:
        if month in months_of(settings, table):
            return
        time.sleep(2)
    raise TimeoutError(f"{table} never got {month:%Y-%m}")


@pytest.mark.slow
def test_a_dropped_month_is_worked_off_unattended(settings, environment):
    earlier = MonthRange(settings.start_month, parse_month("2022-09"))
    simulate(earlier, settings)
    run(settings, earlier)
    assert LAST not in months_of(settings, "models.champion")
    with services(settings.home, environment):
        simulate(MonthRange(LAST, LAST), settings)
        dropped = time.monotonic()
        wait_for(settings, "gold.labels", parse_month("2022-09"))
        wait_for(settings, "models.champion", LAST)
        wait_for(settings, "monitoring.drift", LAST)
        while not decisions_told(settings):
            assert time.monotonic() < dropped + PATIENCE_SECONDS, "nobody was told of the decision"
            time.sleep(2)
    assert len(decisions_told(settings)) == 1, "told once"


def decisions_told(settings):
    alerts = settings.home / "logs" / "alerts.jsonl"
    lines = [json.loads(line) for line in alerts.read_text().splitlines()] if alerts.exists() else []
    return [line["title"] for line in lines if line["kind"] == "decision" and "2022-10" in line["title"]]
