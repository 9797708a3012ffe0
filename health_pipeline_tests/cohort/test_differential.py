"""Two implementations, random histories, the same labels: SQL against the naive reference."""

from __future__ import annotations

from collections.abc import Callable

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


def agree(seed: int, patients: int, mutate: Callable[[str], str] = str) -> int:
    """Compare one random hospital; returns how many labels were compared.

    Args:
        seed: of the history.
        patients: how many.
        mutate: changes the statement before it runs, to see whether the comparison notices.
    """
    hospital = random_hospital(seed, patients=patients, days=240, stated=0.1)
    slices = hospital.slices(MONTHS, before=3, after=1)
    three = (slices["admissions"], hospital.slices(MONTHS, before=60)["patients"], slices["clinical_events"])

    found = hospital.rows(mutate(labels_query(*three, MONTHS, Settings()).sql), order="month, encounter_id")
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


MUTATIONS = (
    ("discharged_at::DATE + 30", "discharged_at::DATE + 29"),
    ("r.admitted_at >= s.discharged_at", "r.admitted_at > s.discharged_at"),
    ("discharged_at::DATE + 1,", "discharged_at::DATE + 0,"),
    ("left(diagnosis, 3) = left(own_diagnosis, 3)", "true"),
    ("admission_type IN ('elective')", "false"),
    ("starts_with(diagnosis, 'Z511')", "false"),
    ("NOT arg_min(is_planned", "NOT bool_and(is_planned) OR NOT arg_min(is_planned"),
    ("b.birth_date, a.admitted_at::DATE) < 18", "b.birth_date, a.admitted_at::DATE) <= 18"),
    ("p.recorded_at <= s.discharged_at", "true"),
    ("a.admission_type IN ('newborn')", "false"),
)


@pytest.mark.slow
@pytest.mark.parametrize(("rule", "changed"), MUTATIONS, ids=lambda text: text[:40])
def test_a_changed_rule_is_noticed(rule: str, changed: str) -> None:
    def mutate(sql: str) -> str:
        if rule not in sql:
            raise LookupError(rule)
        return sql.replace(rule, changed)

    assert any(disagrees(seed, mutate) for seed in range(6))


def disagrees(seed: int, mutate: Callable[[str], str]) -> bool:
    try:
        agree(seed, patients=40, mutate=mutate)
    except AssertionError:
        return True
    return False


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
