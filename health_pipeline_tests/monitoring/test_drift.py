from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pytest

from health_pipeline.errors import ModelError
from health_pipeline.modeling.bundle import Bundle, Member
from health_pipeline.modeling.encoding import Encoding, Feature
from health_pipeline.modeling.predictors import Linear
from health_pipeline.modeling.tables import PREDICTIONS, model_table
from health_pipeline.monitoring import DRIFT, drift_months
from health_pipeline.monitoring.drift import season_window
from health_pipeline.months import MonthRange, parse_month, shift
from health_pipeline.promotion.tables import CHAMPION
from health_pipeline_tests.monitoring.conftest import MONTHS, Hospital, hospital, rewrite
from health_pipeline_tests.monitoring.hospital import Change, champion_rows, settings_for

OCTOBER = parse_month("2021-10")
Random = np.random.Generator


def drift(found: Hospital, months: MonthRange = MONTHS) -> pa.Table:
    return drift_months(found.warehouse, **found.inputs, months=months, settings=found.settings)


def rows_where(table: pa.Table, **wanted: Any) -> list[dict[str, Any]]:
    return [row for row in table.to_pylist() if all(row[name] == value for name, value in wanted.items())]


def month_status(table: pa.Table, month: Any) -> str:
    return str(rows_where(table, month=month, subject_kind="summary")[0]["status"])


def test_a_range_gives_the_rows_of_single_months(stable: Hospital) -> None:
    whole = drift(stable)
    single = pa.concat_tables([drift(stable, MonthRange(month, month)) for month in MONTHS])
    assert whole.equals(single)
    assert whole.equals(drift(stable)), "and the same again"


def test_every_row_is_complete_and_writable(stable: Hospital) -> None:
    table = drift(stable)
    stable.warehouse.replace(DRIFT, MONTHS, table)
    known = rows_where(table, subject_kind="feature", metric="psi", reference="training_window")
    assert {row["subject"] for row in known} >= {"age", "sex", "payer", "flag", "number_0", "category_2"}
    for row in known:
        assert row["n"] > 0
        assert row["reference_n"] > row["n"]
        assert 0 < row["chance_level"] <= row["threshold"] <= row["alarm_threshold"]
    assert {row["metric"] for row in table.to_pylist() if row["subject"] == "payer"} == {
        "psi", "chi_squared", "null_rate_change", "unseen_share",
    }  # fmt: skip
    assert {row["subject_kind"] for row in table.to_pylist()} == {"feature", "score", "prediction", "volume", "summary"}


def test_stable_months_do_not_alarm(stable: Hospital) -> None:
    assert [month_status(drift(stable), month) for month in MONTHS].count("alarm") == 0


def test_the_future_is_not_seen(tmp_path: Path) -> None:
    found = hospital(tmp_path)
    month = MonthRange(OCTOBER, OCTOBER)
    before = drift(found, month)
    later = MonthRange(shift(OCTOBER, 1), found.features.months.last)
    rewrite(
        found, found.features.table, later, f"SELECT * REPLACE (age + 500 AS age) FROM {found.features.only(later)}"
    )
    rewrite(found, PREDICTIONS, later, f"SELECT * FROM {found.predictions.only(later)} WHERE false")
    assert drift(found, month).equals(before)


def new_unit(found: dict[str, Any], random: Random) -> None:
    found["number_1"] = found["number_1"] * 18


def new_code(found: dict[str, Any], random: Random) -> None:
    found["category_1"] = np.where(found["category_1"] == "c0", "c0.9", found["category_1"])


def older_patients(found: dict[str, Any], random: Random) -> None:
    found["age"] = np.clip(found["age"] + 9, 18, 100)


def lost_column(found: dict[str, Any], random: Random) -> None:
    found["number_0"] = np.where(random.random(found["number_0"].size) < 0.5, np.nan, found["number_0"])


