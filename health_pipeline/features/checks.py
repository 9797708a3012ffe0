"""Checks of features: rows match the cohort, nothing comes from the future, nulls and categories as usual."""

from __future__ import annotations

from health_pipeline.cohort import ATTRITION
from health_pipeline.contracts.warehouse_tables import SILVER
from health_pipeline.features.catalogue import FEATURE_TABLE
from health_pipeline.features.future_check import features_see_no_future
from health_pipeline.features.surprise_checks import null_rates_usual, unseen_categories
from health_pipeline.months import MonthRange
from health_pipeline.settings import Settings
from health_pipeline.verdicts import Check, Verdict
from health_pipeline.warehouse.slices import Slice
from health_pipeline.warehouse.store import Warehouse


def _features_match_cohort(
    warehouse: Warehouse,
    months: MonthRange,
    settings: Settings,  # noqa: ARG001
) -> list[Verdict]:
    warehouse.ensure(FEATURE_TABLE, ATTRITION, SILVER["admissions"])
    sql = f"""
        SELECT month, sum(rows)::BIGINT AS rows, sum(strays)::BIGINT AS strays, sum(index)::BIGINT AS index
        FROM (
            SELECT f.month, count(*) AS rows, count(*) FILTER (a.encounter_id IS NULL) AS strays, 0 AS index
            FROM {Slice(FEATURE_TABLE, months)} AS f
            LEFT JOIN {Slice(SILVER["admissions"], months)} AS a ON a.month = f.month
                AND a.encounter_id = f.encounter_id AND a.patient_key = f.patient_key
                AND a.discharged_at = f.discharged_at
            GROUP BY f.month
            UNION ALL
            SELECT month, 0, 0, arg_max(remaining, step) FROM {Slice(ATTRITION, months)} GROUP BY month
        )
        GROUP BY month"""
    found = {row["month"]: row for row in warehouse.fetch(sql, f"features and cohort {months}").to_pylist()}
    verdicts = []
    for month in months:
        row = found.get(month, {"rows": 0, "strays": 0, "index": 0})
        passed = row["rows"] == row["index"] and not row["strays"]
        summary = f"{row['rows']:,} rows for {row['index']:,} index admissions"
        if not passed:
            summary += f", {row['strays']:,} of them no stay of the month; materialise features and attrition again"
        verdicts.append(
            Verdict(month, passed, summary, numbers={name: row[name] for name in ("rows", "index", "strays")})
        )
    return verdicts


CHECKS: tuple[Check, ...] = (
    Check(
        "features_match_cohort",
        FEATURE_TABLE.qualified,
        "One row for each index admission of the month, and for nothing else.",
        _features_match_cohort,
        blocking=True,
        reads=(ATTRITION.qualified, SILVER["admissions"].qualified),
    ),
    Check(
        "features_see_no_future",
        FEATURE_TABLE.qualified,
        "Rows of a sample of patients, made again without what was recorded after mid-month, are the same.",
        features_see_no_future,
        blocking=True,
        reads=tuple(table.qualified for table in SILVER.values()),
    ),
    Check(
        "null_rates_usual",
        FEATURE_TABLE.qualified,
        "Features that suddenly lack values; models treat them as missing, scoring goes on.",
        null_rates_usual,
    ),
    Check(
        "unseen_categories",
        FEATURE_TABLE.qualified,
        "Share of values that no month of the year before had; models treat them as unseen, scoring goes on.",
        unseen_categories,
    ),
)
