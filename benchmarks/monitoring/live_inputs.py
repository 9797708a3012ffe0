"""How often equal inputs of live traffic alarm, and how soon other inputs do.

    python -m benchmarks.monitoring.live_inputs [--rows 800] [--asked 400] [--months 200]

Each month has its own batch and, drawn independently from the same distribution, what the API was asked: worse than in
a hospital, where it is asked about the very same stays. ``shifted`` moves one number by a part of its standard
deviation, ``mapped`` sends another word in a share of the rows, ``left_out`` leaves one number out in a share of them.
"""

from __future__ import annotations

import argparse
import json
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import duckdb
import numpy as np
import pyarrow as pa

from health_pipeline.monitoring.live_inputs import input_rows
from health_pipeline.months import Month, MonthRange, parse_month, shift
from health_pipeline.serving.input_counts import InputCounts
from health_pipeline.serving.schema import Feature
from health_pipeline.settings import Settings
from health_pipeline.warehouse import Slice
from health_pipeline_tests.monitoring.hospital import feature_table, month_rows, settings_for

START = parse_month("2000-01")
KINDS = {"DOUBLE": "number", "BOOLEAN": "boolean", "VARCHAR": "category"}
TABLE = feature_table()
INPUTS = {column.name: KINDS[column.type] for column in TABLE.columns[4:]}
Change = Callable[[dict[str, Any]], None]


def shifted(by: float) -> Change:
    def change(found: dict[str, Any]) -> None:
        found["number_0"] = found["number_0"] + by

    return change


def mapped(share: float) -> Change:
    def change(found: dict[str, Any]) -> None:
        rows = found["payer"].size
        found["payer"] = np.where(np.arange(rows) < share * rows, "another system's code", found["payer"])

    return change


def left_out(share: float) -> Change:
    def change(found: dict[str, Any]) -> None:
        rows = found["number_2"].size
        found["number_2"] = np.where(np.arange(rows) < share * rows, np.nan, found["number_2"])

    return change


CHANGES: dict[str, Change] = {
    "equal": lambda _found: None,
    **{f"shifted by {by} sd": shifted(by) for by in (0.25, 0.5, 1.0)},
    **{f"mapped in {share:.0%}": mapped(share) for share in (0.02, 0.05, 0.2)},
    **{f"left out in {share:.0%}": left_out(share) for share in (0.05, 0.1, 0.2)},
}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rows", type=int, default=800)
    parser.add_argument("--asked", type=int, default=400)
    parser.add_argument("--months", type=int, default=200)
    parser.add_argument("--changed-months", type=int, default=40)
    arguments = parser.parse_args()
    with tempfile.TemporaryDirectory() as home:
        settings = settings_for(Path(home))
        for name, change in CHANGES.items():
            began = time.perf_counter()
            months = arguments.months if name == "equal" else arguments.changed_months
            found = [judged(shift(START, number), arguments, change, settings) for number in range(months)]
            shares = {status: found.count(status) / months for status in ("alarm", "warning")}
            seconds = round((time.perf_counter() - began) / months, 3)
            print(json.dumps({"inputs": name, "months": months, **shares, "seconds_a_month": seconds}))


def judged(month: Month, arguments: argparse.Namespace, change: Change, settings: Settings) -> str:
    """Worst status of a month's inputs."""
    batch = month_rows(month, arguments.rows, seed=1)
    asked = month_rows(month, arguments.asked, seed=2)
    words = {name: tuple(sorted(set(batch[name]))) for name, kind in INPUTS.items() if kind == "category"}
    change(asked)
    with tempfile.TemporaryDirectory() as folder, duckdb.connect() as connection:
        count(asked, words, Path(folder), month)
        connection.execute("CREATE SCHEMA gold")
        connection.register("given", pa.table({name: batch[name] for name in TABLE.column_names}))
        numbers = ", ".join(
            f"nullif({name}, 'nan'::DOUBLE) AS {name}" for name, kind in INPUTS.items() if kind == "number"
        )
        connection.execute(f"CREATE TABLE {TABLE.qualified} AS SELECT * REPLACE ({numbers}) FROM given")
        slice_ = Slice(TABLE, MonthRange(month, month))
        rows = input_rows(connection, slice_, Path(folder), month, asked["age"].size, settings)
    statuses = {row["status"] for row in rows}
    return next((status for status in ("alarm", "warning") if status in statuses), "ok")


def count(asked: dict[str, Any], words: dict[str, tuple[str, ...]], folder: Path, month: Month) -> None:
    """What the API's log would have counted."""
    features = tuple(
        Feature(name, kind, words.get(name, ()))  # type: ignore[arg-type]
        for name, kind in INPUTS.items()
    )
    columns = [asked[name].tolist() for name in INPUTS]
    counts = InputCounts(folder)
    for row in zip(*columns, strict=True):
        values = tuple(None if isinstance(value, float) and np.isnan(value) else value for value in row)
        counts.add(features, values, (month.year, month.month))
    counts.write()


if __name__ == "__main__":
    main()
