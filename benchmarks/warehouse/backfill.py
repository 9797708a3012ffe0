"""Backfill: bronze to gold in range runs, against the same SQL by hand and against the stock IO manager.

``python -m benchmarks.warehouse.backfill --admissions 1000000 --months 120``

CPU seconds stand beside wall seconds: on a busy machine only their ratio says something.
"""

from __future__ import annotations

import argparse
import shutil

from benchmarks.warehouse.landing import Scale, write_landing
from benchmarks.warehouse.measure import median_ratio, run_json, save, scratch, verdict


def main() -> None:
    """Run all ways and print the ratios."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--admissions", type=int, default=1_000_000)
    parser.add_argument("--months", type=int, default=120)
    parser.add_argument("--repeat", type=int, default=3)
    parser.add_argument("--threads", type=int, default=0)
    parser.add_argument("--no-stock", action="store_true", help="leave the stock IO manager out")
    chosen = parser.parse_args()
    scale = Scale(chosen.admissions, chosen.months)
    ways = ("bare", "manager", "dagster")
    runs: dict[str, list[dict]] = {way: [] for way in ways}
    with scratch() as folder:
        write_landing(folder / "landing", scale)
        shape = (folder / "landing", scale.admissions, scale.months, chosen.threads)
        for turn in range(chosen.repeat):
            for way in ways if turn % 2 == 0 else reversed(ways):
                shutil.rmtree(folder / way, ignore_errors=True)
                runs[way].append(run_json("benchmarks.warehouse.ways", way, folder / way, *shape))
                print(f"  {way}: {runs[way][-1]['wall']:.1f} s wall, {runs[way][-1]['cpu']:.1f} s CPU", flush=True)
        stock = None if chosen.no_stock else run_json("benchmarks.warehouse.ways", "stock", folder / "stock", *shape)

    def ratio(way: str, clock: str) -> float:
        return median_ratio([run[clock] for run in runs[way]], [run[clock] for run in runs["bare"]])

    events = runs["dagster"][-1]
    print(
        f"Dagster's records: {events['events']} events, {events['event_seconds']:.1f} s "
        f"({1000 * events['event_seconds'] / events['events']:.1f} ms each)"
    )
    names = {"manager": ("asset compute and IO manager", 1.15), "dagster": ("whole Dagster run", 1.6)}
    results = {
        f"{way} against bare DuckDB, {clock}": verdict(f"{names[way][0]}, {clock}", ratio(way, clock), names[way][1])
        for way in names
        for clock in ("wall", "cpu")
    }
    peak = max(run["peak_gib"] for way in ways for run in runs[way])
    results["peak memory"] = verdict("peak memory", peak, 4, unit=" GiB")
    if stock:
        months = stock["stock_months"]
        scaled = stock["stock_seconds"] / months * scale.months
        print(f"stock IO manager: {stock['stock_seconds']:.1f} s for {months} months, scaled to {scale.months} months")
        results["stock against Dagster range run, wall"] = verdict(
            "stock IO manager, a run per month (scaled)",
            scaled / min(run["wall"] for run in runs["dagster"]),
            10,
            at_least=True,
        )
    save("warehouse_backfill", {"scale": vars(chosen), "results": results, "runs": runs, "stock": stock})


if __name__ == "__main__":
    main()
