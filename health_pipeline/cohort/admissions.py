"""Index admissions: the discharges for which a readmission is predicted, by what is known when they happen."""

from __future__ import annotations

from health_pipeline.cohort.definition import Definition, load_definition
from health_pipeline.cohort.sql import icd, literal, literals, starts_with_any
from health_pipeline.months import MonthRange
from health_pipeline.settings import Settings
from health_pipeline.warehouse.slices import Slice

# Months before M whose admissions and events may decide whether a discharge of M is an index: enough for
# `days_since_last_discharge` and for diagnoses of a stay that were recorded in earlier months.
LOOKBACK_MONTHS = 2

PRINCIPAL = "principal"


def principal_diagnoses_sql(events: Slice, months: MonthRange) -> str:
    """SELECT of the principal diagnosis of each stay: encounter_id, patient_key, landed, recorded_at, diagnosis.

    Args:
        events: silver.clinical_events.
        months: landing months to read; a diagnosis is the ICD code without its dot.
    """
    return f"""
        SELECT encounter_id, patient_key, month AS landed, recorded_at, {icd("code")} AS diagnosis
        FROM {events} AS e
        WHERE code_system IN ('ICD10CM', 'ICD9CM') AND text_value = {literal(PRINCIPAL)} AND encounter_id IS NOT NULL
          AND month BETWEEN DATE '{months.first}' AND DATE '{months.last}'"""


def judged_admissions_sql(
    admissions: Slice, patients: Slice, events: Slice, months: MonthRange, settings: Settings
) -> str:
    """SELECT of all discharges of the months, each with the first rule that excludes it (NULL: an index admission).

    Columns: those of silver.admissions, then ``exclusion``. Reads nothing that was recorded after the discharge and
    nothing that landed after its month, so that a run of many months judges like a run of one.

    Raises:
        SettingsError: the cohort definition cannot be read.
    """
    definition = load_definition(settings.cohort.definition)
    rules = "\n".join(
        f"            WHEN {condition} THEN {literal(reason)}"
        for reason, condition in _exclusions(definition, admissions, events, months)
    )
    return f"""(
        SELECT a.*, CASE
{rules}
            ELSE NULL END AS exclusion
        FROM {admissions} AS a
        LEFT JOIN (
            SELECT s.encounter_id, s.month, arg_max(p.birth_date, (p.recorded_at, p.month, p.birth_date)) AS birth_date
            FROM {admissions} AS s
            JOIN {patients} AS p ON p.patient_key = s.patient_key
              AND p.recorded_at <= s.discharged_at AND p.month <= s.month AND p.birth_date IS NOT NULL
            WHERE s.month BETWEEN DATE '{months.first}' AND DATE '{months.last}'
            GROUP BY s.encounter_id, s.month
        ) AS b ON b.encounter_id = a.encounter_id AND b.month = a.month
        WHERE a.month BETWEEN DATE '{months.first}' AND DATE '{months.last}'
    )"""


def index_admissions_sql(
    admissions: Slice, patients: Slice, events: Slice, months: MonthRange, settings: Settings
) -> str:
    """SQL fragment (to put after FROM) of the index admissions of the months: the columns of silver.admissions.

    Features and labels both start from it, so that their rows are the same.
    """
    judged = judged_admissions_sql(admissions, patients, events, months, settings)
    return f"(SELECT * EXCLUDE (exclusion) FROM {judged} WHERE exclusion IS NULL)"


def exclusion_reasons(definition: Definition) -> tuple[str, ...]:
    """Reasons in the order in which they are applied."""
    index = definition.index
    reasons = [exclusion.reason for exclusion in index.exclusions]
    reasons.append("under_age")
    if index.unknown_age == "exclude":
        reasons.append("age_unknown")
    if index.principal_diagnoses:
        reasons.append("other_condition")
    if index.days_since_last_discharge:
        reasons.append("follows_another_stay")
    return tuple(reasons)


def _exclusions(definition: Definition, admissions: Slice, events: Slice, months: MonthRange) -> list[tuple[str, str]]:
    index = definition.index
    conditions = {
        exclusion.reason: f"a.{exclusion.column} IN ({literals(exclusion.values)})" for exclusion in index.exclusions
    }
    conditions["under_age"] = f"date_sub('year', b.birth_date, a.admitted_at::DATE) < {index.min_age_years}"
    conditions["age_unknown"] = "b.birth_date IS NULL"
    conditions["other_condition"] = f"""NOT EXISTS (
                FROM ({principal_diagnoses_sql(events, months.widen(before=LOOKBACK_MONTHS))}) AS d
                WHERE d.encounter_id = a.encounter_id AND d.patient_key = a.patient_key
                  AND d.recorded_at <= a.discharged_at
                  AND d.landed BETWEEN a.month - INTERVAL {LOOKBACK_MONTHS} MONTH AND a.month
                  AND {starts_with_any("d.diagnosis", index.principal_diagnoses)})"""
    conditions["follows_another_stay"] = f"""EXISTS (
                FROM {admissions} AS earlier
                WHERE earlier.patient_key = a.patient_key AND earlier.encounter_id <> a.encounter_id
                  AND earlier.discharged_at <= a.admitted_at
                  AND earlier.discharge_disposition IS DISTINCT FROM 'still_patient'
                  AND earlier.discharged_at::DATE >= a.admitted_at::DATE - {index.days_since_last_discharge}
                  AND earlier.month BETWEEN a.month - INTERVAL {LOOKBACK_MONTHS} MONTH AND a.month)"""
    return [(reason, conditions[reason]) for reason in exclusion_reasons(definition)]
