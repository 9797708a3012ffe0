from __future__ import annotations

import time
from pathlib import Path
from typing import Any

import pyarrow as pa
import pytest

from health_pipeline.monitoring import drift_months
from health_pipeline.months import MonthRange, parse_month
from health_pipeline.privacy.pseudonym import load_key
from health_pipeline.serving.places import Places
from health_pipeline.serving.prediction_log import Hasher, Prediction, PredictionLog
from health_pipeline_tests.monitoring.conftest import Hospital, hospital
from health_pipeline_tests.monitoring.test_performance import rows_where

SEPTEMBER = MonthRange.of("2021-09", "2021-09")
NOON = 1_631_700_000_000_000_000  # 15 September 2021


def answer(found: Hospital, shift: float = 0.0, role: str = "primary", only_every: int = 1) -> int:
    """Let the API's own log say that it scored the stays of September, each by ``shift`` off; returns how many."""
    with found.warehouse.read("test") as connection:
        stays = connection.execute(
            f"SELECT encounter_id, probability, model_id FROM {found.predictions.only(SEPTEMBER)} "
            "WHERE model_role = 'champion' ORDER BY encounter_id"
        ).fetchall()[::only_every]
    folder = Places.of(found.settings.home, "production").predictions
    log = PredictionLog(folder, Hasher(load_key(found.settings)), flush_seconds=0.01)
    for encounter, probability, model in stays:
        scored = min(probability + shift, 0.99)
        log.append(Prediction(NOON, "patient", encounter, (1.0,), scored, model, "release", role))
    end = time.monotonic() + 10
    while log.written_rows < len(stays):
        assert time.monotonic() < end
        time.sleep(0.01)
    log.close()
    return len(stays)


def live(found: Hospital, months: MonthRange = SEPTEMBER) -> dict[tuple[str, str], dict[str, Any]]:
    table = drift_months(found.warehouse, **found.inputs, months=months, settings=found.settings)
    return {(row["subject"], row["metric"]): row for row in rows_where(table, subject_kind="live")}


@pytest.fixture
def found(tmp_path: Path) -> Hospital:
    return hospital(tmp_path)


def test_without_traffic_there_are_no_rows(found: Hospital) -> None:
    assert live(found) == {}
    answer(found, role="probe")
    assert live(found) == {}, "checks of a deployment are no traffic"


def test_traffic_that_agrees_with_the_batch_is_fine(found: Hospital) -> None:
    count = answer(found)
    rows = live(found)
    assert rows["requests", "answered"]["value"] == count
    agreement = rows["agreement", "disagreeing_share"]
    assert (agreement["value"], agreement["n"], agreement["status"]) == (0.0, count, "ok")
    assert rows["score", "psi"]["status"] == "ok"
    assert live(found, MonthRange.of("2021-10", "2021-10")) == {}, "other months had none"


def test_other_inputs_show_as_other_scores_of_the_same_stays(found: Hospital) -> None:
    answer(found, shift=0.01)
    rows = live(found)
    assert (rows["agreement", "disagreeing_share"]["value"], rows["agreement", "disagreeing_share"]["status"]) == (
        1.0,
        "alarm",
    )
    assert rows["score", "psi"]["status"] == "ok", "too little for the distribution to show"


def test_moved_scores_alarm(found: Hospital) -> None:
    answer(found, shift=0.2)
    assert live(found)["score", "psi"]["status"] == "alarm"


def test_a_few_matched_stays_say_nothing(found: Hospital) -> None:
    answer(found, shift=0.01, only_every=40)
    agreement = live(found)["agreement", "disagreeing_share"]
    assert (agreement["value"], agreement["status"]) == (None, "no_data")


def test_a_range_gives_the_rows_of_single_months_and_the_summary_is_the_patients(found: Hospital) -> None:
    answer(found, shift=0.2)
    months = MonthRange.of("2021-08", "2021-10")
    table = drift_months(found.warehouse, **found.inputs, months=months, settings=found.settings)
    single = [
        drift_months(found.warehouse, **found.inputs, months=MonthRange(month, month), settings=found.settings)
        for month in months
    ]
    assert table.equals(pa.concat_tables(single))
    (summary,) = rows_where(table, subject_kind="summary", month=parse_month("2021-09"))
    assert summary["status"] != "alarm"
