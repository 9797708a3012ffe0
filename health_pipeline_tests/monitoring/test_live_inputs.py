"""Inputs of live traffic against the batch: equal inputs are fine, other inputs alarm by name, and silence is told."""

from __future__ import annotations

import math
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from health_pipeline.monitoring import CHECKS, DRIFT, drift_months, month_statuses
from health_pipeline.months import MonthRange, parse_month
from health_pipeline.privacy.pseudonym import load_key
from health_pipeline.serving.places import Places
from health_pipeline.serving.prediction_log import Hasher, Prediction, PredictionLog
from health_pipeline.serving.schema import Feature
from health_pipeline_tests.monitoring.conftest import Hospital, hospital
from health_pipeline_tests.monitoring.test_performance import rows_where

MONTH = parse_month("2021-09")
SEPTEMBER = MonthRange(MONTH, MONTH)
NOON = 1_631_700_000_000_000_000  # 15 September 2021
KINDS = {"DOUBLE": "number", "BOOLEAN": "boolean", "VARCHAR": "category"}
Change = Callable[[dict[str, Any]], None]


@pytest.fixture(scope="module")
def shared(tmp_path_factory: pytest.TempPathFactory) -> Hospital:
    return hospital(tmp_path_factory.mktemp("hospital"))


@pytest.fixture
def found(shared: Hospital) -> Hospital:
    folder = Places.of(shared.settings.home, "production").predictions
    for path in folder.glob("*"):
        path.unlink()
    return shared


def names(found: Hospital) -> dict[str, str]:
    return {column.name: KINDS[column.type] for column in found.features.table.columns[4:]}


def ask(found: Hospital, change: Change | None = None, *, every: int = 1, is_counted: bool = True) -> int:
    """Let the API's own log say that it was asked about the stays of September; returns how many."""
    with found.warehouse.read("test") as connection:
        stays = connection.execute(
            f"SELECT * FROM {found.features.only(SEPTEMBER)} ORDER BY encounter_id"
        ).to_arrow_table()
    rows = stays.to_pylist()
    schema = tuple(
        Feature(name, kind, tuple(sorted({row[name] for row in rows})) if kind == "category" else ())  # type: ignore[arg-type]
        for name, kind in names(found).items()
    )
    log = PredictionLog(Places.of(found.settings.home, "production").predictions, Hasher(load_key(found.settings)))
    rows = rows[::every]
    for row in rows:
        if change is not None:
            change(row)
        values = tuple(
            None if isinstance(row[each], float) and math.isnan(row[each]) else row[each] for each in names(found)
        )
        features = schema if is_counted else ()
        log.append(Prediction(NOON, "p", row["encounter_id"], values, 0.2, "model", "release", "primary", features))
    log.close()
    return len(rows)


def inputs(found: Hospital) -> list[dict[str, Any]]:
    table = drift_months(found.warehouse, **found.inputs, months=SEPTEMBER, settings=found.settings)
    found.warehouse.replace(DRIFT, SEPTEMBER, table)
    return rows_where(table, subject_kind="live_input")


def alarms(rows: list[dict[str, Any]]) -> set[tuple[str, str]]:
    return {(row["subject"], row["metric"]) for row in rows if row["status"] == "alarm"}


def verdict(found: Hospital) -> Any:
    check = next(each for each in CHECKS if each.name == "live_traffic_resembles_batch")
    (only,) = check.evaluate(found.warehouse, SEPTEMBER, found.settings)
    return only


@pytest.mark.parametrize("every", [1, 2, 4])
def test_equal_inputs_are_fine(found: Hospital, every: int) -> None:
    count = ask(found, every=every)
    rows = inputs(found)
    assert {row["subject"] for row in rows} == {"all", *names(found)}
    assert {row["n"] for row in rows} == {count}
    assert {row["status"] for row in rows} == {"ok"}
    if every == 1:
        psi = [row["value"] for row in rows if row["metric"] == "psi"]
        assert max(psi) == pytest.approx(0.0, abs=1e-9), "the very same rows fall into the very same bins"


def older(row: dict[str, Any]) -> None:
    row["age"] += 12


def other_unit(row: dict[str, Any]) -> None:
    row["number_1"] *= 0.357


def unmapped(row: dict[str, Any]) -> None:
    row["payer"] = f"code {row['payer']}"


def left_out(row: dict[str, Any]) -> None:
    row["number_4"] = None


def flipped(row: dict[str, Any]) -> None:
    row["flag"] = not row["flag"]


@pytest.mark.parametrize(
    ("change", "name", "metric"),
    [
        (older, "age", "psi"),
        (other_unit, "number_1", "psi"),
        (unmapped, "payer", "psi"),
        (left_out, "number_4", "null_rate_change"),
        (flipped, "flag", "psi"),
    ],
)
def test_other_inputs_alarm_by_name(found: Hospital, change: Change, name: str, metric: str) -> None:
    def changed(row: dict[str, Any]) -> None:
        if change is unmapped and row["payer"] == "self_pay":
            return
        change(row)

    ask(found, changed)
    assert {subject for subject, _ in alarms(inputs(found))} == {name}
    assert (name, metric) in alarms(inputs(found))
    said = verdict(found)
    assert (said.passed, said.severity) == (False, "ERROR")
    assert name in said.summary
    (status,) = month_statuses(found.warehouse, SEPTEMBER)
    assert name not in status.subjects, "the wards' system is no property of the patients"


def test_traffic_that_was_not_counted_is_no_good_news(found: Hospital) -> None:
    ask(found, is_counted=False)
    rows = inputs(found)
    assert alarms(rows) == {("all", "uncounted_share")}
    assert not verdict(found).passed


def test_a_few_requests_say_nothing(found: Hospital) -> None:
    assert ask(found, every=40) < 20
    assert inputs(found) == []


def test_no_traffic_no_rows(found: Hospital) -> None:
    assert inputs(found) == []
    assert verdict(found).passed


def test_what_is_published_is_neither_a_value_nor_a_cell(found: Hospital) -> None:
    ask(found, unmapped)
    rows = inputs(found)
    assert {row["n"] for row in rows} == {rows[0]["n"]}, "sizes of the month, never of a bin"
    texts = {value for row in rows for value in row.values() if isinstance(value, str)}
    assert not any("code" in text or "medicare" in text for text in texts)


def test_damaged_counts_are_an_error_not_silence(found: Hospital, tmp_path: Path) -> None:
    ask(found)
    folder = Places.of(found.settings.home, "production").predictions
    (folder / "inputs-2021-09-1-1-0001.json").write_text("{")
    with pytest.raises(ValueError, match="truncated"):
        inputs(found)
