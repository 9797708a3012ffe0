"""Natural drift of UCI Diabetes 130: which features alarm, in how many months, with a champion fitted once a year.

    python -m benchmarks.monitoring.uci_drift <home with gold.features of the UCI months>

Only features are compared (no model is needed for that): a champion is said to be in force, trained for every twelfth
month, and the features of each month are measured against its training window.
"""

from __future__ import annotations

import json
import sys
import tempfile
from collections import Counter, defaultdict
from pathlib import Path

import pyarrow as pa

from health_pipeline.features import FEATURE_TABLE
from health_pipeline.modeling.tables import PREDICTIONS
from health_pipeline.monitoring import drift_months
from health_pipeline.months import MonthRange, month_key, months_between, shift
from health_pipeline.promotion.tables import CHAMPION
from health_pipeline.settings import load_settings
from health_pipeline.warehouse import Column, Slice, Table, Warehouse
from health_pipeline_tests.monitoring.hospital import champion_rows


def main(home: str) -> None:
    source = Warehouse.from_settings(load_settings(home=Path(home)))
    with source.read("UCI features") as connection:
        features = connection.execute(f"SELECT * FROM {FEATURE_TABLE.qualified}").to_arrow_table()
        described = connection.execute(f"DESCRIBE {FEATURE_TABLE.qualified}").fetchall()
        first, last = connection.execute(f"SELECT min(month), max(month) FROM {FEATURE_TABLE.qualified}").fetchone()
    history = MonthRange(first, last)
    table = Table("gold", "features", tuple(Column(name, kind) for name, kind, *_ in described), key=("encounter_id",))
    with tempfile.TemporaryDirectory() as scratch:
        settings = load_settings(
            home=Path(scratch),
            start_month=first,
            end_month=last,
            windows={"training_months": 24, "min_training_months": 12},
        )
        warehouse = Warehouse.from_settings(settings)
        warehouse.replace(table, history, features)
        warehouse.ensure(PREDICTIONS)
        months = MonthRange(settings.first_model_month, last)
        rows = [
            champion_rows(
                MonthRange(month, month), model_month=shift(month, -(months_between(months.first, month) % 12))
            )
            for month in months
        ]
        warehouse.replace(CHAMPION, months, pa.concat_tables(rows))
        found = drift_months(
            warehouse,
            Slice(table, history),
            Slice(PREDICTIONS, history),
            Slice(CHAMPION, months),
            months,
            settings,
        ).to_pylist()
    alarms: Counter[str] = Counter()
    warnings: Counter[str] = Counter()
    since: dict[str, str] = {}
    worst: dict[str, float] = defaultdict(float)
    months_in_alarm = set()
    for row in found:
        if row["status"] == "warning" and row["subject_kind"] == "feature" and row["reference"] == "training_window":
            warnings[f"{row['subject']} {row['metric']}"] += 1
        if row["status"] == "alarm" and row["subject_kind"] == "feature" and row["reference"] == "training_window":
            months_in_alarm.add(row["month"])
            alarms[f"{row['subject']} {row['metric']}"] += 1
            since.setdefault(row["subject"], month_key(row["month"]))
            worst[row["subject"]] = max(worst[row["subject"]], abs(row["value"]))
    print(
        json.dumps(
            {
                "months": len(months),
                "months_in_alarm": len(months_in_alarm),
                "alarms_by_feature": alarms.most_common(40),
                "warnings_by_feature": warnings.most_common(40),
                "first_alarm": since,
            },
            indent=1,
        )
    )


if __name__ == "__main__":
    main(sys.argv[1])
