"""The file that goes to the people who call patients: the right rows, in order, whole, and for nobody else."""

import csv
import datetime as dt
import stat

import duckdb
import pytest

from health_pipeline.errors import ModelError
from health_pipeline.modeling.risk_list import COLUMNS, write_risk_list
from health_pipeline.modeling.rows import arrow_rows
from health_pipeline.modeling.tables import PREDICTIONS
from health_pipeline.months import MonthRange, parse_month
from health_pipeline.settings import load_settings
from health_pipeline.warehouse import Warehouse

MAY, JUNE = parse_month("2024-05"), parse_month("2024-06")


def prediction(month, encounter, role, probability):
    return {
        "month": month,
        "encounter_id": encounter,
        "patient_key": "p",
        "model_id": f"id of {role}",
        "model_role": role,
        "probability": probability,
        "label": probability >= 0.2,
        "confidence": max(probability, 1 - probability),
        "inference_dt": dt.datetime(2024, 7, 1, tzinfo=dt.UTC).replace(tzinfo=None),
        "feature_hash": "h",
        "warnings": None,
    }


@pytest.fixture
def warehouse(tmp_path):
    made = Warehouse.from_settings(load_settings(home=tmp_path / "it's home"))
    rows = [
        prediction(MAY, "E1", "champion", 0.5),
        prediction(JUNE, "E2", "champion", 0.1),
        prediction(JUNE, "E3", "champion", 0.7),
        prediction(JUNE, "E4", "champion", 0.2),
        prediction(JUNE, "E3", "model_1", 0.01),
    ]
    made.replace(PREDICTIONS, MonthRange(MAY, JUNE), arrow_rows(PREDICTIONS, rows))
    return made


def test_the_newest_month_of_the_champion_riskiest_first(warehouse, tmp_path):
    path = tmp_path / "o'list.csv"
    written = write_risk_list(warehouse, path)
    assert (written.month, written.stays, written.flagged) == (JUNE, 3, 2)
    with path.open() as lines:
        rows = list(csv.DictReader(lines))
    assert tuple(rows[0]) == COLUMNS
    assert [row["encounter_id"] for row in rows] == ["E3", "E4", "E2"]
    assert {row["model_id"] for row in rows} == {"id of champion"}
    assert stat.S_IMODE(path.stat().st_mode) == 0o600
    assert [each.name for each in tmp_path.iterdir() if each.is_file()] == [path.name]


def test_without_a_champion_in_force_the_candidates_are_named(warehouse, tmp_path):
    warehouse.replace(
        PREDICTIONS, MonthRange(MAY, JUNE), arrow_rows(PREDICTIONS, [prediction(JUNE, "E3", "model_1", 0.01)])
    )
    with pytest.raises(ModelError, match="no prediction of champion is stored") as caught:
        write_risk_list(warehouse, tmp_path / "list.csv")
    assert "there are predictions of model_1" in caught.value.remedy
    assert "health-pipeline decisions" in caught.value.remedy


def test_another_month_and_role_as_parquet(warehouse, tmp_path):
    may, candidate = tmp_path / "may.parquet", tmp_path / "candidate.parquet"
    assert write_risk_list(warehouse, may, month=MAY).stays == 1
    assert write_risk_list(warehouse, candidate, role="model_1").flagged == 0
    assert duckdb.sql(f"SELECT encounter_id FROM '{may}'").fetchall() == [("E1",)]
    assert duckdb.sql(f"SELECT probability FROM '{candidate}'").fetchall() == [(0.01,)]


@pytest.mark.parametrize(
    ("name", "asked", "says"),
    [
        ("list.xlsx", {}, "CSV or Parquet"),
        ("nowhere/list.csv", {}, "folder does not exist"),
        ("list.csv", {"month": parse_month("2024-07")}, "no prediction of champion is stored for 2024-07"),
        ("list.csv", {"role": "model_9"}, "no prediction of model_9"),
    ],
)
def test_what_cannot_be_written_is_said_and_nothing_is_left(warehouse, tmp_path, name, asked, says):
    kept = tmp_path / "list.csv"
    kept.write_text("of last month")
    with pytest.raises(ModelError, match=says):
        write_risk_list(warehouse, tmp_path / name, **asked)
    assert kept.read_text() == "of last month"
    assert [each.name for each in tmp_path.iterdir() if each.is_file()] == [kept.name]
