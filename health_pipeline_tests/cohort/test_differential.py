"""Two implementations, random histories, the same labels: SQL against the naive reference."""

from __future__ import annotations

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from health_pipeline.cohort import attrition_query, labels_query
from health_pipeline.months import MonthRange
from health_pipeline.settings import Settings
from health_pipeline_tests.cohort import reference
from health_pipeline_tests.histories import random_hospital

MONTHS = MonthRange.of("2021-02", "2021-11")
COMPARED = ("month", "encounter_id", "readmitted_30d", "readmitted_at", "outcome_source")


def agree(seed: int, patients: int) -> int:
    """Compare one random hospital; returns how many labels were compared."""
    hospital = random_hospital(seed, patients=patients, days=240, stated=0.1)
    slices = hospital.slices(MONTHS, before=3, after=1)
    three = (slices["admissions"], hospital.slices(MONTHS, before=60)["patients"], slices["clinical_events"])

    found = hospital.rows(labels_query(*three, MONTHS, Settings()), order="month, encounter_id")
    expected = reference.labels(
        hospital.rows("SELECT * FROM silver.admissions"),
        hospital.rows("SELECT * FROM silver.patients"),
        hospital.rows("SELECT * FROM silver.clinical_events"),
        set(MONTHS),
    )
    assert [{name: row[name] for name in COMPARED} for row in found] == expected

    attrition = hospital.rows(attrition_query(*three, MONTHS, Settings()), order="month, step")
    left = {row["month"]: row["remaining"] for row in attrition}
    for month in {row["month"] for row in found}:
        assert left[month] == sum(row["month"] == month for row in found)
    return len(found)


@settings(max_examples=12, deadline=None, derandomize=True, suppress_health_check=[HealthCheck.too_slow])
@given(seed=st.integers(0, 10_000), patients=st.integers(1, 12))
def test_sql_and_reference_agree(seed: int, patients: int) -> None:
    agree(seed, patients)


@pytest.mark.slow
@settings(max_examples=400, deadline=None)
@given(seed=st.integers(0, 10_000_000), patients=st.integers(1, 60))
def test_sql_and_reference_agree_on_many_histories(seed: int, patients: int) -> None:
    agree(seed, patients)


def test_the_histories_are_not_trivial() -> None:
    assert agree(seed=1, patients=60) > 60
