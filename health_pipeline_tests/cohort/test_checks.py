"""Checks of labels and attrition: content with honest tables, and each says no once."""

# ruff: noqa: E501 (tables of faults)

from __future__ import annotations

import pytest

from health_pipeline.cohort import CHECKS
from health_pipeline.settings import Settings
from health_pipeline.warehouse.store import Warehouse
from health_pipeline_tests.checked_warehouse import BAD, MONTHS, corrupt, verdicts


@pytest.mark.parametrize("name", [check.name for check in CHECKS if check.blocking])
def test_honest_tables_pass(honest: tuple[Warehouse, Settings], name: str) -> None:
    warehouse, settings = honest
    found = verdicts(CHECKS, name, warehouse, MONTHS, settings)
    assert all(verdict.passed for verdict in found), [verdict.summary for verdict in found]


@pytest.mark.parametrize(
    ("name", "fault"),
    [
        ("attrition_sums", "UPDATE gold.cohort_attrition SET excluded = excluded + 1 WHERE step = 2"),
        ("attrition_sums", "UPDATE gold.cohort_attrition SET remaining = remaining + 1 WHERE month = '2021-08-01'"),
        ("attrition_sums", "DELETE FROM gold.cohort_attrition WHERE month = '2021-08-01'"),
        ("labels_cover_cohort", "DELETE FROM gold.labels WHERE encounter_id IN"
                                " (SELECT min(encounter_id) FROM gold.labels WHERE month = '2021-08-01')"),
        ("labels_matured", "DELETE FROM silver.admissions WHERE month = '2021-09-01'"),
        ("labels_matured", "UPDATE gold.labels SET readmitted_30d = true,"
                           " readmitted_at = discharged_at + INTERVAL 40 DAY WHERE month = '2021-08-01'"),
        ("next_month_complete", "DELETE FROM silver.admissions WHERE month = '2021-09-01' AND day(discharged_at) > 20"),
        ("label_rate_plausible", "UPDATE gold.labels SET readmitted_30d = true WHERE month = '2021-08-01' AND patient_key < 'x3'"),
    ],
)  # fmt: skip
def test_each_check_says_no(broken: tuple[Warehouse, Settings], name: str, fault: str) -> None:
    warehouse, settings = broken
    if name == "label_rate_plausible":
        # enough labels of every month for a rate
        corrupt(
            warehouse,
            "INSERT INTO gold.labels SELECT DISTINCT month, 'x' || n, 'x' || n, month, n % 8 = 0, NULL, 'derived', 'v'"
            " FROM gold.labels, range(400) AS r (n)",
        )
        assert all(verdict.passed for verdict in verdicts(CHECKS, name, warehouse, MONTHS, settings))
    corrupt(warehouse, fault)
    assert [verdict.passed for verdict in verdicts(CHECKS, name, warehouse, BAD, settings)] == [False]
