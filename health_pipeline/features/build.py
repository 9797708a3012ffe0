"""The feature query: one statement for a whole range of months."""

from __future__ import annotations

from health_pipeline.cohort import index_admissions_sql
from health_pipeline.features.catalogue import FEATURES, PARTS
from health_pipeline.features.part import LOOKBACK_MONTHS, WINDOW_DAYS, Inputs
from health_pipeline.months import MonthRange, shift
from health_pipeline.settings import Settings
from health_pipeline.warehouse.slices import Query, Slice


def features_query(
    admissions: Slice, patients: Slice, events: Slice, claims: Slice, months: MonthRange, settings: Settings
) -> Query:
    """One row per index discharge with every feature of the catalogue.

    Every source is read once, joined to the stays by patient and cut at the discharge; a feature sees rows with
    ``recorded_at`` (claims: ``processed_at``) up to the discharge that landed by its month, and nothing else. Empty
    sources give NULLs, never fewer rows.

    Args:
        admissions: silver.admissions of the months and the ``LOOKBACK_MONTHS - 1`` before.
        patients: silver.patients of all months up to the range.
        events: silver.clinical_events, as admissions.
        claims: silver.claims, as admissions.
        months: months of the discharges.
        settings: names the cohort definition.

    Raises:
        SettingsError: the cohort definition cannot be read.
    """
    inputs = Inputs(admissions, patients, events, claims)
    ctes = {
        "stay": f"""
    SELECT row_number() OVER (ORDER BY month, encounter_id) AS stay_id, i.*,
        discharged_at - INTERVAL {WINDOW_DAYS} DAY AS window_start,
        month - INTERVAL {LOOKBACK_MONTHS - 1} MONTH AS first_landing
    FROM {index_admissions_sql(admissions, patients, events, months, settings)} AS i"""
    }
    joins = []
    for part in PARTS:
        ctes |= part.ctes(inputs)
        joins += [f"LEFT JOIN {name} ON {name}.stay_id = s.stay_id" for name in part.joined]
    with_clause = ",\n".join(f"{name} AS MATERIALIZED ({sql}\n)" for name, sql in ctes.items())
    columns = ",\n    ".join(f"({item.sql})::{item.sql_type} AS {item.name}" for item in FEATURES)
    tables = "\n".join(joins)
    return Query(
        f"""
WITH {with_clause}
SELECT s.month, s.encounter_id, s.patient_key, s.discharged_at,
    {columns}
FROM stay AS s
{tables}
""",
        for_months=lambda some: features_query(
            _seen_by(admissions, some),
            _seen_by(patients, some),
            _seen_by(events, some),
            _seen_by(claims, some),
            some,
            settings,
        ),
    )


def _seen_by(given: Slice, months: MonthRange) -> Slice:
    """What of an input the features of some months may see; all earlier months of what reaches back further."""
    first = max(given.months.first, shift(months.first, -LOOKBACK_MONTHS))
    if given.table.name == "patients":
        first = given.months.first
    last = min(given.months.last, months.last)
    return given.only(MonthRange(first, last)) if first <= last else given
