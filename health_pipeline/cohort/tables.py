"""Declarations of ``gold.labels`` and ``gold.cohort_attrition``."""

from __future__ import annotations

from health_pipeline.warehouse.tables import Column, Table

LABELS = Table(
    schema="gold",
    name="labels",
    description="Outcome of every index discharge, once it has matured: a month without rows is open, not 'nobody'.",
    key=("month", "encounter_id"),
    columns=(
        Column("month", "DATE", "month of the discharge", nullable=False),
        Column("encounter_id", "VARCHAR", "stay that was discharged", nullable=False),
        Column("patient_key", "VARCHAR", "pseudonym of the patient", nullable=False),
        Column("discharged_at", "TIMESTAMP", "prediction moment", nullable=False),
        Column("readmitted_30d", "BOOLEAN", "came back unplanned within the window", nullable=False),
        Column("readmitted_at", "TIMESTAMP", "moment of the event; empty where the source states the outcome only"),
        Column("outcome_source", "VARCHAR", "derived: from later admissions; source: stated by it", nullable=False),
        Column("cohort_version", "VARCHAR", "definition that made the label", nullable=False),
    ),
)

ATTRITION = Table(
    schema="gold",
    name="cohort_attrition",
    description="How the discharges of a month become index admissions: every exclusion, in order, with counts.",
    key=("month", "step"),
    columns=(
        Column("month", "DATE", "month of the discharges", nullable=False),
        Column("step", "INTEGER", "order of the rules; 0 is all discharges", nullable=False),
        Column("reason", "VARCHAR", "rule that excludes", nullable=False),
        Column("excluded", "BIGINT", "discharges this rule takes away from those left by the rules before", False),
        Column("remaining", "BIGINT", "discharges that are left", nullable=False),
        Column("cohort_version", "VARCHAR", "definition that was applied", nullable=False),
    ),
)