@pytest.mark.parametrize(
    ("change", "subject", "metric"),
    [
        (new_unit, "number_1", "psi"),
        (new_code, "category_1", "unseen_share"),
        (older_patients, "age", "psi"),
        (lost_column, "number_0", "null_rate_change"),
    ],
)
def test_a_change_is_found_in_its_first_month(tmp_path: Path, change: Change, subject: str, metric: str) -> None:
    found = hospital(tmp_path, {OCTOBER: change})
    table = drift(found)
    assert month_status(table, OCTOBER) == "alarm"
    assert month_status(table, shift(OCTOBER, -1)) != "alarm"
    (row,) = rows_where(table, month=OCTOBER, subject=subject, metric=metric, reference="training_window")
    assert row["status"] == "alarm"
    alarmed = {row["subject"] for row in rows_where(table, month=OCTOBER, status="alarm", subject_kind="feature")}
    assert alarmed == {subject}, "and nothing else is blamed"


def test_a_shift_of_risk_moves_the_scores(tmp_path: Path) -> None:
    def sicker(found: dict[str, Any], random: Random) -> None:
        found["number_0"] = found["number_0"] + 1

    table = drift(hospital(tmp_path, {OCTOBER: sicker}))
    (row,) = rows_where(table, month=OCTOBER, subject_kind="score", metric="psi")
    assert (row["status"], row["reference"]) == ("alarm", "earlier_scores")


def test_a_halved_month_is_a_volume_alarm(tmp_path: Path) -> None:
    found = hospital(tmp_path)
    month = MonthRange(OCTOBER, OCTOBER)
    half = f"SELECT * FROM {found.features.only(month)} QUALIFY row_number() OVER (ORDER BY encounter_id) % 2 = 0"
    rewrite(found, found.features.table, month, half)
    (row,) = rows_where(drift(found), month=OCTOBER, subject_kind="volume")
    assert row["status"] == "alarm"
    assert row["value"] == pytest.approx(-0.5, abs=0.1)


def test_an_empty_month_is_no_data_never_ok(tmp_path: Path) -> None:
    found = hospital(tmp_path)
    month = MonthRange(OCTOBER, OCTOBER)
    rewrite(found, found.features.table, month, f"SELECT * FROM {found.features} WHERE false")
    rewrite(found, PREDICTIONS, month, f"SELECT * FROM {found.predictions} WHERE false")
    table = drift(found, month)
    assert month_status(table, OCTOBER) == "no_data"
    assert {
        row["status"] for row in table.to_pylist() if row["subject_kind"] in {"feature", "score", "prediction"}
    } == {"no_data"}
    assert "ok" not in {row["status"] for row in table.to_pylist()}


def test_a_month_without_champion_is_no_data(tmp_path: Path) -> None:
    found = hospital(tmp_path)
    month = MonthRange(OCTOBER, OCTOBER)
    found.warehouse.replace(CHAMPION, month, champion_rows(month, model_id=None, decision="SKIP"))
    table = drift(found)
    assert month_status(table, OCTOBER) == "no_data"
    assert month_status(table, shift(OCTOBER, 1)) == "ok"


def test_a_missing_artefact_is_an_error_not_silence(tmp_path: Path) -> None:
    found = hospital(tmp_path)
    found.warehouse.replace(CHAMPION, MONTHS, champion_rows(MONTHS, artefact_path="models/none", artefact_hash="0"))
    with pytest.raises(ModelError):
        drift(found)


