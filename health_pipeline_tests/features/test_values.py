"""Values by hand: one small history for each source."""

from __future__ import annotations

import math
from collections.abc import Sequence
from datetime import date
from typing import Any

import pytest

from health_pipeline.contracts.tables import LARGEST_AMOUNT
from health_pipeline.features import FEATURES
from health_pipeline_tests.cohort.test_labels import stay
from health_pipeline_tests.features.test_build import features
from health_pipeline_tests.silver import Hospital

ADMITTED, DISCHARGED = "2022-01-10 08:00", "2022-01-15 12:00"


def event(system: str, code: str, number: float | None = None, text: str | None = None, **more: Any) -> dict[str, Any]:
    return {
        "patient_key": "p",
        "encounter_id": "a",
        "time": "2022-01-11 09:00",
        "recorded_at": "2022-01-11 10:00",
        "code_system": system,
        "code": code,
        "numeric_value": number,
        "text_value": text,
        **more,
    }


def row_of(
    events: Sequence[dict[str, Any]] = (),
    claims: Sequence[dict[str, Any]] = (),
    patients: Sequence[dict[str, Any]] = (),
    earlier: Sequence[dict[str, Any]] = (),
    **of_stay: Any,
) -> dict[str, Any]:
    """Features of stay ``a`` of patient ``p``, 2022-01-10 to 2022-01-15."""
    hospital = Hospital()
    hospital.add("admissions", [stay("a", "p", ADMITTED, DISCHARGED, **of_stay), *earlier])
    hospital.add("clinical_events", events)
    hospital.add("claims", claims)
    hospital.add("patients", patients)
    (row,) = (row for row in features(hospital) if row["encounter_id"] == "a")
    return row


def test_demographics_take_the_newest_record_known_at_the_discharge() -> None:
    def record(at: str, **values: Any) -> dict[str, Any]:
        return {"patient_key": "p", "birth_date": date(1950, 1, 11), "recorded_at": at, **values}

    row = row_of(
        patients=[
            record("2019-01-01", marital_status="single", income=1000.0),
            record("2022-01-12", marital_status="married", income=math.e**2 - 1),
            record("2022-01-16", marital_status="widowed", income=9.0),
        ]
    )
    assert row["age_years"] == 71  # 72 on the day after the admission
    assert row["marital_status"] == "married"
    assert row["income_log"] == pytest.approx(2)


def test_stay() -> None:
    row = row_of(service="oncology", payer="medicare", is_planned=False)
    assert row["length_of_stay_days"] == 5
    assert row["length_of_stay_log"] == pytest.approx(math.log(6))
    assert row["is_weekend_discharge"] is True  # a Saturday
    assert row["discharge_season"] == "winter"
    assert (row["service"], row["payer"], row["is_planned"]) == ("oncology", "medicare", False)
    long = row_of(admitted_at="2021-06-01")
    assert long["length_of_stay_days"] == 60


def test_prior_stays_count_in_their_windows() -> None:
    row = row_of(
        earlier=[
            stay("b", "p", "2021-12-20", "2021-12-27 20:00"),  # 13.5 days before
            stay("c", "p", "2021-10-20", "2021-10-25"),  # 77 days
            stay("d", "p", "2021-01-10", "2021-01-20"),  # 360 days before the discharge
            stay("e", "p", "2021-01-01", "2021-01-10"),  # 370 days: outside
            stay("f", "p", "2022-01-12", "2022-01-13"),  # within the stay itself: not before it
            stay("g", "q", "2021-12-20", "2021-12-27"),  # another patient
            stay("h", "p", "2022-01-20", "2022-01-22"),  # later
        ]
    )
    assert [row[f"prior_inpatient_{days}d"] for days in (30, 90, 180)] == [1, 2, 2]
    assert row["prior_inpatient_365d_log"] == pytest.approx(math.log(4))
    assert row["days_since_last_discharge"] == 14
    assert row["is_readmission"] is True
    assert row["prior_days_in_hospital_log"] == pytest.approx(math.log(1 + 7 + 5 + 10))


