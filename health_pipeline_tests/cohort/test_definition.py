"""The definition file: what it says is what is applied, and a rule that cannot be read is named."""

from __future__ import annotations

from pathlib import Path

import pytest

from health_pipeline.cohort.definition import built_in_definitions, load_definition, parse_definition
from health_pipeline.errors import SettingsError

MINIMAL = """
name = "mine"
version = "1"
title = "Mine"
[index]
min_age_years = 21
[outcome]
window_days = 7
"""


def test_built_in_definitions_can_be_read() -> None:
    for name in built_in_definitions():
        assert load_definition(name).name == name


def test_a_file_by_path(tmp_path: Path) -> None:
    file = tmp_path / "mine.toml"
    file.write_text(MINIMAL, encoding="utf-8")
    definition = load_definition(str(file))
    assert (definition.index.min_age_years, definition.outcome.window_days) == (21, 7)


def test_every_change_of_a_rule_changes_the_version() -> None:
    before = parse_definition(MINIMAL, "test").cohort_version
    assert before.startswith("mine-1-")
    assert parse_definition(MINIMAL.replace("21", "22"), "test").cohort_version != before
    assert parse_definition(MINIMAL.replace('"Mine"', '"Yours"'), "test").cohort_version == before


@pytest.mark.parametrize(
    ("change", "said"),
    [
        (("window_days = 7", "window_days = 31"), "outcome.window_days"),  # labels mature after one month
        (("window_days = 7", "windowdays = 7"), "outcome.windowdays"),
        (("min_age_years = 21", "principal_diagnoses = ['i50.9']"), "index.principal_diagnoses"),
        (
            (
                "[outcome]",
                "[[index.exclusions]]\nreason = 'x'\ncolumn = 'encounter_id'\nvalues = ['1']\nbecause = ''\n[outcome]",
            ),
            "index.exclusions.0.column",
        ),
        (
            (
                "[outcome]",
                "[[index.exclusions]]\nreason = 'x'\ncolumn = 'payer'\nvalues = ['1']\nbecause = ''\n" * 2
                + "[outcome]",
            ),
            "its own reason",
        ),
        (("[index]", "[index"), "not TOML"),
    ],
)
def test_a_rule_that_cannot_be_read_is_named(change: tuple[str, str], said: str) -> None:
    with pytest.raises(SettingsError, match=said):
        parse_definition(MINIMAL.replace(*change), "mine.toml")


def test_an_unknown_definition_is_an_error_that_names_the_known_ones() -> None:
    with pytest.raises(SettingsError, match="cms_30_day"):
        load_definition("cms_90_day")
