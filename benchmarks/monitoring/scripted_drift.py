"""Whether monitoring sees the simulator's scripted drift, event by event.

    python -m benchmarks.monitoring.scripted_drift <home of a finished demo> [--features-only]

Reads ``gold`` and ``models`` of the home and computes drift and performance again, writing nothing. With
``--features-only`` a champion trained for every sixth month is said to be in force, and only features are compared.
"""

from __future__ import annotations

import argparse
import json
import shutil
import tempfile
from pathlib import Path

import pyarrow as pa

from health_pipeline.cohort.tables import LABELS
from health_pipeline.features import FEATURE_TABLE
from health_pipeline.modeling.tables import PREDICTIONS
from health_pipeline.monitoring import DRIFT, PERFORMANCE, drift_months, month_statuses, performance_months
from health_pipeline.months import MonthRange, month_key, months_between, shift
from health_pipeline.promotion.tables import CHAMPION
from health_pipeline.settings import load_settings
from health_pipeline.sources.simulator.script import SCRIPT
from health_pipeline.warehouse import Slice, Warehouse
from health_pipeline_tests.monitoring.hospital import champion_rows


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("home")
    parser.add_argument("--features-only", action="store_true")
    arguments = parser.parse_args()
    with tempfile.TemporaryDirectory() as scratch:
        shutil.copytree(
            arguments.home, scratch, dirs_exist_ok=True, ignore=shutil.ignore_patterns("dagster", "landing")
        )
        settings = load_settings(home=Path(scratch))
        warehouse = Warehouse.from_settings(settings)
        warehouse.ensure(PREDICTIONS, CHAMPION)
        months = MonthRange(settings.first_model_month, settings.months.last)
        if arguments.features_only:
            rows = [
                champion_rows(MonthRange(m, m), model_month=shift(m, -(months_between(months.first, m) % 6)))
                for m in months
            ]
            warehouse.replace(CHAMPION, months, pa.concat_tables(rows))
        history = settings.months
        features, predictions = Slice(FEATURE_TABLE, history), Slice(PREDICTIONS, history)
        champion = Slice(CHAMPION, months)
        drift = drift_months(warehouse, features, predictions, champion, months, settings)
        warehouse.replace(DRIFT, months, drift)
        if not arguments.features_only:
            table = performance_months(warehouse, predictions, Slice(LABELS, history), champion, months, settings)
            warehouse.replace(PERFORMANCE, months, table)
        events = {shift(settings.start_month, event.month): event for event in SCRIPT}
        for status in month_statuses(warehouse, months):
            event = events.get(status.month)
            line = {
                "month": month_key(status.month),
                "event": event.name if event else None,
                "drift": status.drift,
                "performance": status.performance,
                "alarms": status.subjects,
            }
            print(json.dumps(line))


if __name__ == "__main__":
    main()
