"""Evidently's report: what it is made of, what it must not hold, and which months get one."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from health_pipeline.monitoring import draw_evidently, draw_months, visuals
from health_pipeline.monitoring.evidently_report import OTHERS
from health_pipeline.months import MonthRange, parse_month
from health_pipeline.settings import load_settings
from health_pipeline_tests.monitoring.conftest import Hospital, hospital

NOVEMBER = parse_month("2021-11")
DRIFTED = "number_4"


def shifted(found, random):
    """From its month on: one feature moved far, one never has a value, one value is rare and one number extreme."""
    found[DRIFTED] = found[DRIFTED] + 3.0
    found["number_5"] = found["number_5"] * float("nan")
    found["category_1"][:2] = "vip"
    found["age"][:1] = 987_321.0


@pytest.fixture(scope="module")
def drifted(tmp_path_factory: pytest.TempPathFactory, module_features: None) -> Hospital:
    return hospital(tmp_path_factory.mktemp("evidently"), {parse_month("2021-10"): shifted})


@pytest.fixture(scope="module")
def report(drifted: Hospital) -> Path:
    path = draw_evidently(drifted.warehouse, NOVEMBER, drifted.settings)
    assert path is not None
    return path


def test_the_feature_that_moved_is_called_drifted_and_no_other(report: Path) -> None:
    page = report.read_text("utf-8")
    assert report == report.parents[3] / "outputs" / "visuals" / "2021-11" / "evidently.html"
    rows = verdicts(page)
    assert {name for name, called in rows.items() if called == "Detected"} == {DRIFTED}
    assert "number_5" not in rows, "a feature without values cannot be compared"
    assert {"age", "payer", "flag", "category_0"} <= set(rows)


def verdicts(page: str) -> dict[str, str]:
    """Evidently's call for each column, read from the page's own data."""
    parts = page.split('"column_name": "')[1:]
    calls = {part.split('"', 1)[0]: re.search(r'"data_drift": "([^"]+)"', part) for part in parts}
    return {name: call[1] for name, call in calls.items() if call}


def test_the_page_needs_no_network(report: Path) -> None:
    page = report.read_text("utf-8")
    assert not re.search(r"<(script|link|img|iframe)\b[^>]*\s(src|href)\s*=\s*[\"']?(https?:)?//", page)
    assert not re.search(r"(@import|url\()\s*[\"']?(https?:)?//", page)
    assert page.count("<html") == 1


def test_no_patient_is_in_the_report(drifted: Hospital, report: Path) -> None:
    page = report.read_text("utf-8")
    with drifted.warehouse.read("test") as connection:
        ids = connection.execute(f"SELECT encounter_id, patient_key FROM {drifted.features}").fetchall()
    known = set(re.findall(r"\d{6}-\d+|[0-9a-f]{32}", page))
    assert not known & {name for row in ids for name in row}
    for word in ("encounter_id", "patient_key", "discharged_at", '"vip"', "987321"):
        assert word not in page
    assert OTHERS in page


def test_the_same_rows_give_the_same_page(drifted: Hospital, report: Path) -> None:
    before = report.read_bytes()
    again = draw_evidently(drifted.warehouse, NOVEMBER, drifted.settings)
    assert again is not None
    assert again.read_bytes() == before


def test_nothing_to_compare_gives_no_page_and_removes_the_old_one(drifted: Hospital) -> None:
    month = parse_month("2020-06")  # before the first champion
    old = drifted.settings.outputs / "visuals" / "2020-06" / "evidently.html"
    old.parent.mkdir(parents=True)
    old.write_text("old")
    assert draw_evidently(drifted.warehouse, month, drifted.settings) is None
    assert not old.exists()
    thin = drifted.settings.monitoring.model_copy(update={"evidently_rows": 5})
    few = drifted.settings.model_copy(update={"monitoring": thin, "home": drifted.settings.home / "few"})
    assert draw_evidently(drifted.warehouse, NOVEMBER, few) is None


@pytest.mark.parametrize(
    ("choice", "drawn"),
    [("latest", ["2021-11"]), ("all", ["2021-10", "2021-11"]), ("off", [])],
)
def test_which_months_of_a_run_get_what_costs_seconds(
    drifted: Hospital, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, choice: str, drawn: list[str]
) -> None:
    settings = load_settings(home=tmp_path, monitoring={"png": choice, "evidently": choice})
    pictures: list[str] = []

    def draw_month(warehouse, month, settings, *, png):
        folder = settings.outputs / "visuals" / f"{month:%Y-%m}"
        folder.mkdir(parents=True, exist_ok=True)
        (folder / "dashboard.html").write_text("page")
        pictures.extend([f"{month:%Y-%m}"] if png else [])
        return [folder / "dashboard.html"]

    def draw(warehouse, month, settings):
        path = settings.outputs / "visuals" / f"{month:%Y-%m}" / "evidently.html"
        path.write_text("new")
        return path

    monkeypatch.setattr(visuals, "draw_month", draw_month)
    monkeypatch.setattr(visuals, "draw_evidently", draw)
    for month in ("2021-10", "2021-11"):
        old = tmp_path / "outputs" / "visuals" / month / "evidently.html"
        old.parent.mkdir(parents=True)
        old.write_text("old")
    files = draw_months(drifted.warehouse, MonthRange.of("2021-10", "2021-11"), settings)
    assert pictures == drawn
    left = {path.parent.name: path.read_text() for path in tmp_path.glob("outputs/visuals/*/evidently.html")}
    assert set(left.values()) <= {"new"}
    assert sorted(left) == drawn
    assert {f"{month:%Y-%m}" for month, paths in files.items() if len(paths) == 2} == set(drawn)
