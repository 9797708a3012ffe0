"""Every rule of the cohort, by its table."""

from __future__ import annotations

import datetime as dt
import json
import tomllib
from pathlib import Path

import pytest

from health_pipeline.cohort import attrition_query, labels_query
from health_pipeline.cohort.admissions import judged_admissions_sql
from health_pipeline.cohort.definition import load_definition
from health_pipeline.months import MonthRange, parse_month
from health_pipeline.settings import CohortSettings, Settings
from health_pipeline_tests.cohort.page import PAGE, render
from health_pipeline_tests.cohort.specification import CASES, COLUMNS, Case
from health_pipeline_tests.silver import Hospital

MONTHS = MonthRange.of("2022-01", "2022-03")
_BOOLEANS = {"yes": True, "no": False, "": None}


def hospital_of(case: Case) -> Hospital:
    hospital = Hospital()
    stays, events = [], []
    for row in case.rows:
        stay = {COLUMNS[name]: cell or None for name, cell in row.items() if name in COLUMNS}
        for name in ("is_planned", "readmitted_30d"):
            if name in stay:
                stay[name] = _BOOLEANS[stay[name] or ""]
        defaults = {"facility_id": "north", "admission_type": "emergency", "discharge_disposition": "home"}
        stays.append(defaults | stay)
        if row.get("diagnosis"):
            events.append(
                {
                    "patient_key": row["patient"],
                    "encounter_id": row["stay"],
                    "time": row["admitted"],
                    "recorded_at": row["admitted"],
                    "code_system": "ICD10CM",
                    "code": row["diagnosis"],
                    "text_value": "principal",
                }
            )
    last = max(str(row["discharged_at"])[:7] for row in stays)
    for month in MonthRange(parse_month("2022-01"), parse_month(case.closed)):
        if f"{month:%Y-%m}" > "2022-01" or case.closed == "2022-01":
            # another patient, so that the month has landed
            day = f"{month:%Y-%m}-02"
            stays.append(
                {
                    "encounter_id": f"other-{day}",
                    "patient_key": f"other-{day}",
                    "admitted_at": day,
                    "discharged_at": day,
                    "discharge_disposition": "expired",
                }
            )
    assert last <= case.closed
    hospital.add("admissions", stays)
    hospital.add("clinical_events", events)
    records = [
        {"patient_key": patient, "birth_date": born, "recorded_at": "2021-12-01"} for patient, born in case.born.items()
    ] + [
        {"patient_key": patient, "deceased_on": day, "recorded_at": f"{day} 23:00"}
        for patient, day in case.died.items()
    ]
    for record in records:
        record.setdefault("birth_date", None)
        record.setdefault("deceased_on", None)
    for name in ("birth_date", "deceased_on"):
        for record in records:
            value = record[name]
            record[name] = value and dt.date.fromisoformat(value)
    hospital.add("patients", records)
    return hospital


def settings_of(case: Case, folder: Path) -> Settings:
    if not case.changes:
        return Settings()
    rules = load_definition("cms_30_day").model_dump(mode="json")
    for path, value in case.changes.items():
        *sections, name = path.split(".")
        target = rules
        for section in sections:
            target = target[section]
        assert name in target
        target[name] = value
    file = folder / "changed.toml"
    file.write_text(to_toml(rules), encoding="utf-8")
    return Settings(cohort=CohortSettings(definition=str(file)))


def to_toml(rules: dict[str, object], prefix: str = "") -> str:
    plain, nested = [], []
    for name, value in rules.items():
        if isinstance(value, dict):
            nested.append(f"[{prefix}{name}]\n" + to_toml(value, f"{prefix}{name}."))
        elif isinstance(value, list) and value and isinstance(value[0], dict):
            nested += [f"[[{prefix}{name}]]\n" + to_toml(item) for item in value]
        else:
            plain.append(f"{name} = {json.dumps(value)}\n")
    text = "".join(plain) + "".join(nested)
    assert prefix or tomllib.loads(text)
    return text


def outcomes(hospital: Hospital, settings: Settings) -> dict[str, str]:
    slices = hospital.slices(MONTHS)
    three = (slices["admissions"], slices["patients"], slices["clinical_events"])
    found = {}
    for row in hospital.rows(f"SELECT * FROM {judged_admissions_sql(*three, MONTHS, settings)}"):
        found[row["encounter_id"]] = f"no index: {row['exclusion']}" if row["exclusion"] else "open"
    for row in hospital.rows(labels_query(*three, MONTHS, settings)):
        assert found[row["encounter_id"]] == "open"
        at = f" {row['readmitted_at']:%Y-%m-%d}" if row["readmitted_at"] else ""
        found[row["encounter_id"]] = f"readmitted{at}" if row["readmitted_30d"] else "not readmitted"
    return found


@pytest.mark.parametrize("case", CASES, ids=lambda case: case.title)
def test_rule(case: Case, tmp_path: Path) -> None:
    found = outcomes(hospital_of(case), settings_of(case, tmp_path))
    assert {row["stay"]: found[row["stay"]] for row in case.rows} == {row["stay"]: row["expected"] for row in case.rows}


@pytest.mark.parametrize("case", CASES, ids=lambda case: case.title)
def test_attrition_counts_every_exclusion_once(case: Case, tmp_path: Path) -> None:
    hospital, settings = hospital_of(case), settings_of(case, tmp_path)
    slices = hospital.slices(MONTHS)
    rows = hospital.rows(
        attrition_query(slices["admissions"], slices["patients"], slices["clinical_events"], MONTHS, settings),
        order="month, step",
    )
    for month in {row["month"] for row in rows}:
        steps = [row for row in rows if row["month"] == month]
        assert [row["step"] for row in steps] == list(range(len(steps)))
        left = steps[0]["remaining"]
        for row in steps[1:]:
            left -= row["excluded"]
            assert row["remaining"] == left
    expected = [row["expected"] for row in case.rows if row["expected"].startswith("no index")]
    for reason in set(expected):
        name = reason.removeprefix("no index: ")
        extra = 1 if name == "died_in_hospital" else 0  # the patients who close the months
        counted = sum(row["excluded"] for row in rows if row["reason"] == name)
        assert counted - extra * len(MonthRange.of("2022-02", "2022-03")) == expected.count(reason)


def test_the_page_is_current() -> None:
    assert PAGE.read_text(encoding="utf-8") == render(), "run `python -m health_pipeline_tests.cohort.page`"


def test_every_exclusion_of_the_definition_has_a_case() -> None:
    shown = {row["expected"].removeprefix("no index: ") for case in CASES for row in case.rows}
    reasons = {exclusion.reason for exclusion in load_definition("cms_30_day").index.exclusions}
    assert reasons <= shown