def test_a_stay_that_went_on_is_no_earlier_stay() -> None:
    interim = stay("b", "p", "2021-11-20", "2021-11-30 23:00", discharge_disposition="still_patient")
    row = row_of(earlier=[interim, stay("b", "p", "2021-11-20", "2021-12-20")])
    assert row["prior_inpatient_90d"] == 1
    assert row["prior_days_in_hospital_log"] == pytest.approx(math.log(31))
    row = row_of(earlier=[stay("b", "p", "2021-12-20", ADMITTED, discharge_disposition="still_patient")])
    assert (row["prior_inpatient_30d"], row["is_readmission"], row["days_since_last_discharge"]) == (0, False, None)


def test_counts_of_the_source_win_and_are_capped() -> None:
    row = row_of(
        [
            event("SOURCE", "prior_inpatient_1y", 14),
            event("SOURCE", "prior_emergency_1y", 3),
            event("SOURCE", "prior_outpatient_1y", 0),
            event("SOURCE", "diagnoses", 9),
            event("SOURCE", "medications", 81),
            event("SOURCE", "procedures", 2),
            event("SOURCE", "lab_procedures", 40),
            event("SOURCE", "medication_change", 1),
            event("SOURCE", "diabetes_medication", 0),
        ]
    )
    assert row["prior_inpatient_365d_log"] == pytest.approx(math.log(11))
    assert row["prior_emergency_365d_log"] == pytest.approx(math.log(4))
    assert row["prior_outpatient_365d_log"] == 0
    assert (row["diagnosis_count"], row["medicine_count"], row["procedure_count"]) == (9, 60, 2)
    assert row["stated_lab_procedures_log"] == pytest.approx(math.log(41))
    assert (row["has_medication_change"], row["has_diabetes_medication"]) == (True, False)
    assert row["insulin_state"] == "no"


def test_what_no_source_states_stays_unknown() -> None:
    row = row_of()
    known_without_sources = {item.name for item in FEATURES if item.group in {"stay", "utilisation", "scores"}}
    unknown = {item.name for item in FEATURES} - known_without_sources | {"prior_outpatient_365d_log"}
    assert not [name for name in sorted(unknown) if row[name] is not None]


def test_diagnoses_and_comorbidities() -> None:
    row = row_of(
        [
            event("ICD10CM", "I50.9", 1, "principal"),
            event("ICD10CM", "E11.22", 3, "secondary"),  # diabetes with complication
            event("ICD10CM", "E11.9", 2, "secondary"),  # without: does not count beside it
            event("ICD10CM", "C78.7", 4, "secondary"),  # metastasis
            event("ICD9CM", "427.31", None, "secondary", encounter_id="old", recorded_at="2021-06-01"),  # arrhythmia
            event("ICD9CM", "585.6", None, "secondary", encounter_id="older", recorded_at="2020-12-01"),  # too old
            event("ICD10CM", "J44.1", 5, "secondary", recorded_at="2022-01-16"),  # recorded after the discharge
        ]
    )
    assert (row["principal_diagnosis"], row["principal_diagnosis_group"]) == ("I50", "heart_failure")
    assert (row["secondary_diagnosis_1"], row["secondary_diagnosis_2"]) == ("E11", "E11")
    assert row["diagnosis_count"] == 4
    assert row["charlson_heart_failure"] is True
    assert row["charlson_diabetes_complicated"] is True
    assert row["charlson_diabetes"] is False
    assert row["charlson_chronic_pulmonary"] is False
    assert row["elixhauser_arrhythmia"] is True
    assert row["charlson_renal"] is False
    assert row["charlson_index"] == 1 + 2 + 6
    # heart failure 7, arrhythmia 5, metastatic cancer 12; diabetes weighs nothing
    assert row["elixhauser_index"] == 24


