from __future__ import annotations

import json
import re
from pathlib import Path
from typing import Any

import pytest

from health_pipeline.modeling.tables import PREDICTIONS
from health_pipeline.monitoring import DRIFT, PERFORMANCE, decisions, draw_month, drift_months, performance_months
from health_pipeline.monitoring.drift_charts import SHOWN_FEATURES, drift_heat_map
from health_pipeline.monitoring.performance_charts import estimated_and_realised, trajectories
from health_pipeline.months import MonthRange, parse_month, shift
from health_pipeline.promotion.tables import CHAMPION
from health_pipeline_tests.monitoring.conftest import MONTHS, Hospital, hospital, rewrite
from health_pipeline_tests.monitoring.hospital import champion_rows

NOVEMBER = parse_month("2021-11")
FIGURES = {
    "trajectories",
    "estimated_and_realised",
    "calibration",
    "drift_heat_map",
    "subgroups",
    "volume",
    "decisions",
}


@pytest.fixture(scope="module")
def monitored(tmp_path_factory: pytest.TempPathFactory, module_features: None) -> Hospital:
    found = hospital(tmp_path_factory.mktemp("figures"))
    settings, warehouse = found.settings, found.warehouse
    warehouse.replace(DRIFT, MONTHS, drift_months(warehouse, **found.inputs, months=MONTHS, settings=settings))
    table = performance_months(warehouse, **found.outcomes, months=MONTHS, settings=settings)
    warehouse.replace(PERFORMANCE, MONTHS, table)
    return found


@pytest.fixture(scope="module")
def drawn(monitored: Hospital) -> list[Path]:
    return draw_month(monitored.warehouse, NOVEMBER, monitored.settings)


def test_dashboard_and_pictures_are_written(monitored: Hospital, drawn: list[Path]) -> None:
    folder = monitored.settings.home / "outputs" / "visuals" / "2021-11"
    assert drawn[0].name == "dashboard.html"
    assert {path.stem for path in drawn[1:]} == FIGURES
    for path in drawn:
        assert path.parent == folder
        assert path.stat().st_size > 5_000
    assert all(path.read_bytes().startswith(b"\x89PNG") for path in drawn[1:])


def figures_of(page: str) -> dict[str, Any]:
    found: dict[str, Any] = json.loads(re.search(r"const figures = (\{.*\});\n", page)[1].replace("<\\/", "</"))  # type: ignore[index]
    return found


def test_the_page_needs_no_network_and_holds_plotly_once(drawn: list[Path]) -> None:
    page = drawn[0].read_text("utf-8")
    assert page.count("plotly.js v") == 1
    assert not re.search(r"<(script|link|img|iframe)[^>]+(src|href)=", page)
    assert "prefers-color-scheme: dark" in page
    assert 'name="viewport"' in page
    assert set(figures_of(page)) == FIGURES
    for name in FIGURES:
        assert f'id="{name}"' in page


def test_no_patient_is_in_the_figures(monitored: Hospital, drawn: list[Path]) -> None:
    page = drawn[0].read_text("utf-8").split("const figures", 1)[1]
    with monitored.warehouse.read("test") as connection:
        ids = connection.execute(f"SELECT DISTINCT encounter_id, patient_key FROM {monitored.predictions}").fetchall()
    assert not any(encounter in page or patient in page for encounter, patient in ids)


def test_the_page_is_the_same_each_time_and_stale_pictures_go(monitored: Hospital, drawn: list[Path]) -> None:
    before = drawn[0].read_bytes()
    stale = drawn[0].with_name("volume.png")
    stale.write_bytes(b"older numbers")
    quick = monitored.settings.monitoring.model_copy(update={"png": "off"})
    again = draw_month(monitored.warehouse, NOVEMBER, monitored.settings.model_copy(update={"monitoring": quick}))
    assert [path.name for path in again] == ["dashboard.html"]
    assert again[0].read_bytes() == before
    assert not list(drawn[0].parent.glob("*.png"))


