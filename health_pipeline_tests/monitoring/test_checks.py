from __future__ import annotations

import datetime as dt
from pathlib import Path
from typing import Any

import pyarrow as pa
import pytest

from health_pipeline.modeling.tables import PREDICTIONS
from health_pipeline.monitoring import CHECKS, DRIFT, PERFORMANCE, MonthStatus, drift_request, month_statuses
from health_pipeline.monitoring.rows import to_table
from health_pipeline.months import Month, MonthRange, parse_month, shift
from health_pipeline.promotion import CHAMPION
from health_pipeline.settings import load_settings
from health_pipeline.verdicts import Verdict
from health_pipeline.warehouse import Table, Warehouse

MAY = parse_month("2023-05")
ONE = MonthRange(MAY, MAY)
Row = dict[str, Any]


def verdict(warehouse: Warehouse, name: str, month: Month = MAY) -> Verdict:
    (check,) = [check for check in CHECKS if check.name == name]
    (found,) = check.evaluate(warehouse, MonthRange(month, month), load_settings())
    return found


def drift_row(**values: Any) -> Row:
    row = {"month": MAY, "subject_kind": "feature", "subject": "age", "metric": "psi", "value": 0.01, "n": 500}
    return {**row, "status": "ok", "reference": "training_window", "reference_n": 6000, **values}


def performance_row(**values: Any) -> Row:
    row = {"month": MAY, "model_role": "champion", "kind": "estimated", "window_months": 1, "segment": "all"}
    return {**row, "metric": "roc_auc", "value": 0.7, "n": 500, "status": "ok", **values}


@pytest.fixture
def warehouse(tmp_path: Path) -> Warehouse:
    return Warehouse.from_settings(load_settings(home=tmp_path))


def put(warehouse: Warehouse, table: Table, *rows: Row) -> None:
    warehouse.replace(table, ONE, to_table(table, rows))


DRIFT_CASES = {
    "features_resemble_training": drift_row(),
    "scores_resemble_reference": drift_row(subject_kind="score", subject="score", reference="earlier_scores"),
    "volume_is_usual": drift_row(
        subject_kind="volume", subject="discharges", metric="change", reference="previous_year"
    ),
}
DRIFT_CASES["live_traffic_resembles_batch"] = drift_row(
    subject_kind="live", subject="agreement", metric="disagreeing_share", reference="batch"
)
PERFORMANCE_CASES = {
    "estimated_performance_holds": performance_row(),
    "realised_performance_holds": performance_row(kind="realised"),
    "estimate_matches_outcome": performance_row(kind="reconciliation"),
    "concept_holds": performance_row(kind="concept", metric="concept_change", value=0.001),
    "subgroups_hold": performance_row(kind="realised", segment="sex=female"),
}
AFTER_OUTCOMES = ["estimate_matches_outcome", "concept_holds"]
QUIET = ["live_traffic_resembles_batch", *AFTER_OUTCOMES]
"""Checks that pass without rows: before the outcome is known, and of an API that nobody asked."""
CASES = [(DRIFT, name, row) for name, row in DRIFT_CASES.items()] + [
    (PERFORMANCE, name, row) for name, row in PERFORMANCE_CASES.items()
]


@pytest.mark.parametrize(("table", "name", "row"), CASES, ids=lambda value: value if isinstance(value, str) else "")
def test_a_check_passes_warns_and_fails_with_its_rows(warehouse: Warehouse, table: Table, name: str, row: Row) -> None:
    put(warehouse, table, row)
    assert verdict(warehouse, name).passed
    put(warehouse, table, {**row, "status": "warning"})
    warned = verdict(warehouse, name)
    assert (warned.passed, warned.severity) == (False, "WARN")
    put(warehouse, table, {**row, "status": "alarm"})
    failed = verdict(warehouse, name)
    assert (failed.passed, failed.severity, failed.numbers["alarms"]) == (False, "ERROR", 1)
    assert "alarm in" in failed.summary


def test_every_check_is_covered() -> None:
    assert {check.name for check in CHECKS} == {name for _, name, _ in CASES}


@pytest.mark.parametrize("name", [check.name for check in CHECKS if check.name not in QUIET])
def test_missing_rows_never_pass(warehouse: Warehouse, name: str) -> None:
    mature(warehouse)
    found = verdict(warehouse, name)
    assert not found.passed
    assert "no " in found.summary or "not computed" in found.summary


