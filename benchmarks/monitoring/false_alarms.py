"""How often stable months alarm: 200 months of a hospital in which nothing changes but the season and chance.

    python -m benchmarks.monitoring.false_alarms [--rows 800] [--months 200] [--unrest 0.05]

``unrest`` is the standard deviation of random month effects (in standard deviations of a numeric feature) on top of a
yearly wave of twice that size; 0 draws every month from the same distribution. A new champion, fitted on the twelve
months before, comes into force every six months.
"""

from __future__ import annotations

import argparse
import json
import tempfile
import time
from collections import Counter
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa

from health_pipeline.monitoring import DRIFT, PERFORMANCE, drift_months, month_statuses, performance_months
from health_pipeline.monitoring.statuses import rows_of
from health_pipeline.months import Month, MonthRange, months_between, parse_month, shift
from health_pipeline.promotion.tables import CHAMPION
from health_pipeline.warehouse import Warehouse
from health_pipeline_tests.monitoring.hospital import Change, champion_rows, fill, settings_for

START = parse_month("2000-01")


def unrest_of(month: Month, size: float) -> Change:
    """Month effects: the same in every run, different for each column."""

    def change(found: dict[str, Any], random: np.random.Generator) -> None:
        effects = np.random.default_rng([99, month.year, month.month])
        wave = 2 * size * np.sin(2 * np.pi * month.month / 12)
        rows = found["age"].size
        for name in sorted(found):
            shift_by = effects.normal(0, size) + wave * (hash_of(name) % 3 - 1)
            if name.startswith("number_") or name == "age":
                found[name] = found[name] + shift_by * (16 if name == "age" else 1)
            elif name.startswith("category_") or name in {"sex", "payer"}:
                common = found[name][0]
                moved = random.random(rows) < abs(shift_by) * 0.25
                found[name] = np.where(moved, common, found[name])
            elif name == "flag":
                found[name] = random.random(rows) < 0.3 + 0.2 * shift_by

    return change


def hash_of(name: str) -> int:
    return sum(map(ord, name))


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--rows", type=int, default=800)
    parser.add_argument("--months", type=int, default=200)
    parser.add_argument("--unrest", type=float, default=0.05)
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--drift-only", action="store_true", help="leave out performance, which takes longer")
    arguments = parser.parse_args()
    with tempfile.TemporaryDirectory() as home:
        settings = settings_for(Path(home), start_month="2000-01", end_month="2030-12")
        warehouse = Warehouse.from_settings(settings)
        first = shift(settings.first_model_month, 1)
        months = MonthRange(first, shift(first, arguments.months - 1))
        history = MonthRange(START, shift(months.last, 1))
        changes = {month: unrest_of(month, arguments.unrest) for month in history} if arguments.unrest else None
        features, predictions, labels, champion = fill(
            warehouse, settings, history, rows=arguments.rows, seed=arguments.seed, changes=changes, roles=("champion",)
        )
        models = champion.months
        in_force = [
            champion_rows(
                MonthRange(month, month), model_month=shift(month, -(months_between(models.first, month) % 6))
            )
            for month in models
        ]
        warehouse.replace(CHAMPION, models, pa.concat_tables(in_force))
        started = time.perf_counter()
        warehouse.replace(DRIFT, months, drift_months(warehouse, features, predictions, champion, months, settings))
        drift_seconds = time.perf_counter() - started
        if not arguments.drift_only:
            table = performance_months(warehouse, predictions, labels, champion, months, settings)
            warehouse.replace(PERFORMANCE, months, table)
        statuses = month_statuses(warehouse, months)
        gaps = [
            abs(row["value"])
            for row in rows_of(warehouse, PERFORMANCE, months, "kind = 'reconciliation' AND metric = 'roc_auc'")
            if row["value"] is not None
        ]
        report = {
            "rows_per_month": arguments.rows,
            "months": arguments.months,
            "unrest": arguments.unrest,
            "drift_alarm_share": share(status.drift == "alarm" for status in statuses),
            "drift_warning_share": share(status.drift == "warning" for status in statuses),
            "performance_alarm_share": share(status.performance == "alarm" for status in statuses),
            "performance_warning_share": share(status.performance == "warning" for status in statuses),
            **concept_shares(warehouse, months),
            "any_alarm_share": share(status.violates for status in statuses),
            "no_data_months": sum(status.drift == "no_data" for status in statuses),
            "median_gap_estimated_realised_auroc": round(float(np.median(gaps)), 4) if gaps else None,
            "alarming_subjects": Counter(name for status in statuses for name in status.subjects).most_common(8),
            "warning_metrics": Counter(
                f"{row['subject_kind']} {row['metric']} {row['reference']}"
                for row in rows_of(warehouse, DRIFT, months, "status = 'warning' AND subject_kind <> 'summary'")
            ).most_common(8),
            "drift_seconds": round(drift_seconds, 1),
        }
        print(json.dumps(report, indent=1))


def concept_shares(warehouse: Warehouse, months: MonthRange) -> dict[str, float]:
    """How often the tests of a changed concept spoke, of the months that had enough history."""
    rows = rows_of(warehouse, PERFORMANCE, months, "kind = 'concept' AND metric = 'concept_change'")
    known = [row["status"] for row in rows if row["status"] != "no_data"]
    if not known:
        return {}
    return {f"concept_{status}_share": share(each == status for each in known) for status in ("alarm", "warning")}


def share(found: Any) -> float:
    values = list(found)
    return round(sum(values) / len(values), 4)


if __name__ == "__main__":
    main()