@pytest.mark.parametrize(
    ("system", "code", "category", "group"),
    [
        ("ICD9CM", "250.83", "250", "diabetes"),
        ("ICD9CM", "38.9", "038", "sepsis"),  # the leading zero is missing at the source
        ("ICD9CM", "8", "008", "chapter_infectious"),
        ("ICD9CM", "V57", "V57", "chapter_factors"),
        ("ICD9CM", "E909", "E909", "chapter_injury"),
        ("ICD9CM", "428", "428", "heart_failure"),
        ("ICD9CM", "786.59", "786", "chest_pain"),
        ("ICD10CM", "I110", "I11", "heart_failure"),
        ("ICD10CM", "i10", "I10", "hypertension"),
        ("ICD10CM", "S72.001A", "S72", "hip_fracture"),
        ("ICD10CM", "C7A.090", "C7A", "chapter_neoplasms"),  # ICD-10-CM has categories with a letter at the end
        ("ICD10CM", "C4A.9", "C4A", "chapter_neoplasms"),
        ("ICD10CM", "D3A.00", "D3A", "chapter_neoplasms"),
        ("ICD10CM", "D50.9", "D50", "anaemia"),
        ("ICD10CM", "D70.1", "D70", "chapter_blood"),
        ("ICD10CM", "E08.10", "E08", "diabetes"),
        ("ICD10CM", "I1A.0", "I1A", "hypertension"),
        ("ICD10CM", "M1A.0710", "M1A", "arthritis_joint"),
        ("ICD10CM", "O9A.22", "O9A", "chapter_pregnancy"),
        ("ICD10CM", "Z3A.38", "Z3A", "chapter_factors"),
        ("ICD10CM", "U07.1", "U07", "other"),
    ],
)
def test_categories_and_groups_of_diagnoses(system: str, code: str, category: str, group: str) -> None:
    row = row_of([event(system, code, 1, "principal")])
    assert (row["principal_diagnosis"], row["principal_diagnosis_group"]) == (category, group)


def test_laboratory() -> None:
    row = row_of(
        [
            event("LOINC", "2951-2", 128.0, time="2022-01-10 07:00"),  # in the emergency room
            event("LOINC", "2951-2", 120.0, time="2022-01-12"),
            event("LOINC", "2951-2", 134.0, time="2022-01-14"),
            event("LOINC", "2951-2", 150.0, time="2022-01-15 11:00", recorded_at="2022-01-15 13:00"),  # too late
            event("LOINC", "2951-2", 999.0, time="2022-01-14 10:00"),  # implausible
            event("LOINC", "2951-2", 110.0, time="2022-01-01", recorded_at="2022-01-01"),  # before the stay
            event("LOINC", "4548-4", None, ">8"),
        ]
    )
    assert row["sodium_last"] == 134
    assert row["sodium_worst"] == 120
    assert row["sodium_change"] == 6
    assert row["sodium_is_abnormal"] is True
    assert row["haemoglobin_a1c_band"] == ">8"
    assert row["haemoglobin_a1c_last"] is None
    assert row["abnormal_lab_count"] == 1
    assert row["potassium_last"] is None


def test_medicines() -> None:
    row = row_of(
        [
            event("RXNORM", "4603", None, "started"),  # furosemide
            event("RXNORM", "11289", None, "steady"),  # warfarin
            event("RXNORM", "6809", None, "up"),  # metformin
            event("DRUG", "glyburide-metformin", None, "down"),
            event("DRUG", "insulin", None, "up", time="2022-01-11"),
            event("DRUG", "insulin", None, "down", time="2022-01-13", recorded_at="2022-01-13"),
            event("DRUG", "moonshine"),
        ]
    )
    assert row["medicine_count"] == 6
    assert row["has_loop_diuretic"] is True
    assert row["has_anticoagulant"] is True
    assert row["has_sulfonylurea"] is True
    assert row["has_opioid"] is False
    assert row["insulin_state"] == "down"
    assert row["glyburide_state"] == "down"
    assert row["metformin_state"] in {"up", "down"}
    assert row["glipizide_state"] == "no"
    assert (row["medicines_up"], row["medicines_down"], row["medicines_started"]) == (2, 2, 1)


def test_a_drug_known_by_its_code_only_has_its_state() -> None:
    codes = {"4821": "glipizide", "33738": "pioglitazone", "16681": "acarbose", "274332": "nateglinide"}
    row = row_of([event("RXNORM", code, None, "up") for code in codes])
    assert {drug: row[f"{drug}_state"] for drug in codes.values()} == dict.fromkeys(codes.values(), "up")
    assert (row["glyburide_state"], row["has_sulfonylurea"], row["has_glitazone"]) == ("no", True, True)


