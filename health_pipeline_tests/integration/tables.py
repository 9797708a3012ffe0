"""What several ways to run the same months have to agree on: tables, and how their rows are compared."""

from __future__ import annotations

import duckdb

from health_pipeline.settings import Settings
from health_pipeline.warehouse import Warehouse

LANDED = (
    "bronze.admissions",
    "bronze.patients",
    "bronze.clinical_events",
    "bronze.claims",
    "silver.admissions",
    "silver.patients",
    "silver.clinical_events",
    "silver.claims",
    "quarantine.rejected_rows",
)
DERIVED = (
    "gold.features",
    "gold.labels",
    "gold.cohort_attrition",
    "models.logistic_regression",
    "models.xgboost",
    "models.champion",
    "gold.predictions",
    "monitoring.drift",
    "monitoring.performance",
)
RECORDED = ("trained_at", "mlflow_run_id", "mlflow_version")
"""When and under which number a model was recorded: no two trainings share them."""


def rows(settings: Settings, table: str, where: str = "true"):
    return Warehouse.from_settings(settings).fetch(f"SELECT * FROM {table} WHERE {where}", "test")


def differences(one: Settings, two: Settings, table: str, where: str = "true") -> tuple[int, int, int]:
    """Rows of the first, rows only there, rows only in the second."""
    left, right = rows(one, table, where), rows(two, table, where)
    names = [name for name in left.column_names if name not in RECORDED]
    return left.num_rows, *_only(left, right, names)


def differing_columns(one: Settings, two: Settings, table: str) -> list[str]:
    """Columns whose values differ in some month."""
    left, right = rows(one, table), rows(two, table)
    compared = [name for name in left.column_names if name not in (*RECORDED, "month")]
    return [name for name in compared if any(_only(left, right, ["month", name]))]


def _only(left, right, names: list[str]) -> list[int]:
    shown = ", ".join(f'"{name}"' for name in names)
    with duckdb.connect() as connection:
        connection.register("one", left)
        connection.register("two", right)
        sides = [f"(SELECT {shown} FROM {name})" for name in ("one", "two")]
        sql = "SELECT count(*) FROM (FROM {} EXCEPT ALL FROM {})"
        return [connection.execute(sql.format(*pair)).fetchone()[0] for pair in (sides, sides[::-1])]


def assert_the_same(one: Settings, two: Settings, tables) -> None:
    found = {table: differences(one, two, table) for table in tables}
    assert all(count > 0 for table, (count, _, _) in found.items() if table != "quarantine.rejected_rows"), found
    different = [table for table, (_, *only) in found.items() if any(only)]
    assert not different, {table: differing_columns(one, two, table) for table in different}