def test_a_month_without_anything_still_has_a_page(tmp_path: Path) -> None:
    found = hospital(tmp_path, rows=20)
    page = draw_month(found.warehouse, NOVEMBER, found.settings, png=False)[0].read_text("utf-8")
    assert "no data" in page


def realised(month: str, value: float | None = 0.75, **changed: object) -> dict[str, object]:
    return {
        "month": parse_month(month),
        "model_role": "champion",
        "kind": "realised",
        "window_months": 3,
        "segment": "all",
        "metric": "roc_auc",
        "value": value,
        "ci_low": None if value is None else value - 0.05,
        "ci_high": None if value is None else value + 0.05,
        "n": 900,
        "threshold": None if value is None else 0.7,
        "status": "no_data" if value is None else "ok",
    } | changed


def test_nothing_is_drawn_across_a_month_without_a_number() -> None:
    known = ["2021-01", "2021-02", "2021-05", "2021-06"]
    rows = [realised(month) for month in known]
    rows[2:2] = [realised("2021-03", None)]  # nothing at all is known of April
    apart = {tuple(map(parse_month, known[:2])), tuple(map(parse_month, known[2:]))}
    figures = [
        trajectories(rows, 3),
        estimated_and_realised([row | {"window_months": 1} for row in rows]),
    ]
    for figure in figures:
        assert {tuple(dict.fromkeys(sorted(trace.x))) for trace in figure.data} == apart
        assert all(trace.mode == "lines" for trace in figure.data if trace.fill or trace.name == "warning limit")
        named = [trace.name for trace in figure.data if trace.showlegend]
        assert sorted(named) == sorted(set(named)), "one entry of the legend for all parts of a line"


def test_groups_are_shown_over_the_widest_window_that_has_them(monitored: Hospital) -> None:
    month = parse_month("2021-09")
    with monitored.warehouse.read("test") as connection:
        windows = dict(
            connection.execute(
                f"SELECT window_months, bool_or(segment <> 'all') FROM {PERFORMANCE.qualified} WHERE kind = 'realised' "
                f"AND value IS NOT NULL AND month = DATE '{month}' GROUP BY ALL"
            ).fetchall()
        )
    assert windows == {1: False, 3: True, 6: False}, "a year has not been scored yet"
    page = draw_month(monitored.warehouse, month, monitored.settings, png=False)[0].read_text("utf-8")
    assert "3 months pooled" in page
    assert re.search(r"sex female \(n \d+\)", page)


def test_a_model_that_is_sure_of_everything_still_has_a_page(tmp_path: Path) -> None:
    found = hospital(tmp_path, rows=50)
    one = MonthRange(NOVEMBER, NOVEMBER)
    sure = f"SELECT * REPLACE (1.0 AS probability) FROM {found.predictions.only(one)}"
    rewrite(found, PREDICTIONS, one, sure)
    table = performance_months(found.warehouse, **found.outcomes, months=one, settings=found.settings)
    found.warehouse.replace(PERFORMANCE, one, table)
    page = draw_month(found.warehouse, NOVEMBER, found.settings, png=False)[0].read_text("utf-8")
    assert '<span>estimated AUROC</span><b class="no_data">no data</b>' in page


def drifted(month: str, subject: str, metric: str, value: float | None, status: str) -> dict[str, object]:
    return {
        "month": parse_month(month),
        "subject_kind": "feature",
        "reference": "training_window",
        "subject": subject,
        "metric": metric,
        "value": value,
        "threshold": 0.05,
        "status": status,
    }