def test_finance_sums_claims_processed_before_the_discharge() -> None:
    def claim(number: str, at: str, **money: Any) -> dict[str, Any]:
        return {"claim_id": number, "patient_key": "p", "processed_at": at, **money}

    row = row_of(
        claims=[
            claim("1", "2021-06-01", charged=1000.0, allowed=500.0, payer_paid=400.0, patient_paid=100.0, denied=False),
            claim(
                "2", "2022-01-15 11:00", charged=3000.0, allowed=500.0, payer_paid=500.0, patient_paid=0.0, denied=True
            ),
            claim("3", "2022-01-15 13:00", charged=9e6, allowed=1.0, payer_paid=0.0, patient_paid=1.0, denied=True),
            claim("4", "2021-01-10", charged=9e6, allowed=1.0, payer_paid=0.0, patient_paid=1.0, denied=True),
        ]
    )
    assert row["claim_count_log"] == pytest.approx(math.log(3))
    assert row["charged_log"] == pytest.approx(math.log(4001))
    assert row["payer_coverage_ratio"] == pytest.approx(0.9)
    assert row["out_of_pocket_ratio"] == pytest.approx(0.1)
    assert row["allowed_to_charge_ratio"] == pytest.approx(0.25)
    assert row["denial_rate"] == pytest.approx(0.5)


def test_ratios_of_money_use_the_claims_that_say_both_amounts() -> None:
    paid = {"patient_key": "p", "processed_at": "2021-12-01", "payer_paid": 40.0, "patient_paid": 10.0}
    open_ = {"patient_key": "p", "processed_at": "2021-12-02", "charged": 900.0}
    row = row_of(
        claims=[
            {"claim_id": "1", "charged": 100.0, "allowed": 50.0, **paid},
            *({"claim_id": f"{number}", **paid} for number in range(2, 6)),  # what was allowed is not said
            {"claim_id": "6", "allowed": 700.0, **open_},
            {"claim_id": "7", **open_},
        ]
    )
    assert row["payer_coverage_ratio"] == pytest.approx(0.8)
    assert row["out_of_pocket_ratio"] == pytest.approx(0.2)
    assert row["allowed_to_charge_ratio"] == pytest.approx(0.75)
    assert row["charged_log"] == pytest.approx(math.log(1 + 1900))


def test_a_claim_that_was_settled_again_counts_once_as_it_was_settled_last() -> None:
    def settled(at: str, **money: Any) -> dict[str, Any]:
        return {"claim_id": "1", "patient_key": "p", "processed_at": at, "charged": 100.0, **money}

    row = row_of(
        claims=[
            settled("2021-10-01", allowed=0.0, payer_paid=0.0, denied=True),
            settled("2021-12-01", allowed=50.0, payer_paid=40.0, denied=False),
            settled("2022-01-20", allowed=90.0, payer_paid=90.0, denied=False),  # after the discharge
        ]
    )
    assert row["claim_count_log"] == pytest.approx(math.log(2))
    assert row["charged_log"] == pytest.approx(math.log(101))
    assert row["payer_coverage_ratio"] == pytest.approx(0.8)
    assert row["denial_rate"] == 0


def test_lace_and_hospital() -> None:
    visits = [
        event("CPT4", "99284", encounter_id=None, time=f"2021-{month}-01", recorded_at=f"2021-{month}-01")
        for month in ("11", "12")
    ]
    row = row_of(
        [
            *visits,
            event("ICD10CM", "I50.9", 1, "principal"),  # 2 in LACE's own Charlson weights
            event("ICD10CM", "J44.1", 2, "secondary"),  # 2
            event("LOINC", "718-7", 9.5),
            event("LOINC", "2951-2", 128.0),
            event("ICD10PCS", "0SRC0J9"),
        ],
        earlier=[stay("b", "p", "2021-03-01", "2021-03-04", admission_source="physician_referral")],
    )
    # length of stay 5 days: 4; acute: 3; comorbidity 4 or more: 5; two emergency visits in six months: 2
    assert row["lace_index"] == 4 + 3 + 5 + 2
    # haemoglobin 1, sodium 1, procedure 1, index type 1, one stay in the year 2, five days 2; no oncology
    assert row["hospital_score"] == 1 + 1 + 1 + 1 + 2 + 2


