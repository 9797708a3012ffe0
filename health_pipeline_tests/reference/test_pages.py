"""The generated pages are current, and everything that exists has its entry."""

from pathlib import Path

import pytest
from pydantic import BaseModel

from health_pipeline.cli.reference import commands, reference_pages, write_reference
from health_pipeline.defs.build import build_definitions, tables
from health_pipeline.reference import cell, setting_rows
from health_pipeline.settings import Settings, load_settings

FOLDER = Path(__file__).parent.parent.parent / "docs" / "reference"


@pytest.fixture(scope="module")
def pages():
    return reference_pages()


@pytest.mark.parametrize("name", ["settings.md", "commands.md", "assets.md"])
def test_the_stored_page_is_current(pages, name):
    assert (FOLDER / name).read_text() == pages[name], "run: make reference"


def test_a_page_that_was_changed_by_hand_is_written_again(tmp_path, pages):
    assert len(write_reference(tmp_path)) == len(pages)
    assert write_reference(tmp_path) == []
    (tmp_path / "assets.md").write_text("by hand")
    assert write_reference(tmp_path) == [tmp_path / "assets.md"]
    assert (tmp_path / "assets.md").read_text() == pages["assets.md"]


def variables(model, prefix="HEALTH_PIPELINE_"):
    for name, field in model.model_fields.items():
        if isinstance(field.annotation, type) and issubclass(field.annotation, BaseModel):
            yield from variables(field.annotation, f"{prefix}{name.upper()}__")
        else:
            yield f"{prefix}{name.upper()}"


def test_every_setting_has_an_entry_with_a_meaning(pages):
    rows = {row.variable: row for row in setting_rows()}
    assert list(rows) == sorted(rows, key=list(rows).index)
    assert set(rows) == set(variables(Settings))
    for row in rows.values():
        assert row.meaning, row.variable
        assert row.accepts, row.variable
        assert f"`{row.variable}`" in pages["settings.md"]


@pytest.mark.parametrize(
    ("variable", "default", "accepts"),
    [
        ("HEALTH_PIPELINE_START_MONTH", "`2022-01`", "month, `YYYY-MM`"),
        ("HEALTH_PIPELINE_TRAINING__SAMPLES", "empty", "integer ≥ 0, or empty"),
        ("HEALTH_PIPELINE_PRIVACY__PSEUDONYM_KEY", "empty", "text, secret, or empty"),
        ("HEALTH_PIPELINE_PROMOTION__CONFIDENCE_LEVEL", "`0.95`", "number > 0, < 1"),
        ("HEALTH_PIPELINE_WAREHOUSE__BACKEND", "`duckdb`", "`duckdb`, `encrypted`, `ducklake`"),
        ("HEALTH_PIPELINE_DEPLOYMENT__CANARY_WEIGHTS", "`[0.1, 0.5]`", "JSON list of: number ≥ 0, ≤ 1"),
    ],
)
def test_the_entry_says_what_the_setting_accepts(variable, default, accepts):
    row = {each.variable: each for each in setting_rows()}[variable]
    assert (row.default, row.accepts) == (default, accepts)


def test_every_asset_check_sensor_schedule_and_job_has_its_entry(pages):
    definitions = build_definitions(load_settings())
    graph, page = definitions.resolve_asset_graph(), pages["assets.md"]
    for key in graph.materializable_asset_keys:
        assert f"\n### {key.to_user_string()}\n" in page
    for check in graph.asset_check_keys:
        entry = page.partition(f"\n### {check.asset_key.to_user_string()}\n")[2].partition("\n### ")[0]
        assert f"\n| `{check.name}` |" in entry, check
    repository = definitions.get_repository_def()
    names = {each.name for each in (*repository.sensor_defs, *repository.schedule_defs, *repository.get_all_jobs())}
    for name in names:
        assert name.startswith("__") or f"\n| `{name}` |" in page


def test_every_column_of_every_table_has_a_meaning(pages):
    for table in tables(load_settings()):
        entry = pages["assets.md"].partition(f"\n### {table.qualified.replace('.', '/')}\n")[2].partition("\n### ")[0]
        for column in table.columns:
            line = next(line for line in entry.splitlines() if line.startswith(f"| `{column.name}` |"))
            assert line.rpartition("|")[0].rpartition("|")[2].strip(), f"{table.qualified}.{column.name}"


def test_every_command_has_its_entry_with_every_option(pages):
    found = dict(commands())
    assert {"run", "quarantine list", "rollback"} <= set(found)
    for name, command in found.items():
        entry = pages["commands.md"].partition(f"\n## health-pipeline {name}\n")[2].partition("\n## ")[0]
        assert entry
        for parameter in command.params:
            assert all(f"`{each}`" in entry for each in parameter.opts if each.startswith("--") and each != "--help")


def test_a_cell_cannot_leave_its_row():
    assert cell("a | b\n<home>/x `<kept>`") == "a \\| b &lt;home>/x `<kept>`"
