"""A small hospital run through the whole graph in this process, for tests that look at what a run leaves behind."""

from __future__ import annotations

import json
from pathlib import Path

import duckdb

from health_pipeline.defs.build import build_definitions
from health_pipeline.defs.instance import open_instance
from health_pipeline.defs.runner import RunOutcome, execute, plan_runs
from health_pipeline.months import MonthRange
from health_pipeline.settings import Settings, load_settings
from health_pipeline.sources.simulator import simulate
from health_pipeline_tests.integration.dagster_services import free_port

MONTHS = MonthRange.of("2022-01", "2022-10")
KEY = "the same key in every home"


# A hospital that trains within seconds: short windows, default parameters, few resamples.
SMALL: dict[str, dict[str, object]] = {
    "simulator": {"admissions_per_month": 700, "seed": 11},
    "windows": {"training_months": 3, "min_training_months": 3, "validation_months": 1, "holdout_months": 2},
    "training": {"samples": 0, "max_rounds": 60, "replicates": 100, "min_rows": 200, "min_events": 10},
    "promotion": {"min_samples": 500, "bootstrap_replicates": 200},
    "privacy": {"pseudonym_key": KEY},
}


def _small(given: dict[str, object]) -> dict[str, object]:
    own: dict[str, object] = {"automation": False, **SMALL}
    return own | {
        name: {**SMALL.get(name, {}), **value} if isinstance(value, dict) else value for name, value in given.items()
    }


def small_settings(home: Path, months: MonthRange = MONTHS, **given: object) -> Settings:
    """Settings of the small hospital; what is given by name is laid over."""
    return load_settings(home=home, start_month=months.first, end_month=months.last, **_small(given))


def small_environment(home: Path, months: MonthRange = MONTHS, **given: object) -> dict[str, str]:
    """The same settings as variables, for processes of their own."""
    values = {"home": str(home), "start_month": f"{months.first:%Y-%m}", "end_month": f"{months.last:%Y-%m}"}
    return {
        f"HEALTH_PIPELINE_{name.upper()}": value if isinstance(value, str) else json.dumps(value)
        for name, value in (values | _small(given)).items()
    }


def unattended_environment(home: Path, months: MonthRange, *, health_seconds: float) -> dict[str, str]:
    """Variables of a small home that works and deploys by itself, its API on a port of its own."""
    return small_environment(
        home,
        months,
        automation=True,
        monitoring={"png": "off", "evidently": "off"},
        serving={"port": free_port()},
        deployment={"canary_seconds": 0.5, "health_seconds": health_seconds, "health_interval_seconds": 0.1},
    )


def land(settings: Settings) -> None:
    simulate(settings.months, settings)


def run(settings: Settings, months: MonthRange | None = None, select: str | None = None) -> list[RunOutcome]:
    """Run the selected assets; every run has to succeed."""
    defs = build_definitions(settings)
    outcomes = []
    with open_instance(settings) as instance:
        for planned in plan_runs(defs, months or settings.months, select):
            outcome = execute(defs, planned, instance)
            assert outcome.success, outcome.errors
            outcomes.append(outcome)
    return outcomes


def differing_rows(one: Settings, two: Settings, table: str, where: str = "true") -> tuple[int, int, int]:
    """Rows of the first home, rows only there, rows only in the second."""
    with duckdb.connect() as connection:
        connection.execute(f"ATTACH '{one.warehouse_path}' AS one (READ_ONLY)")
        connection.execute(f"ATTACH '{two.warehouse_path}' AS two (READ_ONLY)")
        sides = [f"(FROM {name}.{table} WHERE {where})" for name in ("one", "two")]
        counts = [f"FROM {sides[0]}", f"FROM {sides[0]} EXCEPT ALL FROM {sides[1]}"]
        counts.append(f"FROM {sides[1]} EXCEPT ALL FROM {sides[0]}")
        return tuple(connection.execute(f"SELECT count(*) FROM ({sql})").fetchone()[0] for sql in counts)
