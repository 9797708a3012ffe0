"""Many processes that write and read different months of one warehouse, at once or one after another.

Run as a program: ``python -m health_pipeline_tests.warehouse.crowd <settings json> <processes> <rounds> <rows> <mode>``
with mode ``together`` or ``sequence``. Forks before DuckDB is opened; prints one JSON object: seconds, errors, and the
longest wait of any process for one operation.
"""

from __future__ import annotations

import json
import os
import sys
import time

import duckdb

from health_pipeline.errors import PipelineError
from health_pipeline.months import MonthRange, parse_month, shift
from health_pipeline.settings import Settings
from health_pipeline.warehouse import Slice, Warehouse
from health_pipeline_tests.warehouse.conftest import VISITS, visits

FIRST = parse_month("2022-01")


def work(settings: Settings, number: int, rounds: int, rows: int) -> dict[str, object]:
    """Replace the own month, read it back, read the neighbour's; what was seen and how long it took at most."""
    warehouse = Warehouse.from_settings(settings)
    own, neighbour = shift(FIRST, number), shift(FIRST, number + 1)
    month, other = MonthRange(own, own), MonthRange(neighbour, neighbour)
    errors, longest = [], 0.0
    for turn in range(rounds):
        begun = time.monotonic()
        try:
            warehouse.replace(VISITS, month, visits(f"{own:%Y-%m}", rows=rows + turn))
            with warehouse.read(f"{own:%Y-%m}") as connection:
                seen = connection.execute(f"SELECT count(*), max(month) FROM {Slice(VISITS, month)}").fetchone()
                whole = connection.execute(f"SELECT count(*) FROM {Slice(VISITS, other)}").fetchone()[0]
            if seen != (rows + turn, own) or (whole and not rows <= whole < rows + rounds):
                errors.append(f"saw {seen} and {whole}")
        except (PipelineError, duckdb.Error) as error:
            errors.append(f"{type(error).__name__}: {error}")
        longest = max(longest, time.monotonic() - begun)
    return {"errors": errors, "longest": longest}


def start(settings: Settings, number: int, rounds: int, rows: int) -> tuple[int, int]:
    """Process id and the reading end of its report."""
    reader, writer = os.pipe()
    child = os.fork()
    if child == 0:
        try:
            os.write(writer, json.dumps(work(settings, number, rounds, rows)).encode())
        finally:
            os._exit(0)
    os.close(writer)
    return child, reader


def finish(child: int, reader: int) -> dict[str, object]:
    """The report of a process; one that died has an error."""
    with os.fdopen(reader, "rb") as pipe:
        said = pipe.read()
    os.waitpid(child, 0)
    return json.loads(said) if said else {"errors": ["died"], "longest": 0.0}


def main(settings_json: str, processes: int, rounds: int, rows: int, mode: str) -> None:
    settings = Settings.model_validate_json(settings_json)
    begun = time.monotonic()
    if mode == "together":
        started = [start(settings, number, rounds, rows) for number in range(processes)]
        reports = [finish(*one) for one in started]
    else:
        reports = [finish(*start(settings, number, rounds, rows)) for number in range(processes)]
    summary = {
        "seconds": time.monotonic() - begun,
        "errors": [error for report in reports for error in report["errors"]],
        "longest": max(report["longest"] for report in reports),
    }
    sys.stdout.write(json.dumps(summary))


if __name__ == "__main__":
    main(sys.argv[1], *map(int, sys.argv[2:5]), sys.argv[5])
