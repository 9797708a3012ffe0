"""The label store: who came back unplanned within 30 days, said only when it can be known."""

from __future__ import annotations

from health_pipeline.cohort.admissions import LOOKBACK_MONTHS, index_admissions_sql, principal_diagnoses_sql
from health_pipeline.cohort.definition import OutcomeRules, load_definition
from health_pipeline.cohort.sql import literal, literals, starts_with_any
from health_pipeline.months import MonthRange
from health_pipeline.settings import Settings
from health_pipeline.warehouse.slices import Query, Slice

# Months after M whose admissions the outcome of M rests on.
LOOKAHEAD_MONTHS = 1


def labels_query(admissions: Slice, patients: Slice, events: Slice, months: MonthRange, settings: Settings) -> Query:
    """Labels of the index discharges of the months that have matured.

    The outcome of month M rests on what landed in M and M+1 and on nothing later. M has matured when M+1 is part of
    the slice **and** has discharges; before that M gets no rows at all.

    Args:
        admissions: silver.admissions from ``LOOKBACK_MONTHS`` before the range to one month after it.
        patients: silver.patients, all earlier months to one month after the range.
        events: silver.clinical_events, as admissions.
        months: months of the labels.
        settings: names the cohort definition.

    Raises:
        SettingsError: the cohort definition cannot be read.
    """
    definition = load_definition(settings.cohort.definition)
    return Query(
        f"""
WITH closed AS (
    SELECT DISTINCT (month - INTERVAL {LOOKAHEAD_MONTHS} MONTH)::DATE AS month
    FROM {admissions} AS a
), stay AS (
    SELECT s.* FROM {index_admissions_sql(admissions, patients, events, months, settings)} AS s
    JOIN closed ON closed.month = s.month
), diagnosis AS ({principal_diagnoses_sql(events, months.widen(before=LOOKBACK_MONTHS, after=LOOKAHEAD_MONTHS))}
), later AS ({_later_stays_sql(admissions, definition.outcome)}
), event AS ({_events_sql(patients, definition.outcome)}
)
SELECT
    s.month, s.encounter_id, s.patient_key, s.discharged_at,
    {_outcome("coalesce(e.happened, false)", definition.outcome)} AS readmitted_30d,
    CASE WHEN e.happened AND NOT {_is_stated(definition.outcome)} THEN e.happened_at END AS readmitted_at,
    CASE WHEN {_is_stated(definition.outcome)} THEN 'source' ELSE 'derived' END AS outcome_source,
    {literal(definition.cohort_version)} AS cohort_version
FROM stay AS s
LEFT JOIN event AS e ON e.encounter_id = s.encounter_id AND e.month = s.month
"""
    )


def _is_stated(outcome: OutcomeRules) -> str:
    return "(s.readmitted_30d IS NOT NULL)" if outcome.source_outcome == "preferred" else "false"


def _outcome(derived: str, outcome: OutcomeRules) -> str:
    return f"coalesce(s.readmitted_30d, {derived})" if outcome.source_outcome == "preferred" else derived


def _later_stays_sql(admissions: Slice, outcome: OutcomeRules) -> str:
    """Stays that begin within the window and do not continue the one before, each with ``is_planned``."""
    planned, continuation = outcome.planned, outcome.continuation
    unstated = (
        f"admission_type IN ({literals(planned.admission_types_when_unstated)})"
        if planned.admission_types_when_unstated
        else "false"
    )
    same_day = """same_facility AND happened_at::DATE = discharged_at::DATE
        AND left(diagnosis, 3) = left(own_diagnosis, 3)"""
    transfer = f"""NOT same_facility AND admission_source = 'transfer_acute'
        AND happened_at::DATE <= discharged_at::DATE + {continuation.transfer_in_days}"""
    return f"""
    SELECT encounter_id, month, happened_at, later_id,
        coalesce(stated_planned, {unstated}, false)
            OR coalesce({starts_with_any("diagnosis", planned.diagnoses)}, false) AS is_planned
    FROM (
        SELECT s.encounter_id, s.month, s.discharged_at, r.encounter_id AS later_id, r.admitted_at AS happened_at,
            r.is_planned AS stated_planned, r.admission_type, r.admission_source,
            r.facility_id = s.facility_id AS same_facility,
            {_diagnosis_sql("r")} AS diagnosis,
            {_diagnosis_sql("s")} AS own_diagnosis
        FROM stay AS s
        JOIN {admissions} AS r ON r.patient_key = s.patient_key
            AND r.month BETWEEN s.month AND s.month + INTERVAL {LOOKAHEAD_MONTHS} MONTH
            AND r.admitted_at >= s.discharged_at
            AND r.admitted_at::DATE <= s.discharged_at::DATE + {outcome.window_days}
            -- of two stays without length at the same moment one is the later
            AND (r.admitted_at, r.discharged_at, r.encounter_id) > (s.admitted_at, s.discharged_at, s.encounter_id)
    )
    WHERE NOT coalesce({same_day if continuation.same_day else "false"}, false)
      AND NOT coalesce({transfer if continuation.transfer_in_days >= 0 else "false"}, false)"""


def _diagnosis_sql(stay: str) -> str:
    """Principal diagnosis of a stay, as it had first landed by the time the label matured."""
    return f"""(
                SELECT arg_min(d.diagnosis, (d.landed, d.recorded_at, d.diagnosis)) FROM diagnosis AS d
                WHERE d.encounter_id = {stay}.encounter_id AND d.patient_key = {stay}.patient_key
                  AND d.landed BETWEEN s.month - INTERVAL {LOOKBACK_MONTHS} MONTH
                    AND s.month + INTERVAL {LOOKAHEAD_MONTHS} MONTH)"""


def _events_sql(patients: Slice, outcome: OutcomeRules) -> str:
    """One row per stay with an event in its window: encounter_id, month, happened, happened_at."""
    considered = "true" if outcome.planned.ends_window else "NOT is_planned"
    events = f"""
        SELECT encounter_id, month, happened_at, is_planned, later_id
        FROM later WHERE {considered}"""
    if outcome.death == "counted":
        events += f"""
        UNION ALL
        SELECT s.encounter_id, s.month, greatest(dead.deceased_on::TIMESTAMP, s.discharged_at), false, ''
        FROM stay AS s
        JOIN (
            SELECT s.encounter_id, s.month,
                arg_max(p.deceased_on, (p.recorded_at, p.month, p.deceased_on)) AS deceased_on
            FROM stay AS s
            JOIN {patients} AS p ON p.patient_key = s.patient_key
                AND p.month <= s.month + INTERVAL {LOOKAHEAD_MONTHS} MONTH
            GROUP BY s.encounter_id, s.month
        ) AS dead ON dead.encounter_id = s.encounter_id AND dead.month = s.month
            AND dead.deceased_on >= s.discharged_at::DATE
            AND dead.deceased_on <= s.discharged_at::DATE + {outcome.window_days}"""
    return f"""
    SELECT encounter_id, month,
        NOT arg_min(is_planned, (happened_at, is_planned, later_id)) AS happened,
        min(happened_at) AS happened_at
    FROM ({events}
    )
    GROUP BY encounter_id, month"""
