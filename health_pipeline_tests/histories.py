"""Random hospital histories: many stays per patient, transfers, deaths, late records, restatements, missing values."""

from __future__ import annotations

import datetime as dt
import random
from typing import Any

from health_pipeline_tests.silver import Hospital, moment

_ICD10 = ("I50.9", "E11.65", "J44.1", "N18.30", "C78.7", "K92.2", "I10", "F32.9", "A41.9", "Z51.11", "XYZ")
_ICD9 = ("428.0", "250.13", "38.9", "V58.1", "584.9")
_LOINC = ("2951-2", "718-7", "2160-0", "4548-4", "2345-7", "0000-0")
_RXNORM = ("6809", "4603", "11289", "99")
_DRUGS = ("insulin", "glyburide-metformin", "unobtainium")
_DISPOSITIONS = ("home",) * 6 + ("home_health", "skilled_nursing", "acute_transfer", "expired", "hospice", None)
_FIRST = moment("2021-01-01 00:00")


def random_hospital(seed: int, patients: int = 40, stays: int = 6, days: int = 540, stated: float = 0.0) -> Hospital:
    """A hospital that began on 2021-01-01.

    Args:
        seed: of everything random.
        patients: how many.
        stays: at most, for each patient.
        days: length of the history.
        stated: share of stays with an outcome given by the source.
    """
    draw = random.Random(seed)
    rows: dict[str, list[dict[str, Any]]] = {"admissions": [], "patients": [], "clinical_events": [], "claims": []}
    for number in range(patients):
        patient = f"p{number}"
        at = _FIRST + dt.timedelta(hours=draw.randrange(24 * days))
        _records(draw, patient, rows)
        for order in range(draw.randint(1, stays)):
            discharged = at + dt.timedelta(hours=draw.choice((0, 5, 30, 30, 100, 400)))
            rows["admissions"].append(_stay(draw, f"{patient}-{order}", patient, at, discharged, stated))
            _facts(draw, f"{patient}-{order}", patient, at, discharged, rows)
            at = discharged + dt.timedelta(hours=draw.choice((0, 0, 3, 26, 200, 500, 719, 745, 2000, 6000)))
    hospital = Hospital()
    for table, content in rows.items():
        hospital.add(table, content)
    return hospital


def _stay(
    draw: random.Random, encounter: str, patient: str, at: dt.datetime, discharged: dt.datetime, stated: float
) -> dict[str, Any]:
    return {
        "encounter_id": encounter,
        "patient_key": patient,
        "facility_id": draw.choice(("f1", "f1", "f2", None)),
        "admitted_at": at,
        "discharged_at": discharged,
        "admission_type": draw.choice(("emergency", "urgent", "elective", "newborn", "unknown", None)),
        "admission_source": draw.choice(("emergency_room", "transfer_acute", "physician_referral", None)),
        "discharge_disposition": draw.choice(_DISPOSITIONS),
        "service": draw.choice(("cardiology", "oncology", None)),
        "payer": draw.choice(("medicare", "commercial", None)),
        "is_planned": draw.choice((True, False, False, None)),
        "readmitted_30d": draw.random() < 0.5 if draw.random() < stated else None,
    }


def _records(draw: random.Random, patient: str, rows: dict[str, list[dict[str, Any]]]) -> None:
    born = dt.date(draw.choice((1940, 1960, 2003, 2004)), draw.randint(1, 12), draw.randint(1, 28))
    for _ in range(draw.randint(0, 3)):
        recorded = _FIRST + dt.timedelta(hours=draw.randrange(24 * 600))
        dead = recorded.date() - dt.timedelta(days=draw.randint(0, 40)) if draw.random() < 0.2 else None
        rows["patients"].append(
            {
                "patient_key": patient,
                "birth_date": draw.choice((born, born, None)),
                "sex": draw.choice(("female", "male")),
                "race": draw.choice(("a", "b", None)),
                "income": draw.choice((20_000.0, 70_000.0, None)),
                "deceased_on": dead,
                "recorded_at": recorded,
            }
        )


def _facts(
    draw: random.Random,
    encounter: str,
    patient: str,
    at: dt.datetime,
    discharged: dt.datetime,
    rows: dict[str, list[dict[str, Any]]],
) -> None:
    length = discharged - at

    def event(system: str, code: str, number: float | None, text: str | None) -> None:
        time = at + length * draw.random()
        recorded = time + dt.timedelta(hours=draw.choice((0, 1, 20, 200, 900)))
        rows["clinical_events"].append(
            {
                "patient_key": patient,
                "encounter_id": draw.choice((encounter, encounter, encounter, None)),
                "time": time,
                "recorded_at": recorded,
                "code_system": system,
                "code": code,
                "numeric_value": number,
                "text_value": text,
                # most land by when they were recorded, some a month later
                "month": (recorded + dt.timedelta(days=draw.choice((0, 0, 0, 31)))).date().replace(day=1),
            }
        )

    for position in range(draw.randint(0, 4)):
        text = "principal" if position == 0 else "secondary"
        system = draw.choice(("ICD10CM", "ICD9CM"))
        event(system, draw.choice(_ICD10 if system == "ICD10CM" else _ICD9), draw.choice((position, None)), text)
    for _ in range(draw.randint(0, 4)):
        event("LOINC", draw.choice(_LOINC), draw.choice((draw.uniform(1, 200), 12.0, None)), draw.choice((">8", None)))
    for _ in range(draw.randint(0, 3)):
        event("RXNORM", draw.choice(_RXNORM), None, draw.choice(("steady", "up", "started", None)))
        event("DRUG", draw.choice(_DRUGS), None, draw.choice(("steady", "down", None)))
    if draw.random() < 0.3:
        event("CPT4", draw.choice(("99283", "12345")), None, None)
        event("SOURCE", draw.choice(("prior_inpatient_1y", "medications")), float(draw.randint(0, 12)), None)
    for number in range(draw.randint(0, 2)):
        charged = round(draw.uniform(100, 9000), 2)
        rows["claims"].append(
            {
                "claim_id": f"{encounter}-{number}",
                "encounter_id": encounter,
                "patient_key": patient,
                "processed_at": discharged + dt.timedelta(days=draw.choice((-1, 5, 30, 90))),
                "charged": charged,
                "allowed": draw.choice((round(charged * 0.6, 2), None)),
                "payer_paid": draw.choice((round(charged * 0.5, 2), 0.0)),
                "patient_paid": draw.choice((round(charged * 0.1, 2), None)),
                "denied": draw.choice((True, False, None)),
            }
        )
