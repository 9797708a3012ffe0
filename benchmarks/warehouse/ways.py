"""Four ways to do the same backfill; each runs in a process of its own and prints one JSON object.

``python -m benchmarks.warehouse.ways <way> <home> <landing> <admissions> <months> <threads> [<stock months>]``
"""

from __future__ import annotations

import json
import resource
import sys
import time
from pathlib import Path
from typing import Any

from benchmarks.warehouse.landing import Scale
from benchmarks.warehouse.measure import timed_storage
from benchmarks.warehouse.steps import settings_of, steps
from health_pipeline.settings import Settings
from health_pipeline.warehouse import Warehouse


def bare(settings: Settings, scale: Scale) -> dict[str, Any]:
    """One plain DuckDB connection with the same settings: create the tables, insert the same SELECTs."""
    from health_pipeline.warehouse.backends import backend_of
    from health_pipeline.warehouse.declarations import conform
    from health_pipeline.warehouse.store import STRETCH_MONTHS

    seconds = {}
    connection = backend_of(settings).open(read_only=False)
    for step in steps(settings, scale.range):
        begun = time.perf_counter()
        conform(connection, step.table)
        query = step.query()
        parts = [query]
        if query.for_months:
            parts = [query.for_months(some) for some in step.months.stretches(STRETCH_MONTHS)]
        for part in parts:
            connection.execute(f"INSERT INTO {step.table.qualified} BY NAME {part.sql}", dict(part.parameters) or None)
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
        stored = timed_storage(instance.event_log_storage)
        outcomes = [execute(defs, run, instance) for run in plan_runs(defs, scale.range)]
    errors = [error for outcome in outcomes for error in outcome.errors]
    return {"errors": errors, "event_seconds": stored["seconds"], "events": stored["events"]}


def stock(settings: Settings, scale: Scale, months: int) -> dict[str, Any]:
    """dagster-duckdb-pandas as it comes: the same SQL over pandas frames, a run for each month.

    The history of the tables is copied from the warehouse beforehand (not timed); the last months are run.
    """
    from benchmarks.warehouse.stock import run_months

    return run_months(settings, scale, months)


def main(way: str, home: str, landing: str, *numbers: str) -> None:
    """Run one way and print what it took."""
    admissions, months, threads, *stock_months = map(int, numbers)
    scale = Scale(admissions, months)
    settings = settings_of(Path(home), Path(landing), scale, threads)
    if way == "dagster":
        import health_pipeline.defs.build  # noqa: F401  a code location is loaded before its runs
    before, begun = resource.getrusage(resource.RUSAGE_SELF), time.perf_counter()
    found = {"bare": bare, "manager": manager, "dagster": dagster, "stock": stock}[way](settings, scale, *stock_months)
    after = resource.getrusage(resource.RUSAGE_SELF)
    taken = {
        "wall": time.perf_counter() - begun,
        "cpu": after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime,
        "peak_gib": after.ru_maxrss / 2**20,
    }
    print(json.dumps(taken | found))


if __name__ == "__main__":
    main(*sys.argv[1:])
