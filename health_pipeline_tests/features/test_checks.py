"""Checks of features: content with honest tables, and each says no once."""

# ruff: noqa: E501 (tables of faults)

from __future__ import annotations

import pytest

from health_pipeline.errors import SliceError
from health_pipeline.features import CHECKS, FEATURE_TABLE
from health_pipeline.settings import Settings
from health_pipeline.warehouse.slices import Query
from health_pipeline.warehouse.store import Warehouse
from health_pipeline_tests.checked_warehouse import BAD, MONTHS, corrupt, verdicts


@pytest.mark.parametrize("name", [check.name for check in CHECKS if check.blocking])
def test_honest_tables_pass(honest: tuple[Warehouse, Settings], name: str) -> None:
    warehouse, settings = honest
    found = verdicts(CHECKS, name, warehouse, MONTHS, settings)
    assert all(verdict.passed for verdict in found), [verdict.summary for verdict in found]
    assert any(verdict.numbers["rows"] for verdict in found)


FUTURE = "(SELECT count(*) FROM silver.admissions AS a WHERE a.patient_key = f.patient_key)"


@pytest.mark.parametrize(
    ("name", "fault", "said"),
    [
        ("features_match_cohort", "DELETE FROM gold.features WHERE month = '2021-08-01' AND encounter_id IN"
                                  " (SELECT min(encounter_id) FROM gold.features WHERE month = '2021-08-01')", "rows for"),
        ("features_match_cohort", "UPDATE gold.features SET encounter_id = 'x' || encounter_id WHERE month = '2021-08-01'",
         "no stay of the month"),
        # oversampled before the split: copies of stays that a later month is judged on stand among those it is fitted on
        ("features_match_cohort", "INSERT INTO gold.features SELECT DATE '2021-08-01', * EXCLUDE (month) FROM gold.features"
                                  " WHERE month = '2021-09-01'", "rows for"),
        # stays of the patient in the whole file, later ones included, where only earlier ones belong
        ("features_see_no_future", f"UPDATE gold.features AS f SET prior_inpatient_180d = {FUTURE}", "prior_inpatient_180d"),
        ("null_rates_usual", "UPDATE gold.features SET length_of_stay_days = NULL WHERE month = '2021-08-01'",
         "length_of_stay_days"),
        ("unseen_categories", "UPDATE gold.features SET payer = 'barter' WHERE month = '2021-08-01'", "payer"),
    ],
)  # fmt: skip
def test_each_check_says_no(broken: tuple[Warehouse, Settings], name: str, fault: str, said: str) -> None:
    warehouse, settings = broken
    corrupt(warehouse, fault)
    (verdict,) = verdicts(CHECKS, name, warehouse, BAD, settings)
    assert not verdict.passed
    assert said in verdict.summary
    assert "barter" not in verdict.summary


def test_rows_that_were_oversampled_cannot_be_stored(broken: tuple[Warehouse, Settings]) -> None:
    """The positives twice, as a hurried colleague would balance the classes before anybody splits the months."""
    warehouse, _ = broken
    once = f"SELECT DATE '2021-08-01' AS month, * EXCLUDE (month) FROM {FEATURE_TABLE.qualified} WHERE month = '2021-09-01'"
    warehouse.replace(FEATURE_TABLE, BAD, Query(once))
    with pytest.raises(SliceError, match="rows repeat a key"):
        warehouse.replace(FEATURE_TABLE, BAD, Query(f"{once} UNION ALL {once}"))
