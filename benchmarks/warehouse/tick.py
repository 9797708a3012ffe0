"""Tick: one new month through the whole graph, and how long the definitions take to load.

``python -m benchmarks.warehouse.tick``

Overhead is the wall time of the month's runs, in a process that has loaded the definitions, minus what the steps
themselves took; the time that steps spend on storing events counts as overhead.
"""

from __future__ import annotations

import argparse
import json
import os
import resource
import subprocess
import sys
import time
from pathlib import Path

from benchmarks.warehouse.measure import median_ratio, run_json, save, scratch, timed_storage, verdict


def month(home: str, first: str, last: str) -> dict[str, object]:
    """Run the whole graph for some months of the simulated hospital; called in a process of its own."""
    from health_pipeline.clock import system_clock
    from health_pipeline.defs.build import build_definitions
    from health_pipeline.defs.instance import open_instance
    from health_pipeline.defs.runner import execute, plan_runs
    from health_pipeline.months import MonthRange
    from health_pipeline.settings import Settings
    from health_pipeline.sources.simulator import simulate

    settings = Settings(
        home=Path(home),
        start_month="2022-01",
        end_month=last,
        simulator={"admissions_per_month": 300},
        training={"profile": "quick", "min_rows": 100, "min_events": 5},
        windows={"min_training_months": 2, "validation_months": 1, "holdout_months": 1},
    )
    simulate(MonthRange.of(first, last), settings)
    definitions = build_definitions(settings, system_clock)
    with open_instance(settings) as instance:
        stored = timed_storage(instance.event_log_storage)
        begun = time.perf_counter()
        plan = plan_runs(definitions, MonthRange.of(first, last))
        outcomes = [execute(definitions, run, instance) for run in plan]
        wall = time.perf_counter() - begun
        steps = sum(
            (stats.end_time or 0) - (stats.start_time or 0)
            for outcome in outcomes
            for stats in instance.get_run_step_stats(outcome.run_id)
        )
    return {
        "wall": wall,
        "steps": steps,
        "event_seconds": stored["seconds"],
        "events": stored["events"],
        "overhead": wall - steps + stored["seconds"],
        "errors": [error for outcome in outcomes for error in outcome.errors],
    }


def load_cost(statement: str, home: Path) -> tuple[float, float]:
    """Wall and CPU seconds of a fresh interpreter that runs a statement."""
    environment = {**os.environ, "HEALTH_PIPELINE_HOME": str(home), "PYTHONWARNINGS": "ignore"}
    environment.pop("PYTHONDONTWRITEBYTECODE", None)  # without bytecode, imports look two to three times slower
    before, begun = resource.getrusage(resource.RUSAGE_CHILDREN), time.perf_counter()
    subprocess.run([sys.executable, "-c", statement], check=True, env=environment, capture_output=True)
    wall, after = time.perf_counter() - begun, resource.getrusage(resource.RUSAGE_CHILDREN)
    return wall, after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime


def main() -> None:
    """Measure both and print them."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--pairs", type=int, default=5, help="of loading the definitions and importing Dagster")
    parser.add_argument("--month", nargs=3, help=argparse.SUPPRESS)
    chosen = parser.parse_args()
    if chosen.month:
        print(json.dumps(month(*chosen.month)))
        return
    statements = ("import health_pipeline.definitions", "import dagster")
    with scratch() as home:
        for statement in statements:
            load_cost(statement, home)  # writes bytecode
        pairs = [[load_cost(statement, home) for statement in statements] for _ in range(chosen.pairs)]
        results = []
        for index, clock in enumerate(("wall", "cpu")):
            ours, theirs = ([pair[which][index] for pair in pairs] for which in (0, 1))
            name = f"definitions load against import dagster, {clock}"
            results.append(verdict(name, median_ratio(ours, theirs), 1.5))
        run_json("benchmarks.warehouse.tick", "--month", home / "tick", "2022-01", "2022-07")
        tick = run_json("benchmarks.warehouse.tick", "--month", home / "tick", "2022-08", "2022-08")
    records = f"{tick['events']} events {tick['event_seconds']:.1f} s"
    print(f"  one month: wall {tick['wall']:.1f} s, of it steps {tick['steps']:.1f} s and in them {records}")
    results.append(verdict("one month through the whole graph, beyond the assets", tick["overhead"], 10, unit=" s"))
    save("warehouse_tick", {"pairs": chosen.pairs}, results, tick=tick, loads=pairs)


if __name__ == "__main__":
    main()
