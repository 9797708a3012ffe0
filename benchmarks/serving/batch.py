"""A million rows of the warehouse, scored and written back: ``python -m benchmarks.serving.batch FOLDER``.

Every way runs in a process of its own, so that its peak memory is its own. ``bare`` and ``sklearn`` find their rows in
memory; ours read theirs from the warehouse and end when the predictions are committed.
"""

from __future__ import annotations

import argparse
import json
import os
import resource
import statistics
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

from benchmarks.serving.models import NAMES, make

WAYS = ("bare_xgboost", "ours_xgboost", "sklearn_logistic_regression", "ours_logistic_regression", "sql")


def fill(folder: Path, count: int) -> None:
    """The table of features, made by DuckDB."""
    import duckdb

    def column(index: int, name: str) -> str:
        draw = f"(hash(i, {index}) / 18446744073709551616.0)"
        if name.startswith("number"):
            return f"round(({draw} - 0.5) * 3.46, 4) AS {name}"
        return f"{draw} < 0.3 AS {name}" if name.startswith("flag") else f"'c' || floor({draw} * 6)::INT AS {name}"

    columns = ", ".join(column(index, name) for index, name in enumerate(NAMES))
    with duckdb.connect(folder / "batch.duckdb") as connection:
        connection.execute(
            f"CREATE OR REPLACE TABLE features AS SELECT 'e' || i AS encounter_id, {columns} FROM range({count}) r(i)"
        )


def measure(way: str, folder: Path, threads: int) -> dict[str, Any]:
    """Seconds and peak of one way, in this process."""
    import duckdb

    from health_pipeline.modeling.bulk import score_query
    from health_pipeline.modeling.bundle import load_bundle
    from health_pipeline.modeling.encoding import encode, read_inputs
    from health_pipeline.modeling.linear_sql import probability_sql

    releases = json.loads((folder / "releases.json").read_text())
    family = "xgboost" if way.endswith("xgboost") else "logistic_regression"
    bundle = load_bundle(folder / "home" / "releases" / releases[family] / "bundle")
    connection = duckdb.connect(folder / "batch.duckdb", config={"threads": threads, "memory_limit": "400MB"})
    select = "SELECT * FROM features"
    if way == "bare_xgboost":
        import xgboost

        rows = connection.execute(select).to_arrow_table()
        (member,) = bundle.members
        matrix = encode(read_inputs(rows, bundle.features), bundle.features, member.encodings, member.predictor.dtype)
        booster = xgboost.Booster({"nthread": threads}, model_file=bytearray(member.predictor.boosters[0]))
        booster.predict(xgboost.DMatrix(matrix[:1000]))
        began = time.perf_counter()
        booster.inplace_predict(matrix)
    elif way.startswith("sklearn"):
        import joblib

        model = joblib.load(folder / "logistic_regression.joblib")
        frame = connection.execute(select).df()
        began = time.perf_counter()
        model.predict_proba(frame)
    else:
        connection.execute("CREATE OR REPLACE TABLE scored (encounter_id VARCHAR, probability DOUBLE)")
        began = time.perf_counter()
        if way == "sql":
            connection.execute(f"INSERT INTO scored SELECT encounter_id, {probability_sql(bundle)} FROM features")
        else:
            score_query(connection, select, bundle, "scored")
        connection.execute("CHECKPOINT")
    seconds = time.perf_counter() - began
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024
    return {"seconds": round(seconds, 2), "peak_mib": round(peak)}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("folder", type=Path)
    parser.add_argument("--rows", type=int, default=1_000_000)
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--way", choices=WAYS, help=argparse.SUPPRESS)
    options = parser.parse_args()
    folder = options.folder.resolve()
    if options.way:
        print(json.dumps(measure(options.way, folder, options.threads)))
        return
    folder.mkdir(parents=True, exist_ok=True)
    if not (folder / "releases.json").exists():
        make(folder)
    fill(folder, options.rows)
    found: dict[str, list[dict[str, Any]]] = {way: [] for way in WAYS}
    environment = {**os.environ, "OMP_NUM_THREADS": str(options.threads)}
    for _ in range(options.rounds):
        for way in WAYS:
            command = [sys.executable, "-m", "benchmarks.serving.batch", str(folder), "--way", way]
            command += ["--threads", str(options.threads)]
            done = subprocess.run(command, capture_output=True, text=True, check=True, env=environment)
            found[way].append(json.loads(done.stdout.splitlines()[-1]))

    def ratio(above: str, below: str) -> float:
        pairs = zip(found[above], found[below], strict=True)
        return round(statistics.median(a["seconds"] / b["seconds"] for a, b in pairs), 2)

    report = {
        "seconds": {way: statistics.median(item["seconds"] for item in items) for way, items in found.items()},
        "peak_mib": {way: max(item["peak_mib"] for item in items) for way, items in found.items()},
        "xgboost_times_the_bare_booster": ratio("ours_xgboost", "bare_xgboost"),
        "sql_times_faster_than_sklearn": ratio("sklearn_logistic_regression", "sql"),
        "bundle_times_faster_than_sklearn": ratio("sklearn_logistic_regression", "ours_logistic_regression"),
    }
    print(json.dumps(report, indent=1))


if __name__ == "__main__":
    main()
