"""Groups of patients in which a changed concept shows: what LACE, HOSPITAL and readmission programmes go by.

They are fixed before any outcome is seen, and few, so that a test over all of them keeps its power.
"""

from __future__ import annotations

from collections.abc import Sequence

_STRATA = (
    ("discharge_disposition", "discharge_disposition", "{column}::VARCHAR"),
    (
        "prior_stays",
        "prior_inpatient_365d_log",
        "CASE WHEN {column} < 0.5 THEN '0' WHEN {column} < 1.2 THEN '1-2' ELSE '3+' END",
    ),
    ("prior_emergency", "prior_emergency_365d_log", "CASE WHEN {column} > 0 THEN 'yes' ELSE 'no' END"),
    ("heart_failure", "charlson_heart_failure", "CASE WHEN {column} THEN 'yes' ELSE 'no' END"),
    ("chronic_pulmonary", "charlson_chronic_pulmonary", "CASE WHEN {column} THEN 'yes' ELSE 'no' END"),
    ("admission_type", "admission_type", "{column}::VARCHAR"),
    (
        "length_of_stay",
        "length_of_stay_days",
        "CASE WHEN {column} < 3 THEN '0-2' WHEN {column} < 7 THEN '3-6' ELSE '7+' END",
    ),
    ("payer", "payer", "{column}::VARCHAR"),
    ("age_75", "age_years", "CASE WHEN {column} >= 75 THEN 'yes' ELSE 'no' END"),
)


def strata_sql(columns: Sequence[str], alias: str) -> dict[str, str]:
    """SQL expression of each stratum that the columns offer; NULL becomes ``unknown``.

    Args:
        columns: columns of the features relation.
        alias: its alias in the query.
    """
    return {
        name: f"CASE WHEN {alias}.{column} IS NULL THEN 'unknown' ELSE {sql.format(column=f'{alias}.{column}')} END"
        for name, column, sql in _STRATA
        if column in columns
    }
