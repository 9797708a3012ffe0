"""The feature query as a whole."""

from __future__ import annotations

from health_pipeline.features import FEATURE_TABLE, features_query
from health_pipeline.months import MonthRange
from health_pipeline.settings import Settings
from health_pipeline_tests.cohort.test_labels import stay
from health_pipeline_tests.silver import Hospital

JANUARY = MonthRange.of("2022-01")


def features(hospital: Hospital, months: MonthRange = JANUARY) -> list[dict[str, object]]:
    slices = hospital.slices(months)
    query = features_query(
        slices["admissions"], slices["patients"], slices["clinical_events"], slices["claims"], months, Settings()
    )
    return hospital.rows(query, order="month, encounter_id")


def test_a_stay_without_any_other_source_still_has_its_row() -> None:
    hospital = Hospital()
    hospital.add("admissions", [stay("a", "p", "2022-01-01", "2022-01-05")])
    (row,) = features(hospital)
    assert tuple(row) == FEATURE_TABLE.column_names
    assert row["length_of_stay_days"] == 4
    assert row["age_years"] is None
    assert row["prior_inpatient_365d"] == 0
    assert row["diagnosis_count"] is None
    assert row["payer_coverage_ratio"] is None
    assert row["lace_index"] == 4 + 3
