"""A real warehouse with random silver tables and the gold tables made from them, for tests of checks."""

from __future__ import annotations

import shutil
from pathlib import Path

from health_pipeline.cohort import ATTRITION, LABELS, attrition_query, labels_query
from health_pipeline.contracts.warehouse_tables import SILVER
from health_pipeline.features import FEATURE_TABLE, features_query
from health_pipeline.months import MonthRange
from health_pipeline.settings import Settings
from health_pipeline.verdicts import Check, Verdict
from health_pipeline.warehouse.slices import Slice
from health_pipeline.warehouse.store import Warehouse
from health_pipeline_tests.histories import random_hospital

ALL = MonthRange.of("2020-01", "2024-12")
MONTHS = MonthRange.of("2021-06", "2021-12")
BAD = MonthRange.of("2021-08")
"""Month in which tests put their faults."""


def checked_warehouse(home: Path, months: MonthRange, seed: int = 7) -> tuple[Warehouse, Settings]:
    """Silver of a random hospital; features, labels and attrition of the months."""
    settings = Settings(home=home)
    warehouse = Warehouse.from_settings(settings)
    hospital = random_hospital(seed, patients=150, stays=5, days=500)
    for name, table in SILVER.items():
        rows = hospital.connection.execute(f"SELECT DISTINCT * FROM silver.{name}").to_arrow_table()
        warehouse.replace(table, ALL, rows)
    admissions, patients, events, claims = (
        Slice(SILVER[name], ALL) for name in ("admissions", "patients", "clinical_events", "claims")
    )
    warehouse.replace(LABELS, months, labels_query(admissions, patients, events, months, settings))
    warehouse.replace(ATTRITION, months, attrition_query(admissions, patients, events, months, settings))
    warehouse.replace(FEATURE_TABLE, months, features_query(admissions, patients, events, claims, months, settings))
    return warehouse, settings


def copy_of(settings: Settings, home: Path) -> tuple[Warehouse, Settings]:
    """The same warehouse in another home, to be broken."""
    shutil.copytree(settings.home, home)
    copied = Settings(home=home)
    return Warehouse.from_settings(copied), copied


def verdicts(
    checks: tuple[Check, ...], name: str, warehouse: Warehouse, months: MonthRange, settings: Settings
) -> list[Verdict]:
    """Verdicts of one check; there has to be one for each month, in order."""
    (check,) = (check for check in checks if check.name == name)
    found = list(check.evaluate(warehouse, months, settings))
    assert [verdict.month for verdict in found] == list(months)
    return found


def corrupt(warehouse: Warehouse, sql: str) -> None:
    """Change stored rows behind the pipeline's back."""
    with warehouse.write("test: corrupt") as connection:
        connection.execute(sql)