def mature(warehouse: Warehouse) -> None:
    """Predictions two months later exist, so the outcome of May is due."""
    later = shift(MAY, 2)
    row = dict.fromkeys(PREDICTIONS.column_names)
    row |= {"month": later, "encounter_id": "e", "patient_key": "p", "model_id": "m", "model_role": "champion"}
    row |= {"probability": 0.1, "label": False, "confidence": 0.9, "inference_dt": None, "feature_hash": "0"}
    row["inference_dt"] = dt.datetime.combine(shift(later, 1), dt.time())
    warehouse.replace(PREDICTIONS, MonthRange(later, later), pa.Table.from_pylist([row]))


def test_an_open_outcome_is_not_a_failure_but_a_due_one_is(warehouse: Warehouse) -> None:
    put(warehouse, PERFORMANCE, performance_row())
    open_month = verdict(warehouse, "realised_performance_holds")
    assert not open_month.passed, "without any prediction nothing says that the month is still open"
    mature(warehouse)
    assert not verdict(warehouse, "realised_performance_holds").passed
    newest = shift(MAY, 2)
    assert verdict(warehouse, "realised_performance_holds", newest).passed
    assert "not matured" in verdict(warehouse, "realised_performance_holds", newest).summary


def test_realised_without_reconciliation_fails(warehouse: Warehouse) -> None:
    put(warehouse, PERFORMANCE, performance_row(kind="realised"))
    assert not verdict(warehouse, "estimate_matches_outcome").passed
    put(warehouse, PERFORMANCE, performance_row())
    assert verdict(warehouse, "estimate_matches_outcome").passed


def test_outcomes_without_a_test_of_the_concept_fail(warehouse: Warehouse) -> None:
    put(warehouse, PERFORMANCE, performance_row(kind="realised"))
    assert not verdict(warehouse, "concept_holds").passed
    row = performance_row(kind="concept", metric="concept_change", value=None, status="no_data")
    put(warehouse, PERFORMANCE, performance_row(kind="realised"), row)
    early = verdict(warehouse, "concept_holds")
    assert early.passed
    assert "too few" in early.summary


def test_a_changed_concept_is_named_by_its_strata(warehouse: Warehouse) -> None:
    def stratum(name: str, value: float, half: float) -> Row:
        return performance_row(
            kind="concept",
            segment=name,
            metric="log_odds_shift",
            value=value,
            ci_low=value - half,
            ci_high=value + half,
        )

    put(
        warehouse,
        PERFORMANCE,
        performance_row(kind="concept", metric="concept_change", value=0.0001, status="alarm"),
        stratum("heart_failure=yes", -0.8, 0.4),
        stratum("payer=medicare", 0.3, 0.4),
    )
    found = verdict(warehouse, "concept_holds")
    assert not found.passed
    assert "heart_failure=yes (-0.80)" in found.summary
    assert "medicare" not in found.summary
    assert month_statuses(warehouse, ONE)[0].realised == "alarm"


def test_only_no_data_rows_never_pass(warehouse: Warehouse) -> None:
    """But for the first months of a model, whose concept has no past to be compared with, and an API nobody asks."""
    put(warehouse, DRIFT, *({**row, "status": "no_data", "value": None} for row in DRIFT_CASES.values()))
    put(warehouse, PERFORMANCE, *({**row, "status": "no_data", "value": None} for row in PERFORMANCE_CASES.values()))
    assert [name for _, name, _ in CASES if verdict(warehouse, name).passed] == [
        "live_traffic_resembles_batch",
        "concept_holds",
    ]


def test_a_month_without_a_model_in_force_has_nothing_to_monitor(warehouse: Warehouse) -> None:
    def champion(model_id: str | None) -> None:
        row = {column.name: None if column.nullable else "[]" for column in CHAMPION.columns}
        row |= {"month": MAY, "model_id": model_id, "decision": "SKIP", "holdout_rows": 0}
        warehouse.replace(CHAMPION, ONE, to_table(CHAMPION, [row]))

    names = [name for _, name, _ in CASES]
    champion(None)
    assert {verdict(warehouse, name).passed for name in names} == {True}
    assert {verdict(warehouse, name).summary for name in names} == {"no model is in force: nothing to monitor"}
    champion("xgboost-2023-05")
    mature(warehouse)
    assert [name for name in names if verdict(warehouse, name).passed] == QUIET


