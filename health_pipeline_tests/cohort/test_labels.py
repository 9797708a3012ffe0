"""Labels: maturity, sources of the outcome, range runs."""

from __future__ import annotations

from health_pipeline.cohort import LOOKAHEAD_MONTHS, LOOKBACK_MONTHS, attrition_query, labels_query
from health_pipeline.months import MonthRange
from health_pipeline.settings import Settings
from health_pipeline_tests.histories import random_hospital
from health_pipeline_tests.silver import Hospital


def stay(encounter: str, patient: str, admitted: str, discharged: str, **more: object) -> dict[str, object]:
    """A stay in facility f1 that ends at home, unless told otherwise."""
    return {
        "encounter_id": encounter,
        "patient_key": patient,
        "facility_id": "f1",
        "admitted_at": admitted,
        "discharged_at": discharged,
        "admission_type": "emergency",
        "admission_source": "emergency_room",
        "discharge_disposition": "home",
        **more,
    }


def labels(hospital: Hospital, months: MonthRange, after: int = 1) -> list[dict[str, object]]:
    slices = hospital.slices(months, after=after)
    query = labels_query(slices["admissions"], slices["patients"], slices["clinical_events"], months, Settings())
    return hospital.rows(query, order="month, encounter_id")


def test_an_open_month_gets_no_label_at_all() -> None:
    hospital = Hospital()
    hospital.add("admissions", [stay("a", "p", "2022-01-01", "2022-01-05"), stay("b", "p", "2022-01-10", "2022-01-12")])
    january = MonthRange.of("2022-01")

    assert labels(hospital, january) == []  # February has not landed

    hospital.add("admissions", [stay("c", "q", "2022-02-01", "2022-02-05")])
    assert labels(hospital, january, after=0) == []  # February is no part of the slice
    assert [row["readmitted_30d"] for row in labels(hospital, january)] == [True, False]


def test_attrition_sums() -> None:
    hospital = Hospital()
    hospital.add(
        "admissions",
        [
            stay("a", "p", "2022-01-01", "2022-01-05"),
            stay("b", "q", "2022-01-01", "2022-01-05", discharge_disposition="expired"),
        ],
    )
    months = MonthRange.of("2022-01")
    slices = hospital.slices(months)
    rows = hospital.rows(
        attrition_query(slices["admissions"], slices["patients"], slices["clinical_events"], months, Settings()),
        order="step",
    )
    assert rows[0]["remaining"] == 2
    assert rows[-1]["remaining"] == 1
    assert {row["reason"] for row in rows if row["excluded"]} == {"died_in_hospital"}


def test_a_range_gives_what_its_months_give_one_by_one() -> None:
    hospital = random_hospital(seed=4, patients=60, days=240)
    months = MonthRange.of("2021-03", "2021-08")

    whole = labels(hospital, months)
    single = []
    for month in months:
        one = MonthRange(month, month)
        narrow = hospital.slices(one, before=LOOKBACK_MONTHS, after=LOOKAHEAD_MONTHS)
        patients = hospital.slices(one, before=60)["patients"]
        query = labels_query(narrow["admissions"], patients, narrow["clinical_events"], one, Settings())
        single += hospital.rows(query, order="month, encounter_id")

    assert len(whole) > 30
    assert whole == single
