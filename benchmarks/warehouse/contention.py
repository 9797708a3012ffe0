"""Contention: processes that write and read different months at once, against the same work in sequence.

``python -m benchmarks.warehouse.contention --processes 16``
"""

from __future__ import annotations

import argparse
import json

from benchmarks.warehouse.measure import median_ratio, run_json, save, scratch, verdict


def main() -> None:
    """Run pairs and print the ratio."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--processes", type=int, default=16)
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--rows", type=int, default=200_000)
    parser.add_argument("--repeat", type=int, default=3)
    chosen = parser.parse_args()
    runs: dict[str, list[dict]] = {"together": [], "sequence": []}
    for turn in range(chosen.repeat):
        for mode in ("together", "sequence") if turn % 2 == 0 else ("sequence", "together"):
            with scratch() as home:
                settings = json.dumps({"home": str(home), "warehouse": {"threads": 2, "lock_timeout_seconds": 600}})
                crowd = "health_pipeline_tests.warehouse.crowd"
                seen = run_json(crowd, settings, chosen.processes, chosen.rounds, chosen.rows, mode)
            runs[mode].append(seen)
            print(f"  {mode}: {seen['seconds']:.1f} s, longest operation {seen['longest']:.1f} s", flush=True)
    walls = {mode: [run["seconds"] for run in seen] for mode, seen in runs.items()}
    errors = sum(len(run["errors"]) for seen in runs.values() for run in seen)
    results = {
        "wall": verdict("at once against in sequence, wall", median_ratio(walls["together"], walls["sequence"]), 1.5),
        "errors": verdict("errors", errors, 0, unit=""),
    }
    save("warehouse_contention", {"scale": vars(chosen), "results": results, "runs": runs})


if __name__ == "__main__":
    main()
