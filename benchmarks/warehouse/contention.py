"""Contention: processes that write and read different months at once, against the same work in sequence.

``python -m benchmarks.warehouse.contention --processes 16``
"""

from __future__ import annotations

import argparse
import json
from typing import Any

from benchmarks.warehouse.measure import median_ratio, run_json, save, scratch, verdict

CROWD = "health_pipeline_tests.warehouse.crowd"


def main() -> None:
    """Run pairs and print the ratio."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--processes", type=int, default=16)
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--rows", type=int, default=50_000)
    parser.add_argument("--pairs", type=int, default=3)
    chosen = parser.parse_args()
    runs: dict[str, list[dict[str, Any]]] = {"together": [], "sequence": []}
    for turn in range(chosen.pairs):
        for mode in ("together", "sequence") if turn % 2 == 0 else ("sequence", "together"):
            with scratch() as home:
                settings = json.dumps({"home": str(home), "warehouse": {"threads": 2, "lock_timeout_seconds": 600}})
                seen = run_json(CROWD, settings, chosen.processes, chosen.rounds, chosen.rows, mode)
            runs[mode].append(seen)
            print(f"  {mode}: {seen['seconds']:.1f} s, longest operation {seen['longest']:.1f} s", flush=True)
    walls = {mode: [run["seconds"] for run in seen] for mode, seen in runs.items()}
    errors = sum(len(run["errors"]) for seen in runs.values() for run in seen)
    results = [
        verdict(
            f"{chosen.processes} processes at once against in sequence, wall",
            median_ratio(walls["together"], walls["sequence"]),
            1.5,
        ),
        verdict("errors of these processes", errors, 0, unit=""),
    ]
    save("warehouse_contention", vars(chosen), results, runs=runs)


if __name__ == "__main__":
    main()
