"""The feature query as a whole."""

from __future__ import annotations

from health_pipeline.features import FEATURE_TABLE, features_query
from health_pipeline.months import MonthRange
from health_pipeline.settings import Settings
from health_pipeline_tests.cohort.test_labels import stay
from health_pipeline_tests.histories import random_hospital
from health_pipeline_tests.silver import Hospital

JANUARY = MonthRange.of("2022-01")


def features(
    hospital: Hospital, months: MonthRange = JANUARY, before: int = 13, after: int = 0
) -> list[dict[str, object]]:
    slices = hospital.slices(months, before=before, after=after) | {
        "patients": hospital.slices(months, before=60, after=after)["patients"]
    }
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
    assert row["prior_inpatient_365d_log"] == 0
    assert row["diagnosis_count"] is None
    assert row["payer_coverage_ratio"] is None
    assert row["lace_index"] == 4 + 3


def test_a_range_gives_what_its_months_give_one_by_one() -> None:
    hospital = random_hospital(seed=5, patients=80)
    months = MonthRange.of("2021-11", "2022-05")

    whole = features(hospital, months)
    single = [row for month in months for row in features(hospital, MonthRange(month, month))]

    assert len(whole) > 30
    assert whole == single


def test_stretches_give_what_the_whole_range_gives() -> None:
    hospital = random_hospital(seed=5, patients=80)
    months = MonthRange.of("2021-11", "2022-05")
    slices = hospital.slices(months, before=13) | {"patients": hospital.slices(months, before=60)["patients"]}
    query = features_query(*slices.values(), months, Settings())
    assert list(slices) == ["admissions", "patients", "clinical_events", "claims"]

    whole = hospital.rows(query, order="month, encounter_id")
    parts = [query.for_months(part) for part in months.stretches(2)]

    assert whole == [row for part in parts for row in hospital.rows(part, order="month, encounter_id")]
    # Each stretch reads what its first month may see, not the whole range's history.
    admissions = slices["admissions"]
    assert str(admissions.only(MonthRange.of("2021-04", "2022-05"))) in parts[-1].sql
    assert str(admissions) not in parts[-1].sql


def test_a_wider_slice_and_an_older_history_change_nothing() -> None:
    hospital = random_hospital(seed=6, patients=80)
    month = MonthRange.of("2022-06")
    before = features(hospital, month)
    assert before
    hospital.connection.execute(
        "INSERT INTO silver.admissions SELECT * REPLACE (admitted_at - INTERVAL 13 MONTH AS admitted_at,"
        " discharged_at - INTERVAL 13 MONTH AS discharged_at, 'old-' || encounter_id AS encounter_id,"
        " (month - INTERVAL 13 MONTH)::DATE AS month) FROM silver.admissions WHERE month = DATE '2022-06-01'"
    )
    hospital.connection.execute(
        "INSERT INTO silver.clinical_events SELECT * REPLACE (recorded_at - INTERVAL 13 MONTH AS recorded_at,"
        " time - INTERVAL 13 MONTH AS time, (month - INTERVAL 13 MONTH)::DATE AS month)"
        " FROM silver.clinical_events WHERE month = DATE '2022-06-01'"
    )
    assert features(hospital, month, before=40, after=6) == before
