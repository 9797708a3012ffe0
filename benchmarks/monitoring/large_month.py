"""Time and memory of monitoring one month of 100,000 admissions and 120 features against a year of them.

    python -m benchmarks.monitoring.large_month [--rows 100000] [--features 120] [--memory-limit 600MB]

The tables are written by one process; drift and performance are then computed in a fresh one each, whose peak memory is
reported; DuckDB's part of it, mostly cached pages, is what ``--memory-limit`` allows. Three roles are scored (two
candidates and the champion), outcomes are known but for the last month's.
"""

from __future__ import annotations

import argparse
import json
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import health_pipeline.features as features_room
from health_pipeline.cohort.tables import LABELS
from health_pipeline.modeling.tables import PREDICTIONS
from health_pipeline.monitoring import drift_months, performance_months
from health_pipeline.months import MonthRange, parse_month, shift
from health_pipeline.promotion.tables import CHAMPION
from health_pipeline.settings import Settings, WarehouseSettings, load_settings
from health_pipeline.warehouse import Column, Query, Slice, Table, Warehouse
from health_pipeline_tests.monitoring.hospital import champion_rows

START = parse_month("2020-01")
GROUPS = (
    ("sex", "VARCHAR", "['female', 'male'][1 + i % 2]"),
    ("race", "VARCHAR", "['white', 'black', 'asian', 'hispanic', 'other'][1 + i % 5]"),
    ("payer", "VARCHAR", "['medicare', 'medicaid', 'commercial', 'self_pay'][1 + i % 4]"),
    ("age_years", "DOUBLE", "18 + i % 80"),
    ("discharge_disposition", "VARCHAR", "['home', 'home_health', 'skilled_nursing', 'rehabilitation'][1 + i % 4]"),
    ("prior_inpatient_365d_log", "DOUBLE", "ln(1 + i % 3)"),
    ("prior_emergency_365d_log", "DOUBLE", "ln(1 + i % 2)"),
    ("charlson_heart_failure", "BOOLEAN", "i % 6 = 0"),
    ("charlson_chronic_pulmonary", "BOOLEAN", "i % 7 = 0"),
    ("admission_type", "VARCHAR", "['emergency', 'urgent', 'elective'][1 + i % 3]"),
    ("length_of_stay_days", "DOUBLE", "i % 11"),
)
"""Columns of segments and strata, with the SQL that fills them."""


def table_of(features: int) -> Table:
    return Table(
        "gold",
        "features",
        (
            Column("month", "DATE"),
            Column("encounter_id", "VARCHAR"),
            *(Column(name, type_) for name, type_, _ in GROUPS),
            *(Column(f"number_{i}", "DOUBLE") for i in range(features * 3 // 4)),
            *(Column(f"category_{i}", "VARCHAR") for i in range(features - features * 3 // 4)),
        ),
        key=("encounter_id",),
    )


def settings_of(home: str, reference_months: int, memory_limit: str) -> Settings:
    windows = {"training_months": reference_months, "min_training_months": reference_months}
    return load_settings(
        home=Path(home),
        start_month="2020-01",
        end_month="2029-12",
        windows=windows,
        warehouse={"memory_limit": memory_limit},
    )


def write(settings: Settings, rows: int, features: int) -> None:
    warehouse = Warehouse.from_settings(settings)
    table, month = table_of(features), settings.first_model_month
    numbers = ", ".join(f"ln(1 + random() * {i + 2})::FLOAT::DOUBLE AS number_{i}" for i in range(features * 3 // 4))
    words = ", ".join(
        f"'c' || floor(random() * random() * {3 + i})::INT AS category_{i}" for i in range(features - features * 3 // 4)
    )
    for current in MonthRange(START, month):
        keys = f"DATE '{current}' AS month, '{current}-' || i AS encounter_id"
        groups = ", ".join(f"{sql} AS {name}" for name, _, sql in GROUPS)
        sql = f"SELECT {keys}, {groups}, {numbers}, {words} FROM range({rows}) t(i)"
        warehouse.replace(table, MonthRange(current, current), Query(sql))
    one = MonthRange(month, month)
    warehouse.replace(CHAMPION, one, champion_rows(one))
    scored = MonthRange(START, month)
    scores = (
        "SELECT month, encounter_id, encounter_id AS patient_key, 'logistic_regression-a' AS model_id, "
        "role AS model_role, random() AS probability, random() < 0.2 AS label, 0.5 AS confidence, "
        "TIMESTAMP '2024-01-01' AS inference_dt, '' AS feature_hash, NULL AS warnings "
        f"FROM {Slice(table, scored)}, unnest(['model_1', 'model_2', 'champion']) AS roles(role)"
    )
    warehouse.replace(PREDICTIONS, scored, Query(scores))
    matured = MonthRange(START, shift(month, -1))
    outcomes = (
        "SELECT month, encounter_id, encounter_id AS patient_key, month::TIMESTAMP AS discharged_at, "
        "random() < 0.15 AS readmitted_30d, NULL AS readmitted_at, 'derived' AS outcome_source, 'a' AS cohort_version "
        f"FROM {Slice(table, matured)}"
    )
    warehouse.replace(LABELS, matured, Query(outcomes))


def peak_mib() -> int:
    """Largest resident size of this program so far; ``getrusage`` would begin with that of the parent."""
    (line,) = (line for line in Path("/proc/self/status").read_text().splitlines() if line.startswith("VmHWM"))
    return int(line.split()[1]) // 1024


def measure(settings: Settings, features: int, what: str) -> None:
    warehouse, month = Warehouse.from_settings(settings), settings.first_model_month
    history = MonthRange(START, month)
    # Without outcomes the month is estimated only; performance is of the month before, whose outcomes have come.
    one = MonthRange(month, month) if what == "drift" else MonthRange(shift(month, -1), shift(month, -1))
    predictions, champion = Slice(PREDICTIONS, history), Slice(CHAMPION, one)
    features_room.FEATURE_TABLE = table_of(features)
    before = peak_mib()
    started, cpu = time.perf_counter(), time.process_time()
    if what == "drift":
        found = drift_months(warehouse, Slice(table_of(features), history), predictions, champion, one, settings)
    else:
        found = performance_months(warehouse, predictions, Slice(LABELS, history), champion, one, settings)
    report = {
        "what": what,
        "rows": found.num_rows,
        "seconds": round(time.perf_counter() - started, 2),
        "cpu_seconds": round(time.process_time() - cpu, 2),
        "peak_mib": peak_mib(),
        "of_that_before_mib": before,
    }
    print(json.dumps(report))


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--rows", type=int, default=100_000)
    parser.add_argument("--features", type=int, default=120)
    parser.add_argument("--reference-months", type=int, default=12)
    parser.add_argument("--memory-limit", default=WarehouseSettings().memory_limit)
    parser.add_argument("--measure", nargs=2, metavar=("HOME", "WHAT"))
    given = parser.parse_args()
    if given.measure:
        home, what = given.measure
        measure(settings_of(home, given.reference_months, given.memory_limit), given.features, what)
        return
    with tempfile.TemporaryDirectory() as home:
        write(settings_of(home, given.reference_months, given.memory_limit), given.rows, given.features)
        again = [sys.executable, "-m", "benchmarks.monitoring.large_month", *sys.argv[1:], "--measure", home]
        for what in ("drift", "performance"):
            subprocess.run([*again, what], check=True)


if __name__ == "__main__":
    main()
