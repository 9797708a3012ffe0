from __future__ import annotations

import datetime as dt
import math

import numpy as np
import pyarrow as pa
import pytest

from health_pipeline.modeling.dataset import dataset_of
from health_pipeline.months import MonthRange
from health_pipeline.promotion.holdout import age_band, holdout_months, holdout_of
from health_pipeline.settings import Settings

SETTINGS = Settings(windows={"holdout_months": 3})
MONTH = dt.date(2023, 6, 1)


@pytest.mark.parametrize(
    ("fitted", "expected"),
    [
        ([], "2023-02"),
        ([dt.date(2022, 6, 1)], "2023-02"),
        ([dt.date(2023, 1, 1)], "2023-02"),
        ([dt.date(2023, 1, 31)], "2023-02"),
        ([dt.date(2023, 2, 1)], "2023-03"),
        ([dt.date(2023, 2, 28), dt.date(2022, 1, 1)], "2023-03"),
        ([dt.date(2022, 1, 1), dt.date(2023, 3, 1)], "2023-04"),
    ],
)
def test_every_month_no_model_was_fitted_on_is_pooled(fitted, expected):
    assert holdout_months(MONTH, fitted, SETTINGS) == MonthRange.of(expected, "2023-04")


def test_no_month_left():
    assert holdout_months(MONTH, [dt.date(2023, 4, 1)], SETTINGS) is None
    assert holdout_months(MONTH, [dt.date(2023, 9, 1)], SETTINGS) is None


def test_one_month():
    settings = Settings(windows={"holdout_months": 1})
    assert holdout_months(MONTH, [], settings) == MonthRange.of("2023-04")


@pytest.mark.parametrize(
    ("age", "band"),
    [
        (0, "0-17"),
        (17.9, "0-17"),
        (18, "18-44"),
        (44, "18-44"),
        (45, "45-64"),
        (64, "45-64"),
        (65, "65-79"),
        (79, "65-79"),
        (80, "80+"),
        (103, "80+"),
        (None, "unknown"),
        (math.nan, "unknown"),
    ],
)
def test_age_bands(age, band):
    assert age_band(age) == band


def rows(**columns):
    given = {
        "month": pa.array([dt.date(2023, 1, 1)] * 3, pa.date32()),
        "encounter_id": ["1", "2", "3"],
        "patient_key": ["b", "a", "b"],
        "_outcome": [True, False, True],
        **columns,
    }
    return holdout_of(dataset_of(pa.table(given)))


def test_what_is_taken_from_the_rows():
    found = rows(
        sex=["female", None, "male"], payer=["other"] * 3, age_years=[70.0, None, 20.0], lace_index=[5.0, None, 9.0]
    )
    assert found.y.tolist() == [1, 0, 1]
    assert found.patients[0] == found.patients[2] != found.patients[1]
    assert (found.rows, found.events, found.patient_count, found.measurable) == (3, 2, 2, True)
    assert found.groups["sex"].tolist() == ["female", "unknown", "male"]
    assert found.groups["age_band"].tolist() == ["65-79", "unknown", "18-44"]
    assert set(found.groups) == {"sex", "payer", "age_band"}
    assert np.array_equal(found.lace, [5, np.nan, 9], equal_nan=True)


@pytest.mark.parametrize("name", ["place", "replaced_by", "lacerations"])
def test_a_column_that_merely_contains_the_letters_is_no_lace_index(name):
    assert rows(**{name: [1.0, 2.0, 3.0]}).lace is None


@pytest.mark.parametrize("name", ["lace", "lace_index", "stay_lace_points"])
def test_lace_columns(name):
    assert rows(**{name: [1, 2, 3]}).lace.tolist() == [1, 2, 3]


def test_one_outcome_cannot_be_measured():
    assert not rows(_outcome=[True, True, True]).measurable
    assert not rows(_outcome=[False, False, False]).measurable