def test_a_season_alone_does_not_fail(warehouse: Warehouse) -> None:
    put(warehouse, DRIFT, drift_row(), drift_row(reference="same_season", status="alarm"))
    assert verdict(warehouse, "features_resemble_training").passed


def status(month: Month, drift: str = "ok", estimated: str = "ok", realised: str = "no_data") -> MonthStatus:
    return MonthStatus(month, drift, estimated, realised, ("age",) if "alarm" in {drift, estimated, realised} else ())


def test_a_retrain_needs_enough_violating_months_and_the_latest() -> None:
    settings = load_settings(monitoring={"drift_months": 2, "drift_window": 3})
    months = [shift(MAY, back) for back in (-3, -2, -1, 0)]

    def request(*drifts: str) -> bool:
        statuses = [status(month, drift) for month, drift in zip(months, drifts, strict=True)]
        return drift_request(statuses, settings) is not None

    assert request("ok", "ok", "alarm", "alarm")
    assert request("ok", "alarm", "ok", "alarm")
    assert not request("ok", "alarm", "alarm", "ok"), "the latest month does not violate"
    assert not request("alarm", "ok", "ok", "alarm"), "the other one is too old"
    assert not request("ok", "ok", "ok", "alarm")
    assert not request("ok", "warning", "warning", "warning")
    assert not request("no_data", "no_data", "no_data", "no_data")
    assert drift_request([], settings) is None
    found = drift_request([status(shift(MAY, -1), "ok", "alarm"), status(MAY, "alarm")], settings)
    assert found is not None
    assert (found.month, found.violating) == (MAY, (shift(MAY, -1), MAY))
    assert "age" in found.reason


def test_a_realised_loss_asks_for_a_retrain_though_the_latest_outcome_is_open() -> None:
    settings = load_settings(monitoring={"drift_months": 2, "drift_window": 3})
    earlier, last_matured = status(shift(MAY, -2), realised="alarm"), status(shift(MAY, -1), realised="alarm")
    found = drift_request([earlier, last_matured, status(MAY)], settings)
    assert found is not None
    assert (found.month, "realised" in found.reason) == (shift(MAY, -1), True)
    recovered = status(shift(MAY, -1), realised="ok")
    assert drift_request([earlier, recovered, status(MAY)], settings) is None
    assert drift_request([status(shift(MAY, -1), realised="alarm"), status(MAY)], settings) is None


@pytest.mark.parametrize(("months_ago", "asks"), [(1, False), (2, False), (3, True), (4, True)])
def test_after_a_request_there_is_a_cool_down_of_the_window(months_ago: int, asks: bool) -> None:
    settings = load_settings(monitoring={"drift_months": 2, "drift_window": 3})
    statuses = [status(shift(MAY, back), "alarm", realised="alarm") for back in range(-3, 1)]
    assert drift_request(statuses, settings) is not None
    assert (drift_request(statuses, settings, shift(MAY, -months_ago)) is not None) is asks


def test_month_statuses_read_the_tables(warehouse: Warehouse) -> None:
    assert month_statuses(warehouse, ONE) == [MonthStatus(MAY, "no_data", "no_data", "no_data")]
    put(
        warehouse,
        DRIFT,
        drift_row(status="alarm"),
        drift_row(subject="sex", status="alarm", reference="same_season"),
        drift_row(
            subject_kind="summary", subject="month", metric="subjects_in_alarm", status="alarm", reference="none"
        ),
    )
    put(
        warehouse,
        PERFORMANCE,
        performance_row(),
        performance_row(kind="realised", metric="calibration_slope", status="alarm"),
        performance_row(kind="realised", segment="sex=female", status="alarm"),
    )
    (found,) = month_statuses(warehouse, ONE)
    assert found == MonthStatus(MAY, "alarm", "ok", "alarm", ("age", "calibration_slope"))
    assert (found.performance, found.violates) == ("alarm", True)
    assert not MonthStatus(MAY, "warning", "no_data").violates
    assert MonthStatus(MAY, "ok", "warning").performance == "warning"
