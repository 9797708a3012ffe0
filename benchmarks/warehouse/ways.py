"""Four ways to do the same backfill; each runs in a process of its own and prints one JSON object.

``python -m benchmarks.warehouse.ways <way> <home> <landing> <admissions> <months> <threads>``
"""

from __future__ import annotations

import json
import resource
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

from benchmarks.warehouse.landing import Scale
from benchmarks.warehouse.steps import settings_of, steps
from health_pipeline.settings import Settings
from health_pipeline.warehouse import Warehouse

STOCK_MONTHS = 6


def bare(settings: Settings, scale: Scale) -> dict[str, Any]:
    """One plain DuckDB connection with the same settings: create the tables, insert the same SELECTs."""
    from health_pipeline.warehouse.backends import backend_of
    from health_pipeline.warehouse.declarations import conform

    seconds = {}
    connection = backend_of(settings).open(read_only=False)
    for step in steps(settings, scale.range):
        begun = time.perf_counter()
        conform(connection, step.table)
        query = step.query()
        connection.execute(f"INSERT INTO {step.table.qualified} BY NAME {query.sql}", dict(query.parameters) or None)
        seconds[step.table.qualified] = time.perf_counter() - begun
    connection.close()
    return {"steps": seconds}


def manager(settings: Settings, scale: Scale) -> dict[str, Any]:
    """``Warehouse.replace``, which is what the IO manager does with an asset's query."""
    seconds = {}
    warehouse = Warehouse.from_settings(settings)
    for step in steps(settings, scale.range):
        begun = time.perf_counter()
        warehouse.replace(step.table, step.months, step.query())
        seconds[step.table.qualified] = time.perf_counter() - begun
    return {"steps": seconds}


def dagster(settings: Settings, scale: Scale) -> dict[str, Any]:
    """The graph's own assets in Dagster runs on a SQLite instance, without asset checks."""
    import dagster as dg

    from health_pipeline.defs import bronze, gold, silver
    from health_pipeline.defs.build import tables
    from health_pipeline.defs.instance import open_instance
    from health_pipeline.defs.partitions import Partitions
    from health_pipeline.defs.runner import execute, plan_runs
    from health_pipeline.warehouse import build_io_manager

    partitions = Partitions.of(settings)
    assets = [asset for part in (bronze, silver, gold) for asset in part.build(settings, partitions)]
    defs = dg.Definitions(
        assets,
        resources={"io_manager": build_io_manager(settings, tables(settings))},
        executor=dg.in_process_executor,
    )
    with open_instance(settings) as instance:
        stored = _timed(instance.event_log_storage)
        outcomes = [execute(defs, run, instance) for run in plan_runs(defs, scale.range)]
    errors = [error for outcome in outcomes for error in outcome.errors]
    return {"errors": errors, "event_seconds": stored["seconds"], "events": stored["events"]}


def _timed(storage: Any) -> dict[str, float]:
    """Count what is stored in the event log, and the time it takes."""
    spent = {"seconds": 0.0, "events": 0, "depth": 0}

    def timed(method: Callable[..., Any], count: Callable[[Any], int]) -> Callable[..., Any]:
        def call(argument: Any) -> Any:
            begun = time.perf_counter()
            spent["depth"] += 1
            try:
                return method(argument)
            finally:
                spent["depth"] -= 1
                if not spent["depth"]:  # a batch stores its events one by one
                    spent["seconds"] += time.perf_counter() - begun
                    spent["events"] += count(argument)

        return call

    storage.store_event = timed(storage.store_event, lambda _: 1)
    storage.store_event_batch = timed(storage.store_event_batch, len)
    return spent


def stock(settings: Settings, scale: Scale) -> dict[str, Any]:
    """dagster-duckdb-pandas as it comes: the same SQL over pandas frames, a run for each month.

    The history of the table is copied from the warehouse beforehand (not timed); the last months are run.
    """
    from benchmarks.warehouse.stock import run_months

    return run_months(settings, scale, STOCK_MONTHS)


def main(way: str, home: str, landing: str, admissions: str, months: str, threads: str) -> None:
    scale = Scale(int(admissions), int(months))
    settings = settings_of(Path(home), Path(landing), scale, int(threads))
    before, begun = resource.getrusage(resource.RUSAGE_SELF), time.perf_counter()
    found = {"bare": bare, "manager": manager, "dagster": dagster, "stock": stock}[way](settings, scale)
    after = resource.getrusage(resource.RUSAGE_SELF)
    print(
        json.dumps(
            {
                "wall": time.perf_counter() - begun,
                "cpu": after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime,
                "peak_gib": after.ru_maxrss / 2**20,
                **found,
            }
        )
    )


if __name__ == "__main__":
    main(*sys.argv[1:7])
