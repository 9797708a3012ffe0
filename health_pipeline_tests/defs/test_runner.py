"""Which assets a selection of the command line names."""

from __future__ import annotations

import dagster as dg
import pytest

from health_pipeline.defs.build import build_definitions
from health_pipeline.defs.runner import plan_runs
from health_pipeline.months import MonthRange
from health_pipeline.settings import load_settings


@pytest.fixture(scope="module")
def definitions(tmp_path_factory):
    return build_definitions(load_settings(home=tmp_path_factory.mktemp("home")))


def named(definitions: dg.Definitions, select: str) -> set[str]:
    months = MonthRange.of("2023-06", "2023-06")
    return {key.to_user_string() for run in plan_runs(definitions, months, select) for key in run.keys}


def test_plus_stands_for_everything_it_rests_on_as_in_the_ui(definitions):
    above = named(definitions, "+gold/features")
    assert above == named(definitions, '+key:"gold/features"')
    assert {"bronze/admissions", "silver/admissions", "gold/features"} <= above
    assert "models/champion" not in above
    assert {"gold/features", "models/champion", "gold/predictions"} <= named(definitions, "gold/features+")


def test_everything_it_rests_on_has_what_its_blocking_checks_read(definitions):
    assert {"gold/cohort_attrition", "quarantine/rejected_rows"} <= named(definitions, "+gold/features")
    assert {"gold/cohort_attrition", "quarantine/rejected_rows"} <= named(definitions, "+models/champion")
    assert "quarantine/rejected_rows" in named(definitions, "+silver/claims")
    assert named(definitions, "gold/features") == {"gold/features"}


def test_layers_lists_and_groups(definitions):
    one_layer = named(definitions, "1+gold/features")
    assert "silver/admissions" in one_layer
    assert "bronze/admissions" not in one_layer
    assert named(definitions, "gold/features, gold/labels") == {"gold/features", "gold/labels"}
    assert named(definitions, "group:bronze") >= {"bronze/admissions", "bronze/claims"}
