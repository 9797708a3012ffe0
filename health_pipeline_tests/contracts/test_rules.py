"""Every rule of every contract says no once, and the good row breaks none."""

import pytest

from health_pipeline.contracts import LANDING_TABLES
from health_pipeline.months import MonthRange
from health_pipeline_tests.contracts.landing_samples import GOOD, land, row

MONTH = MonthRange.of("2023-01")

BREAKS = {
    "admissions": {
        "admitted_at_not_timestamp": {"admitted_at": "10 January"},
        "discharged_at_not_timestamp": {"discharged_at": "31.02.2023"},
        "is_planned_not_boolean": {"is_planned": "perhaps"},
        "readmitted_30d_not_boolean": {"readmitted_30d": "NO LATER"},
        "encounter_id_missing": {"encounter_id": None},
        "patient_id_missing": {"patient_id": "  "},
        "admitted_at_missing": {"admitted_at": None},
        "discharged_at_missing": {"discharged_at": None},
        "admitted_at_implausible": {"admitted_at": "1023-01-10"},
        "discharged_at_implausible": {"discharged_at": "2923-01-15"},
        "discharge_before_admission": {"admitted_at": "2023-01-16"},
        "discharged_at_outside_month": {"discharged_at": "2023-02-01 00:00:00"},
    },
    "patients": {
        "birth_date_not_date": {"birth_date": "1950-13-01"},
        "income_not_double": {"income": "nan"},
        "deceased_on_not_date": {"deceased_on": "yes"},
        "recorded_at_not_timestamp": {"recorded_at": "yesterday"},
        "patient_id_missing": {"patient_id": None},
        "recorded_at_missing": {"recorded_at": None},
        "recorded_at_implausible": {"recorded_at": "2023-03-01"},
        "birth_after_record": {"birth_date": "2023-01-11"},
        "birth_implausible": {"birth_date": "1850-01-01"},
        "deceased_on_implausible": {"deceased_on": "05-02-23", "birth_date": None},
        "death_before_birth": {"deceased_on": "1949-01-01"},
        "death_after_record": {"deceased_on": "2023-01-20"},
        "income_negative": {"income": "-1"},
    },
    "clinical_events": {
        "time_not_timestamp": {"time": "noon"},
        "recorded_at_not_timestamp": {"recorded_at": "noon"},
        "numeric_value_not_double": {"numeric_value": ">60"},
        "patient_id_missing": {"patient_id": None},
        "time_missing": {"time": None},
        "recorded_at_missing": {"recorded_at": None},
        "code_missing": {"code": None},
        "time_implausible": {"time": "1823-01-11"},
        "recorded_at_implausible": {"recorded_at": "2024-01-11"},
        "code_without_system": {"code": "2160-0"},
        "unit_unknown": {"code": "LOINC//2160-0//bananas"},
        "value_impossible": {"numeric_value": "106"},
    },
    "claims": {
        "service_from_not_timestamp": {"service_from": "x"},
        "service_to_not_timestamp": {"service_to": "x"},
        "processed_at_not_timestamp": {"processed_at": "x"},
        "charged_not_double": {"charged": "1,000.00"},
        "allowed_not_double": {"allowed": "inf"},
        "payer_paid_not_double": {"payer_paid": "$4"},
        "patient_paid_not_double": {"patient_paid": "four"},
        "denied_not_boolean": {"denied": "maybe"},
        "claim_id_missing": {"claim_id": None},
        "patient_id_missing": {"patient_id": None},
        "processed_at_missing": {"processed_at": None},
        "processed_at_implausible": {"processed_at": "1823-01-28"},
        "service_from_implausible": {"service_from": "1823-01-10"},
        "service_to_implausible": {"service_to": "2823-01-15"},
        "service_ends_before_begin": {"service_to": "2023-01-09"},
        "processed_before_service": {"processed_at": "2023-01-09 23:59:59"},
        "processed_at_outside_month": {"processed_at": "2023-02-01"},
        "charged_negative": {"charged": "-0.01"},
        "allowed_negative": {"allowed": "-5"},
        "payer_paid_negative": {"payer_paid": "-5"},
        "patient_paid_negative": {"patient_paid": "-5"},
        "charged_implausible": {"charged": "9999999999999999"},
        "allowed_implausible": {"allowed": "2e15"},
        "payer_paid_implausible": {"payer_paid": "1e300"},
        "patient_paid_implausible": {"patient_paid": "1e16"},
    },
}


@pytest.mark.parametrize("name", LANDING_TABLES)
def test_every_rule_has_a_case_here(name):
    assert set(BREAKS[name]) == {rule.name for rule in LANDING_TABLES[name].all_rules}


@pytest.mark.parametrize("name", LANDING_TABLES)
def test_rows_are_quarantined_by_the_rule_they_break(name, settings, tables):
    cases = BREAKS[name]
    if name != "admissions":
        land(settings, "admissions", "2023-01", [row("admissions")])
    land(settings, name, "2023-01", [GOOD[name], *(row(name, **changes) for changes in cases.values())])
    tables.run(MONTH)

    rejected = tables.dicts(
        f"SELECT source_row, rule, reason FROM quarantine.rejected_rows WHERE table_name = '{name}' ORDER BY source_row"
    )
    reasons = {rule.name: rule.reason for rule in LANDING_TABLES[name].all_rules}
    assert [found["source_row"] for found in rejected] == list(range(2, len(cases) + 2))
    for found, (rule, changes) in zip(rejected, cases.items(), strict=True):
        assert reasons[rule] in found["reason"], rule
        assert found["rule"] in reasons
        assert not any(value and value.strip() and value in found["reason"] for value in changes.values()), rule
    assert tables.rows(f"SELECT count(*) FROM silver.{name}") == [(1,)]


def test_the_first_broken_rule_names_the_row_and_all_are_told(settings, tables):
    land(settings, "admissions", "2023-01", [row("admissions"), row("admissions", encounter_id=None, is_planned="?")])
    tables.run(MONTH)
    (found,) = tables.dicts("SELECT rule, reason FROM quarantine.rejected_rows")
    assert found == {
        "rule": "is_planned_not_boolean",
        "reason": "is_planned cannot be read as BOOLEAN; encounter_id has no value",
    }
