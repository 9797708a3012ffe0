"""Backfill: bronze to gold in range runs, against the same SQL by hand and against the stock IO manager.

``python -m benchmarks.warehouse.backfill --admissions 1000000 --months 120 --pairs 1``

The three ways of a pair run one right after the other, in turn forwards and backwards. CPU seconds stand beside wall
seconds: on a busy machine only their ratio says something.
"""

from __future__ import annotations

import argparse
import shutil
from pathlib import Path
from typing import Any

from benchmarks.warehouse.landing import Scale, landing_of
from benchmarks.warehouse.measure import median_ratio, run_json, save, scratch, verdict

WAYS = {"bare": None, "manager": ("asset compute and IO manager", 1.15), "dagster": ("whole Dagster run", 1.6)}


def main() -> None:
    """Run all ways and print the ratios."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--admissions", type=int, default=100_000)
    parser.add_argument("--months", type=int, default=36)
    parser.add_argument("--pairs", type=int, default=3)
    parser.add_argument("--threads", type=int, default=0, help="of DuckDB; 0: all cores")
    parser.add_argument("--stock-months", type=int, default=6, help="months of the stock IO manager; 0 leaves it out")
    parser.add_argument("--work", type=Path, help="keep the data here for the next time")
    chosen = parser.parse_args()
    scale = Scale(chosen.admissions, chosen.months)
    runs: dict[str, list[dict[str, Any]]] = {way: [] for way in WAYS}
    with scratch(chosen.work) as folder:
        shape = (landing_of(folder, scale), scale.admissions, scale.months, chosen.threads)
        for turn in range(chosen.pairs):
            for way in WAYS if turn % 2 == 0 else reversed(WAYS):
                shutil.rmtree(folder / way, ignore_errors=True)
                run = run_json("benchmarks.warehouse.ways", way, folder / way, *shape)
                runs[way].append(run)
                print(
                    f"  {way}: {run['wall']:.1f} s wall, {run['cpu']:.1f} s CPU, {run['peak_gib']:.2f} GiB", flush=True
                )
        stock = None
        if chosen.stock_months:
            shutil.rmtree(folder / "stock", ignore_errors=True)
            stock = run_json("benchmarks.warehouse.ways", "stock", folder / "stock", *shape, chosen.stock_months)
    report(vars(chosen), scale, runs, stock)


def report(scale: dict[str, Any], size: Scale, runs: dict[str, list[dict[str, Any]]], stock: dict | None) -> None:
    """Print ratios beside their targets and save them.

    Args:
        scale: what was asked for.
        size: admissions and months.
        runs: what each way measured, pair by pair.
        stock: what the stock IO manager measured for some months.
    """
    results = []
    for clock in ("wall", "cpu"):
        base = [run[clock] for run in runs["bare"]]
        for way, target in WAYS.items():
            if target:
                ratio = median_ratio([run[clock] for run in runs[way]], base)
                results.append(verdict(f"{target[0]} against bare DuckDB, {clock}", ratio, target[1]))
    seconds, events, wall = (sum(run[what] for run in runs["dagster"]) for what in ("event_seconds", "events", "wall"))
    each = events // len(runs["dagster"])
    print(f"  Dagster's records: {each} events, {1000 * seconds / events:.1f} ms each, {seconds / wall:.0%} of the run")
    peak = max(run["peak_gib"] for way in runs for run in runs[way])
    results.append(verdict("peak memory of any way but the stock one", peak, 4, unit=" GiB"))
    if stock:
        months = stock["stock_months"]
        for clock in ("wall", "cpu"):
            scaled = stock[f"stock_{clock}"] / months * size.months
            ours = sorted(run[clock] for run in runs["dagster"])[len(runs["dagster"]) // 2]
            name = f"stock IO manager, {months} of {size.months} months scaled, {clock}"
            results.append(verdict(name, scaled / ours, 10, at_least=True))
    save("warehouse_backfill", scale, results, runs=runs, stock=stock)


if __name__ == "__main__":
    main()