def test_scores_are_compared_with_what_the_artefact_gives_on_the_months_it_was_judged_on(tmp_path: Path) -> None:
    def sicker(found: dict[str, Any], random: Random) -> None:
        found["number_0"] = found["number_0"] + 1

    found = hospital(tmp_path, {OCTOBER: sicker})
    digest = score_as_hospital(found.settings.home / "models" / "a")
    champion = champion_rows(MONTHS, artefact_path="models/a", artefact_hash=digest, model_month=parse_month("2021-07"))
    found.warehouse.replace(CHAMPION, MONTHS, champion)
    table = drift(found)
    judged = rows_where(table, subject_kind="score", metric="psi")
    assert {row["reference"] for row in judged} == {"validation_and_holdout"}
    status = {row["month"]: row["status"] for row in judged}
    assert status[OCTOBER] == "alarm"
    assert status[shift(OCTOBER, -1)] == "ok"
    with found.warehouse.read("test") as connection:
        span = MonthRange.of("2021-02", "2021-05")
        counted = connection.execute(f"SELECT count(*) FROM {found.features.only(span)}").fetchone()
    assert {row["reference_n"] for row in judged} == {counted[0]}, "validation and holdout of the model of 2021-07"
    assert table.equals(pa.concat_tables([drift(found, MonthRange(month, month)) for month in MONTHS]))


def score_as_hospital(folder: Path, number_0: float = 0.9) -> str:
    """A bundle that scores as the synthetic hospital does (but for the cap of ``number_2``)."""
    weights = {"number_0": number_0, "number_2": 0.4, "age": 0.015}
    bundle = Bundle(
        family="logistic_regression",
        features=tuple(Feature(name, "numeric") for name in weights),
        members=(
            Member(
                tuple(Encoding(name, "numeric", impute=0.0) for name in weights),
                Linear(-2.0 - 0.015 * 64, tuple(weights.values())),
            ),
        ),
        threshold=0.3,
    )
    return bundle.save(folder)


def test_references_follow_from_month_and_model(tmp_path: Path) -> None:
    settings = settings_for(tmp_path)
    assert season_window(parse_month("2021-12"), settings) == MonthRange.of("2020-11", "2021-01")
    assert season_window(parse_month("2021-01"), settings) is None


def test_a_champion_is_compared_with_the_months_it_was_made_of(tmp_path: Path) -> None:
    """Windows that were set anew are those of the next model; the one in force was fitted on its own."""
    found = hospital(tmp_path)
    bounds = {
        "training": ("2020-02", "2020-08"),
        "validation": ("2020-09", "2020-11"),
        "holdout": ("2020-12", "2021-02"),
    }
    candidate = dict.fromkeys(model_table("logistic_regression").column_names)
    candidate |= {"month": parse_month("2021-04"), "model_id": "logistic_regression-a", "family": "logistic_regression"}
    candidate |= {"status": "trained", "profile": "standard"}
    for window, (first, last) in bounds.items():
        candidate |= {f"{window}_first": parse_month(first), f"{window}_last": parse_month(last)}
    made = MonthRange.of("2021-04")
    found.warehouse.replace(model_table("logistic_regression"), made, pa.Table.from_pylist([candidate]))
    digest = score_as_hospital(found.settings.home / "models" / "a")
    champion = champion_rows(MONTHS, artefact_path="models/a", artefact_hash=digest, model_month=parse_month("2021-04"))
    found.warehouse.replace(CHAMPION, MONTHS, champion)
    table = drift(found)

    def counted(first: str, last: str) -> int:
        with found.warehouse.read("test") as connection:
            relation = found.features.only(MonthRange.of(first, last))
            return int(connection.execute(f"SELECT count(*) FROM {relation}").fetchall()[0][0])

    sizes = {row["reference_n"] for row in rows_where(table, metric="psi", subject="age", reference="training_window")}
    assert sizes == {counted("2020-02", "2020-08")}
    sizes = {row["reference_n"] for row in rows_where(table, subject_kind="score", metric="psi")}
    assert sizes == {counted("2020-09", "2021-02")}


def test_large_references_are_sampled_the_same_way_each_time(tmp_path: Path) -> None:
    found = hospital(tmp_path, monitoring={"reference_rows": 1000})
    table = drift(found)
    sizes = {row["reference_n"] for row in rows_where(table, metric="psi", subject="age", reference="training_window")}
    assert len(sizes) == 1
    assert 700 < sizes.pop() < 1300
    assert table.equals(drift(found))
