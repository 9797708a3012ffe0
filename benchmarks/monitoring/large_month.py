"""Time and memory of monitoring one month of 100,000 admissions and 120 features against a year of them.

    python -m benchmarks.monitoring.large_month [--rows 100000] [--features 120] [--reference-months 12]

The tables are written by one process; drift is then computed in a fresh one, whose peak memory is reported.
"""

from __future__ import annotations

import argparse
import json
import resource
import subprocess
import sys
import tempfile
import time
from pathlib import Path

from health_pipeline.modeling.tables import PREDICTIONS
from health_pipeline.monitoring import drift_months
from health_pipeline.months import MonthRange, parse_month, shift
from health_pipeline.promotion.tables import CHAMPION
from health_pipeline.settings import Settings, load_settings
from health_pipeline.warehouse import Column, Query, Slice, Table, Warehouse
from health_pipeline_tests.monitoring.hospital import champion_rows

START = parse_month("2020-01")


def table_of(features: int) -> Table:
    return Table(
        "gold",
        "features",
        (
            Column("month", "DATE"),
            Column("encounter_id", "VARCHAR"),
            *(Column(f"number_{i}", "DOUBLE") for i in range(features * 3 // 4)),
            *(Column(f"category_{i}", "VARCHAR") for i in range(features - features * 3 // 4)),
        ),
        key=("encounter_id",),
    )


def settings_of(home: str, reference_months: int) -> Settings:
    windows = {"training_months": reference_months, "min_training_months": reference_months}
    return load_settings(home=Path(home), start_month="2020-01", end_month="2029-12", windows=windows)


def write(settings: Settings, rows: int, features: int) -> None:
    warehouse = Warehouse.from_settings(settings)
    table, month = table_of(features), settings.first_model_month
    numbers = ", ".join(f"ln(1 + random() * {i + 2})::FLOAT::DOUBLE AS number_{i}" for i in range(features * 3 // 4))
    words = ", ".join(
        f"'c' || floor(random() * random() * {3 + i})::INT AS category_{i}" for i in range(features - features * 3 // 4)
    )
    for current in MonthRange(START, month):
        keys = f"DATE '{current}' AS month, '{current}-' || i AS encounter_id"
        sql = f"SELECT {keys}, {numbers}, {words} FROM range({rows}) t(i)"
        warehouse.replace(table, MonthRange(current, current), Query(sql))
    one = MonthRange(month, month)
    warehouse.replace(CHAMPION, one, champion_rows(one))
    scored = MonthRange(shift(month, -1), month)
    scores = (
        "SELECT month, encounter_id, encounter_id AS patient_key, 'logistic_regression-a' AS model_id, "
        "'champion' AS model_role, random() AS probability, random() < 0.2 AS label, 0.5 AS confidence, "
        f"TIMESTAMP '2024-01-01' AS inference_dt, '' AS feature_hash, NULL AS warnings FROM {Slice(table, scored)}"
    )
    warehouse.replace(PREDICTIONS, scored, Query(scores))


def measure(settings: Settings, features: int) -> None:
    warehouse, month = Warehouse.from_settings(settings), settings.first_model_month
    history = MonthRange(START, month)
    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    started, cpu = time.perf_counter(), time.process_time()
    one = MonthRange(month, month)
    found = drift_months(
        warehouse,
        Slice(table_of(features), history),
        Slice(PREDICTIONS, history),
        Slice(CHAMPION, one),
        one,
        settings,
    )
    report = {
        "rows": found.num_rows,
        "seconds": round(time.perf_counter() - started, 2),
        "cpu_seconds": round(time.process_time() - cpu, 2),
        "peak_mib": resource.getrusage(resource.RUSAGE_SELF).ru_maxrss // 1024,
        "of_that_before_mib": before // 1024,
    }
    print(json.dumps(report))


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--rows", type=int, default=100_000)
    parser.add_argument("--features", type=int, default=120)
    parser.add_argument("--reference-months", type=int, default=12)
    parser.add_argument("--measure", metavar="HOME")
    arguments = parser.parse_args()
    if arguments.measure:
        measure(settings_of(arguments.measure, arguments.reference_months), arguments.features)
        return
    with tempfile.TemporaryDirectory() as home:
        write(settings_of(home, arguments.reference_months), arguments.rows, arguments.features)
        command = [sys.executable, "-m", "benchmarks.monitoring.large_month", *sys.argv[1:], "--measure", home]
        subprocess.run(command, check=True)


if __name__ == "__main__":
    main()
