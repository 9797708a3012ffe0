"""Attrition: how the discharges of a month become index admissions."""

from __future__ import annotations

from health_pipeline.cohort.admissions import exclusion_reasons, judged_admissions_sql
from health_pipeline.cohort.definition import load_definition
from health_pipeline.cohort.sql import literal
from health_pipeline.months import MonthRange
from health_pipeline.settings import Settings
from health_pipeline.warehouse.slices import Query, Slice

ALL_DISCHARGES = "all_discharges"


def attrition_query(admissions: Slice, patients: Slice, events: Slice, months: MonthRange, settings: Settings) -> Query:
    """Every exclusion of every month in order, with what it takes away and what it leaves.

    Step 0 holds all discharges; each rule has its row, also where it excludes nobody. What the last step leaves are
    the rows of ``gold.features`` of that month. Nothing that landed after the month is read.

    Raises:
        SettingsError: the cohort definition cannot be read.
    """
    definition = load_definition(settings.cohort.definition)
    steps = (ALL_DISCHARGES, *exclusion_reasons(definition))
    rows = ", ".join(f"({step}, {literal(reason)})" for step, reason in enumerate(steps))
    return Query(
        f"""
WITH judged AS MATERIALIZED (
    SELECT month, exclusion, count(*) AS discharges
    FROM {judged_admissions_sql(admissions, patients, events, months, settings)}
    GROUP BY month, exclusion
), counted AS (
    SELECT m.month, r.step, r.reason, m.total, coalesce(j.discharges, 0) AS excluded
    FROM (SELECT month, sum(discharges) AS total FROM judged GROUP BY month) AS m
    CROSS JOIN (VALUES {rows}) AS r (step, reason)
    LEFT JOIN judged AS j ON j.month = m.month AND j.exclusion = r.reason
)
SELECT month, step::INTEGER AS step, reason, excluded::BIGINT AS excluded,
    (total - sum(excluded) OVER (PARTITION BY month ORDER BY step))::BIGINT AS remaining,
    {literal(definition.cohort_version)} AS cohort_version
FROM counted
"""
    )
