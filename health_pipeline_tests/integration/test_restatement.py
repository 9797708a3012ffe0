"""A month is corrected after decisions were made from it: named, run again and gone, all from the command line."""

import json
import os
import subprocess
import sys

import duckdb
import pytest

from health_pipeline.months import MonthRange
from health_pipeline_tests.integration.home import small_environment

MONTHS = MonthRange.of("2022-01", "2022-09")
QUICK = {"monitoring": {"evidently": "off", "png": "off"}, "simulator": {"admissions_per_month": 500}}
SLOW_MACHINE_SECONDS = 900


@pytest.fixture
def home(tmp_path):
    return tmp_path / "home"


def pipeline(home, *arguments):
    """Run a command as a person does; returns its output, the progress after it."""
    environment = {name: value for name, value in os.environ.items() if name != "DAGSTER_HOME"}
    done = subprocess.run(
        [sys.executable, "-m", "health_pipeline", *arguments],
        env={**environment, **small_environment(home, MONTHS, **QUICK), "COLUMNS": "200"},
        capture_output=True,
        text=True,
        timeout=SLOW_MACHINE_SECONDS,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    return done.stdout + done.stderr


def reported(home, *arguments):
    """The JSON that a command prints."""
    return json.JSONDecoder().raw_decode(pipeline(home, *arguments, "--json"))[0]


def restated(home):
    return reported(home, "restated", "list")


def alerts(home):
    found = reported(home, "status")["open_alerts"]
    return {(each["check"], each["month"]) for each in found if each["check"].endswith(":restated")}


@pytest.mark.slow
def test_a_corrected_month_is_named_with_the_decisions_it_touches_and_run_again(home):
    pipeline(home, "simulate")
    pipeline(home, "run")
    assert restated(home) == {"waiting": [], "restated": [], "commands": []}

    claims = home / "landing" / "claims" / "2022-05.parquet"
    with duckdb.connect() as connection:
        connection.execute(f"CREATE TABLE t AS SELECT * REPLACE ('7' AS payer_paid) FROM '{claims}'")
        connection.execute(f"COPY t TO '{claims}' (FORMAT parquet)")
    assert restated(home)["waiting"] == ["2022-05"]
    assert "Landed again, not read yet: 2022-05" in pipeline(home, "restated", "list")

    printed = pipeline(home, "restated", "rerun")
    assert "WARN silver/claims:restated: 2022-05" in printed
    assert "run --from 2022-06 --to 2022-09 --select gold/features" in printed
    (found,) = restated(home)["restated"]
    assert (found["table"], found["month"], found["change"]) == ("silver.claims", "2022-05", "corrected")
    assert found["months_behind"]["models.champion"] == ["2022-08", "2022-09"]
    assert not {"gold.features", "gold.labels", "gold.cohort_attrition"} & set(found["months_behind"])
    decided = {each["month"][:7]: each["decision"] for each in reported(home, "decisions")}
    assert {made["month"]: made["decision"] for made in found["decisions"]} == decided
    assert list(decided) == ["2022-08", "2022-09"]
    assert "2022-05" in found["decisions"][0]["judged_on"] + found["decisions"][0]["fitted_on"]
    assert alerts(home) == {("silver/claims:restated", "2022-05")}
    (command,) = restated(home)["commands"]
    assert "--from 2022-08 --to 2022-09" in command

    pipeline(home, *command.split()[1:])  # exactly what it printed
    assert restated(home) == {"waiting": [], "restated": [], "commands": []}
    assert alerts(home) == set()
