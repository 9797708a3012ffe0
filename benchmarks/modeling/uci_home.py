"""Builds a home with the UCI Diabetes extract up to gold features and labels, through the rooms' own functions.

python benchmarks/modeling/uci_home.py <dataset_diabetes.zip or folder> <home> [<cohort definition>]
"""

from __future__ import annotations

import sys
import time
from pathlib import Path

from health_pipeline import cohort, features
from health_pipeline.contracts import BRONZE, SILVER, silver_query
from health_pipeline.months import MonthRange
from health_pipeline.settings import Settings
from health_pipeline.sources.ingest import ingest
from health_pipeline.sources.landing import bronze_query
from health_pipeline.warehouse import Slice, Warehouse

MONTHS = MonthRange.of("1999-01", "2007-06")


def uci_settings(home: Path, **sections: object) -> Settings:
    """Settings of the benchmark."""
    return Settings(home=home, start_month=MONTHS.first, end_month=MONTHS.last, **sections)


def build(extract: Path, home: Path, definition: str = "cms_30_day") -> None:
    settings = uci_settings(home, cohort={"definition": definition})
    started = time.perf_counter()

    def lap(name: str) -> None:
        nonlocal started
        print(f"{name:<24}{time.perf_counter() - started:8.1f} s", flush=True)
        started = time.perf_counter()

    report = ingest("uci", extract, settings)
    lap("ingest")
    print(report.rows, report.months)
    warehouse = Warehouse.from_settings(settings)
    for name, table in BRONZE.items():
        warehouse.replace(table, MONTHS, bronze_query(name, MONTHS, settings))
    lap("bronze")
    for name, table in SILVER.items():
        warehouse.replace(table, MONTHS, silver_query(name, Slice(BRONZE[name], MONTHS), settings))
    lap("silver")
    silver = {name: Slice(table, MONTHS) for name, table in SILVER.items()}
    inputs = {"admissions": silver["admissions"], "patients": silver["patients"], "events": silver["clinical_events"]}
    warehouse.replace(cohort.LABELS, MONTHS, cohort.labels_query(**inputs, months=MONTHS, settings=settings))
    lap("labels")
    query = features.features_query(**inputs, claims=silver["claims"], months=MONTHS, settings=settings)
    warehouse.replace(features.FEATURE_TABLE, MONTHS, query)
    lap("features")
    counts = warehouse.fetch(
        "SELECT count(*) AS rows, avg(l.readmitted_30d::INT) AS rate, count(DISTINCT month) AS months "
        "FROM gold.labels AS l JOIN gold.features USING (month, encounter_id)",
        "count",
    )
    print(counts.to_pylist())


if __name__ == "__main__":
    build(Path(sys.argv[1]), Path(sys.argv[2]), *sys.argv[3:4])