def test_every_feature_that_alarms_is_on_the_heat_map() -> None:
    months = ("2021-10", "2021-11")
    rows = [
        drifted(month, f"quiet_{i:02d}", "psi", 0.01 + i / 1000, "ok")
        for month in months
        for i in range(SHOWN_FEATURES)
    ]
    rows += [drifted(month, name, "psi", 0.001, "ok") for month in months for name in ("lost", "lost_before")]
    rows += [drifted(months[1], "lost", "null_rate_change", 0.3, "alarm")]
    rows += [drifted(months[0], "lost_before", "null_rate_change", 0.3, "alarm")]
    rows += [drifted(months[1], "gone", "psi", None, "no_data")]
    rows += [drifted(months[1], "gone", "null_rate_change", 1.0, "alarm")]
    (figure,) = drift_heat_map(rows).data
    assert len(figure.y) == SHOWN_FEATURES
    marks = {
        (name, month): mark
        for name, row in zip(figure.y, figure.text, strict=True)
        for month, mark in zip(figure.x, row, strict=True)
    }
    assert {cell for cell, mark in marks.items() if mark == "✖"} == {
        ("lost", months[1]),
        ("gone", months[1]),
        ("lost_before", months[0]),
    }
    assert list(figure.y[-3:]) == ["lost_before", "gone", "lost"]
    assert figure.y[-4] == f"quiet_{SHOWN_FEATURES - 1}"


def test_no_axes_are_drawn_before_a_window_has_matured(monitored: Hospital) -> None:
    first = monitored.predictions.months.first
    two = MonthRange(first, shift(first, 1))
    table = performance_months(monitored.warehouse, **monitored.outcomes, months=two, settings=monitored.settings)
    monitored.warehouse.replace(PERFORMANCE, two, table)
    page = draw_month(monitored.warehouse, two.last, monitored.settings, png=False)[0].read_text("utf-8")
    monitored.warehouse.replace(PERFORMANCE, two, table.slice(0, 0))
    assert {"estimated_and_realised", "calibration"} <= figures_of(page).keys()
    assert not {"trajectories", "subgroups"} & figures_of(page).keys()


def test_a_small_number_of_discharges_is_not_on_the_page(tmp_path: Path) -> None:
    found = hospital(tmp_path, rows=50)
    one = MonthRange(NOVEMBER, NOVEMBER)
    rewrite(found, found.features.table, one, f"SELECT * FROM {found.features.only(one)} LIMIT 9")
    table = drift_months(found.warehouse, **found.inputs, months=MONTHS, settings=found.settings)
    found.warehouse.replace(DRIFT, MONTHS, table)
    page = draw_month(found.warehouse, NOVEMBER, found.settings, png=False)[0].read_text("utf-8")
    assert '<span>discharges</span><b class="ok">&lt;11</b>' in page
    (unusual,) = [trace for trace in figures_of(page)["volume"]["data"] if trace["name"] == "unusual"]
    assert (unusual["x"][-1], unusual["y"][-1], unusual["customdata"][-1]) == ("2021-11-01", 11, "<11")


def test_the_decision_log_can_be_asked(monitored: Hospital) -> None:
    criteria = [
        {
            "criterion": "improvement",
            "value": 0.017,
            "threshold": 0.02,
            "passed": False,
            "severity": "ERROR",
            "detail": "",
            "near_miss": True,
        },
        # Each gate has a margin of its own: what the check does not call a near miss is none here either.
        {"criterion": "calibration", "value": 0.73, "threshold": 0.7, "passed": True, "near_miss": False},
        {"criterion": "better_than_lace", "value": 0.001, "threshold": 0.0, "passed": True, "near_miss": False},
    ]
    month = MONTHS.first
    one = MonthRange(month, month)
    changed = champion_rows(one, decision="DEPLOY", criteria=json.dumps(criteria), challenger_id="xgboost-b")
    monitored.warehouse.replace(CHAMPION, one, changed)
    log = decisions(monitored.warehouse, MONTHS)
    assert [item.month for item in log] == list(MONTHS)
    (deployed,) = decisions(monitored.warehouse, MONTHS, decision="DEPLOY")
    assert (deployed.failed, deployed.near_misses) == (("improvement",), ("improvement",))
    assert decisions(monitored.warehouse, MONTHS, model_id="xgboost-b") == [deployed]
    assert decisions(monitored.warehouse, MONTHS, model_id="x' OR true --") == []
