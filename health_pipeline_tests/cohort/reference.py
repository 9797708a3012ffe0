"""The cohort and outcome once more, in plain Python: slow, naive, and written from docs/cohort.md, not from the SQL."""

from __future__ import annotations

import datetime as dt
from typing import Any

Row = dict[str, Any]

NOT_COUNTED = {"still_patient", "expired", "acute_transfer", "against_advice", "hospice"}


def next_month(month: dt.date) -> dt.date:
    return (month + dt.timedelta(days=32)).replace(day=1)


def months_before(month: dt.date, count: int) -> dt.date:
    for _ in range(count):
        month = (month - dt.timedelta(days=1)).replace(day=1)
    return month


def is_index(stay: Row, patients: list[Row], min_age: int = 18) -> bool:
    """Whether a discharge is an index, by what is known at that moment."""
    if stay["discharge_disposition"] in NOT_COUNTED or stay["admission_type"] == "newborn":
        return False
    known = [
        row
        for row in patients
        if row["patient_key"] == stay["patient_key"]
        and row["birth_date"] is not None
        and row["recorded_at"] <= stay["discharged_at"]
        and row["month"] <= stay["month"]
    ]
    if not known:
        return True
    born = max(known, key=lambda row: (row["recorded_at"], row["month"], row["birth_date"]))["birth_date"]
    admitted = stay["admitted_at"].date()
    age = admitted.year - born.year - ((admitted.month, admitted.day) < (born.month, born.day))
    return bool(age >= min_age)


def diagnosis_of(stay: Row, seen_from: Row, events: list[Row]) -> str | None:
    """Principal diagnosis of a stay as it had first landed when the label of ``seen_from`` matured."""
    first, last = months_before(seen_from["month"], 2), next_month(seen_from["month"])
    found = [
        (row["month"], row["recorded_at"], row["code"].replace(".", ""))
        for row in events
        if row["encounter_id"] == stay["encounter_id"]
        and row["patient_key"] == stay["patient_key"]
        and row["code_system"] in ("ICD9CM", "ICD10CM")
        and row["text_value"] == "principal"
        and first <= row["month"] <= last
    ]
    if not found:
        return None
    code = min(found)[2]
    return f"0{code}" if code == "389" else code  # the one ICD-9 category without its zero in the histories


def is_planned(stay: Row, diagnosis: str | None) -> bool:
    stated = stay["is_planned"] if stay["is_planned"] is not None else stay["admission_type"] == "elective"
    return bool(stated) or (diagnosis or "").startswith(("Z510", "Z511", "V580", "V581"))


def continues(stay: Row, later: Row, own: str | None, diagnosis: str | None) -> bool:
    """Whether a later stay continues the one before."""
    if None in (stay["facility_id"], later["facility_id"]):
        return False
    days = (later["admitted_at"].date() - stay["discharged_at"].date()).days
    if stay["facility_id"] == later["facility_id"]:
        return days == 0 and own is not None and diagnosis is not None and own[:3] == diagnosis[:3]
    return days <= 1 and later["admission_source"] == "transfer_acute"


def label(stay: Row, admissions: list[Row], events: list[Row]) -> tuple[bool, dt.datetime | None, str]:
    """Outcome, its moment, and where it comes from."""
    if stay["readmitted_30d"] is not None:
        return stay["readmitted_30d"], None, "source"
    own = diagnosis_of(stay, stay, events)
    place = (stay["admitted_at"], stay["discharged_at"], stay["encounter_id"])
    later = []
    for other in admissions:
        if other["patient_key"] != stay["patient_key"] or not (
            stay["month"] <= other["month"] <= next_month(stay["month"])
        ):
            continue
        if other["admitted_at"] < stay["discharged_at"]:
            continue
        if (other["admitted_at"], other["discharged_at"], other["encounter_id"]) <= place:
            continue
        if (other["admitted_at"].date() - stay["discharged_at"].date()).days > 30:
            continue
        diagnosis = diagnosis_of(other, stay, events)
        if continues(stay, other, own, diagnosis):
            continue
        later.append((other["admitted_at"], is_planned(other, diagnosis), other["encounter_id"]))
    if not later or min(later)[1]:
        return False, None, "derived"
    return True, min(later)[0], "derived"


def labels(admissions: list[Row], patients: list[Row], events: list[Row], months: set[dt.date]) -> list[Row]:
    """All labels of the months, ordered by month and stay."""
    landed = {row["month"] for row in admissions}
    rows = []
    for stay in admissions:
        if stay["month"] not in months or next_month(stay["month"]) not in landed or not is_index(stay, patients):
            continue
        outcome, moment, source = label(stay, admissions, events)
        rows.append(
            {
                "month": stay["month"],
                "encounter_id": stay["encounter_id"],
                "readmitted_30d": outcome,
                "readmitted_at": moment,
                "outcome_source": source,
            }
        )
    return sorted(rows, key=lambda row: (row["month"], row["encounter_id"]))
