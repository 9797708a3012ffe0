"""What the sensors see on a real home: landed files against what bronze was read from."""

import os
from pathlib import Path

import pytest

from health_pipeline.defs.due import Stage, due
from health_pipeline.defs.instance import open_instance
from health_pipeline.defs.state import read_state
from health_pipeline.months import MonthRange
from health_pipeline_tests.integration.home import land, run, small_settings

LATER = 4e9
EXTRACTS = "group:bronze,group:silver,gold/features,gold/cohort_attrition"
MONTHS = MonthRange.of("2022-01", "2022-02")


@pytest.fixture
def settings(tmp_path, monkeypatch):
    monkeypatch.delenv("DAGSTER_HOME", raising=False)
    made = small_settings(tmp_path, MONTHS)
    made = made.model_copy(update={"simulator": made.simulator.model_copy(update={"admissions_per_month": 60})})
    land(made)
    return made


def asked(settings):
    with open_instance(settings) as instance:
        return [
            f"{item.month:%Y-%m}" for item in due(read_state(instance, settings, LATER)) if item.stage is Stage.EXTRACTS
        ]


def test_months_are_asked_for_until_stored_and_again_when_their_files_change(settings):
    assert asked(settings) == ["2022-01", "2022-02"]
    run(settings, select="group:bronze")
    assert asked(settings) == ["2022-01", "2022-02"], "bronze alone is not the whole way"
    run(settings, select=EXTRACTS)
    assert asked(settings) == []

    claims = Path(settings.landing_uri, "claims", "2022-02.parquet")
    written_at = claims.stat().st_mtime - 3_600
    os.utime(claims, (written_at, written_at))
    assert asked(settings) == ["2022-02"], "a correction that keeps the time of its source"
    run(settings, MonthRange.of("2022-02"), EXTRACTS)
    assert asked(settings) == []

    claims.unlink()
    assert asked(settings) == ["2022-02"], "a file was withdrawn"
