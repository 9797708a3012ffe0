"""Tick: one new month through the whole graph, and how long the definitions take to load.

``python -m benchmarks.warehouse.tick``

Overhead is the wall time of the month's runs, in a process that has loaded the definitions, minus what the steps
themselves took; the time that steps spend on storing events counts as overhead.
"""

from __future__ import annotations

import argparse
import json
import os
import subprocess
import sys
import time
from pathlib import Path

from benchmarks.warehouse.measure import median_ratio, run_json, save, scratch, verdict


def month(home: str, first: str, last: str) -> dict[str, object]:
    """Run the whole graph for some months of the simulated hospital; called in a process of its own."""
    from benchmarks.warehouse.ways import _timed
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
        stored = _timed(instance.event_log_storage)
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


def load_seconds(statement: str, home: Path) -> float:
    """Wall seconds of a fresh interpreter that runs a statement."""
    environment = {**os.environ, "HEALTH_PIPELINE_HOME": str(home), "PYTHONWARNINGS": "ignore"}
    environment.pop("PYTHONDONTWRITEBYTECODE", None)  # without bytecode, imports look two to three times slower
    begun = time.perf_counter()
    subprocess.run([sys.executable, "-c", statement], check=True, env=environment, capture_output=True)
    return time.perf_counter() - begun


def main() -> None:
    """Measure both and print them."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--repeat", type=int, default=5)
    parser.add_argument("--month", nargs=3, help=argparse.SUPPRESS)
    chosen = parser.parse_args()
    if chosen.month:
        print(json.dumps(month(*chosen.month)))
        return
    with scratch() as home:
        for statement in ("import dagster", "import health_pipeline.definitions"):
            load_seconds(statement, home)  # writes bytecode
        pairs = [
            (load_seconds("import health_pipeline.definitions", home), load_seconds("import dagster", home))
            for _ in range(chosen.repeat)
        ]
        loads = median_ratio([ours for ours, _ in pairs], [theirs for _, theirs in pairs])
        run_json("benchmarks.warehouse.tick", "--month", home / "tick", "2022-01", "2022-07")
        tick = run_json("benchmarks.warehouse.tick", "--month", home / "tick", "2022-08", "2022-08")
    records = f"{tick['events']} events: {tick['event_seconds']:.1f} s"
    print(f"  wall {tick['wall']:.1f} s, steps {tick['steps']:.1f} s, {records}")
    results = {
        "load": verdict("definitions load against import dagster", loads, 1.5),
        "tick": verdict("one month through the graph, overhead", tick["overhead"], 10, unit=" s"),
    }
    save("warehouse_tick", {"results": results, "tick": tick, "loads": pairs})


if __name__ == "__main__":
    main()