def test_visits_are_no_procedures() -> None:
    visits = [event("CPT4", code) for code in ("99223", "99232", "99285")]
    row = row_of(visits)
    assert row["procedure_count"] == 0
    assert row["hospital_score"] == row_of([event("RXNORM", "5856")])["hospital_score"]
    row = row_of([*visits, event("CPT4", "27447"), event("ICD10PCS", "0SRC0J9")])
    assert row["procedure_count"] == 2


@pytest.mark.parametrize(
    ("source", "time", "earlier_visits"),
    [
        ("emergency_room", "2022-01-10 03:00", 0),  # the one through which the patient came in
        ("emergency_room", "2022-01-09 07:00", 1),  # sent home the day before
        ("physician_referral", "2022-01-10 03:00", 1),
        (None, "2022-01-10 03:00", 1),
    ],
)
def test_the_visit_that_led_to_the_stay_is_no_earlier_one(source: str | None, time: str, earlier_visits: int) -> None:
    visit = event("CPT4", "99285", encounter_id="visit", time=time, recorded_at="2022-01-10 05:00")
    row = row_of([visit], admission_source=source)
    assert row["prior_emergency_365d_log"] == pytest.approx(math.log(1 + earlier_visits))
    # five days: 4; emergency: 3; no comorbidity
    assert row["lace_index"] == 7 + earlier_visits


def test_emergency_visits_are_those_that_ended_at_home_and_those_that_ended_in_a_bed() -> None:
    def visit(at: str, encounter: str) -> dict[str, Any]:
        return event("CPT4", "99284", encounter_id=encounter, time=at, recorded_at=at)

    admitted = stay("b", "p", "2021-11-01 20:00", "2021-11-05")  # through the emergency room
    row = row_of([visit("2021-12-01", "v1"), visit("2021-12-20", "v2")], earlier=[admitted])
    assert row["prior_emergency_365d_log"] == pytest.approx(math.log(4))
    # five days: 4; emergency: 3; no comorbidity
    assert row["lace_index"] == 7 + 3
    # A source that lands the visit of an admission as well: still one.
    row = row_of([visit("2021-11-01 14:00", "v0"), visit("2021-12-01", "v1")], earlier=[admitted])
    assert row["prior_emergency_365d_log"] == pytest.approx(math.log(3))


@pytest.mark.parametrize("unknown", [-1.0, -9999.0])
@pytest.mark.parametrize(
    ("stated", "feature", "derived"),
    [
        ("prior_inpatient_1y", "prior_inpatient_365d_log", math.log(2)),
        ("prior_emergency_1y", "prior_emergency_365d_log", math.log(2)),
        ("prior_outpatient_1y", "prior_outpatient_365d_log", None),
        ("lab_procedures", "stated_lab_procedures_log", None),
        ("procedures", "procedure_count", 1.0),
        ("medications", "medicine_count", 1.0),
        ("diagnoses", "diagnosis_count", 1.0),
        ("medication_change", "has_medication_change", None),
    ],
)
def test_a_stated_count_below_zero_says_that_it_is_not_known(
    stated: str, feature: str, derived: float | None, unknown: float
) -> None:
    row = row_of(
        [
            event("SOURCE", stated, unknown),
            event("ICD10CM", "I50.9", 1.0, "principal"),
            event("ICD10PCS", "0210093"),
            event("RXNORM", "5856"),
        ],
        earlier=[stay("b", "p", "2021-12-20", "2021-12-27", admission_source="emergency_room")],
    )
    assert row[feature] == (derived if derived is None else pytest.approx(derived))


def test_the_largest_amounts_that_the_contract_lets_through_can_be_summed_up() -> None:
    largest = math.nextafter(LARGEST_AMOUNT, 0)
    claim = {"patient_key": "p", "processed_at": "2021-12-01", "charged": largest, "allowed": largest}
    row = row_of(claims=[{"claim_id": str(number), **claim} for number in range(20)])
    assert row["charged_log"] == pytest.approx(math.log(20 * largest))
