"""The pages tell the truth: what they point to exists, and every row asked for has its proof."""

import re
from pathlib import Path

import pytest

from health_pipeline.contracts import BRONZE, SILVER
from health_pipeline.contracts.silver import silver_query
from health_pipeline.deployment import STEPS
from health_pipeline.settings import load_settings
from health_pipeline.sources.landing import bronze_query
from health_pipeline.warehouse import Slice, Warehouse

ROOT = Path(__file__).parent.parent
PAGES = [ROOT / "README.md", ROOT / "CONTRIBUTING.md", *sorted((ROOT / "docs").rglob("*.md"))]
ROWS = [f"S{n}" for n in range(1, 7)] + [f"A{n}" for n in range(1, 17)] + [f"B{n}" for n in range(1, 22)]


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.relative_to(ROOT).as_posix())
def test_every_relative_link_leads_somewhere(page):
    for target in re.findall(r"\]\(([^)#\s]+)", page.read_text()):
        if "://" not in target and not target.startswith("mailto:"):
            assert (page.parent / target).exists(), f"{page.name}: {target}"


def test_every_requirement_has_its_row_once():
    found = re.findall(r"^\| ([SAB]\d+) \|", (ROOT / "docs" / "requirements.md").read_text(), re.MULTILINE)
    assert found == ROWS


def test_every_proof_that_is_named_exists():
    text = (ROOT / "docs" / "requirements.md").read_text()
    named = re.findall(r"T:`([^`]+)`", text)
    assert len(named) > 30
    for path in named:
        assert (ROOT / "health_pipeline_tests" / path).exists(), path


def test_no_page_names_a_machine_path():
    for page in PAGES:
        assert not re.search(r"(?<![\w.~-])/(work|root|home)/", page.read_text()), page.name


def test_every_page_stands_in_the_navigation_and_in_the_readme():
    navigation = (ROOT / "mkdocs.yml").read_text()
    readme = (ROOT / "README.md").read_text()
    for page in (ROOT / "docs").rglob("*.md"):
        path = page.relative_to(ROOT / "docs").as_posix()
        assert f"- {path}\n" in navigation, path
        assert f"(docs/{path})" in readme or path == "index.md", path


def test_every_check_that_a_runbook_names_exists():
    known = set(re.findall(r"^\| `(\w+)` \|", (ROOT / "docs" / "reference" / "assets.md").read_text(), re.MULTILINE))
    named = re.findall(
        r"^\| ((?:`\w+`(?:, )?)+)(?: \(WARN\))? \|", (ROOT / "docs/operations/incidents.md").read_text(), re.MULTILINE
    )
    names = {name for cell in named for name in re.findall(r"`(\w+)`", cell)}
    errors = {"LandingError", "SourceError", "LockTimeoutError", "WarehouseError", "ModelError", "SettingsError"}
    assert len(names & known) > 25
    assert names - set(STEPS) - errors <= known


def test_the_file_shown_in_the_quick_start_is_taken_as_it_stands(tmp_path):
    text = (ROOT / "docs" / "quickstart.md").read_text()
    shown = next(block for block in re.findall(r"```text\n(.*?)```", text, re.DOTALL) if "encounter_id" in block)
    file = tmp_path / "landing" / "admissions" / "2023-01.csv"
    file.parent.mkdir(parents=True)
    file.write_text(shown)
    settings = load_settings(home=tmp_path, start_month="2023-01", end_month="2023-01")
    warehouse, months = Warehouse.from_settings(settings), settings.months
    warehouse.replace(BRONZE["admissions"], months, bronze_query("admissions", months, settings))
    bronze = Slice(BRONZE["admissions"], months)
    warehouse.replace(SILVER["admissions"], months, silver_query("admissions", bronze, settings))
    assert len(warehouse.fetch("FROM silver.admissions", "quick start")) == shown.count("\n") - 1
