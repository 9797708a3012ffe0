"""A million rows of the warehouse, scored and written back: ``python -m benchmarks.serving.batch FOLDER``.

Every way runs in a process of its own, so that its peak memory is its own. ``bare`` and ``sklearn`` find their rows in
memory. ``stream`` reads rows from a DuckDB file and writes key and probability back; ``asset`` is what the asset
``gold.predictions`` does (hash of the features, warnings, label, confidence, verification of what was written).
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
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pyarrow as pa

from benchmarks.serving.models import NAMES, make

if TYPE_CHECKING:
    import duckdb

    from health_pipeline.modeling import Bundle
    from health_pipeline.settings import Settings
    from health_pipeline.warehouse import Table

XGBOOST, LOGISTIC_REGRESSION = "xgboost", "logistic_regression"
WAYS = {
    **{f"{way}_{XGBOOST}": (way, XGBOOST) for way in ("bare", "stream", "asset")},
    **{f"{way}_{LOGISTIC_REGRESSION}": (way, LOGISTIC_REGRESSION) for way in ("sklearn", "stream", "asset")},
}
BATCH_ROWS = 100_000
MONTH = "2023-05"


def feature_table() -> Table:
    """``gold.features`` with the features of the benchmark's models."""
    from health_pipeline.warehouse import Column, Table

    kinds = {"number": "DOUBLE", "flag": "BOOLEAN", "kind": "VARCHAR"}
    keys = {"month": "DATE", "encounter_id": "VARCHAR", "patient_key": "VARCHAR", "discharged_at": "TIMESTAMP"}
    columns = {**keys, **{name: kinds[name.split("_")[0]] for name in NAMES}}
    return Table("gold", "features", tuple(Column(*item) for item in columns.items()), key=("encounter_id",))


def settings_in(folder: Path, threads: int) -> Settings:
    """The home of the benchmark's models, with a small warehouse."""
    from health_pipeline.settings import Settings

    return Settings(home=folder / "home", warehouse={"threads": threads, "memory_limit": "400MB"})


def fill(folder: Path, count: int) -> None:
    """The table of features, made by DuckDB, and a row of ``models.<family>`` for each model."""
    from health_pipeline.modeling import model_table
    from health_pipeline.modeling.rows import arrow_rows
    from health_pipeline.months import MonthRange
    from health_pipeline.promotion import CHAMPION
    from health_pipeline.serving.release import read_release
    from health_pipeline.warehouse import Query, Warehouse

    def column(index: int, name: str) -> str:
        draw = f"(hash(i, {index}) / 18446744073709551616.0)"
        if name.startswith("number"):
            return f"round(({draw} - 0.5) * 3.46, 4) AS {name}"
        return f"{draw} < 0.3 AS {name}" if name.startswith("flag") else f"'c' || floor({draw} * 6)::INT AS {name}"

    months = MonthRange.of(MONTH)
    keys = f"DATE '{months.first}' AS month, 'e' || i AS encounter_id, md5((i // 3)::VARCHAR) AS patient_key"
    keys += f", TIMESTAMP '{months.first} 12:00' AS discharged_at"
    columns = ", ".join(column(index, name) for index, name in enumerate(NAMES))
    warehouse = Warehouse.from_settings(settings_in(folder, threads=0))
    warehouse.replace(feature_table(), months, Query(f"SELECT {keys}, {columns} FROM range({count}) r(i)"))
    warehouse.ensure(CHAMPION)
    for family, release_id in json.loads((folder / "releases.json").read_text()).items():
        facts = read_release(folder / "home" / "releases" / release_id).facts
        row = {
            "month": months.first,
            "model_id": facts.model_id,
            "family": family,
            "status": "trained",
            "profile": "quick",
            "artefact_path": f"models/{facts.model_id}",
            "artefact_hash": facts.bundle_hash,
        }
        table = model_table(family)
        warehouse.replace(table, months, arrow_rows(table, [row]))


def bare(folder: Path, bundle: Bundle, threads: int) -> Callable[[], object]:
    """XGBoost's own predict on encoded rows."""
    import numpy as np
    import xgboost

    from health_pipeline.modeling.encoding import encode, read_inputs

    (member,) = bundle.members
    matrix = np.concatenate(
        [
            encode(read_inputs(rows, bundle.features), bundle.features, member.encodings, member.predictor.dtype)
            for rows in stored(folder, threads)
        ]
    )
    booster = xgboost.Booster({"nthread": threads}, model_file=bytearray(member.predictor.boosters[0]))
    booster.inplace_predict(matrix[:1000])
    return lambda: booster.inplace_predict(matrix)


def sklearn(folder: Path, bundle: Bundle, threads: int) -> Callable[[], object]:
    """The scikit-learn pipeline on a frame."""
    import joblib

    model = joblib.load(folder / f"{bundle.family}.joblib")
    frame = pa.concat_tables(stored(folder, threads)).to_pandas()
    return lambda: model.predict_proba(frame)


def stream(folder: Path, bundle: Bundle, threads: int) -> Callable[[], object]:
    """Key and probability of every row, through the bundle, in one transaction."""
    connection = connect(folder, threads)
    connection.execute("CREATE OR REPLACE TABLE gold.scored (encounter_id VARCHAR, probability DOUBLE)")

    def scored() -> Iterator[pa.RecordBatch]:
        with connection.cursor() as reading:
            for batch in reading.sql("SELECT * FROM gold.features").to_arrow_reader(BATCH_ROWS):
                probabilities = bundle.probabilities(pa.Table.from_batches([batch]))
                yield pa.record_batch({"encounter_id": batch["encounter_id"], "probability": pa.array(probabilities)})

    def work() -> None:
        schema = pa.schema({"encounter_id": pa.string(), "probability": pa.float64()})
        connection.register("scored_rows", pa.RecordBatchReader.from_batches(schema, scored()))
        connection.execute("INSERT INTO gold.scored FROM scored_rows")
        connection.execute("CHECKPOINT")

    return work


def asset(folder: Path, bundle: Bundle, threads: int) -> Callable[[], object]:
    """The month of ``gold.predictions``, computed and replaced."""
    from health_pipeline.modeling import PREDICTIONS, model_table, score_months
    from health_pipeline.months import MonthRange
    from health_pipeline.promotion import CHAMPION
    from health_pipeline.warehouse import Slice, Warehouse

    settings, months = settings_in(folder, threads), MonthRange.of(MONTH)
    warehouse = Warehouse.from_settings(settings)
    candidates = {bundle.family: Slice(model_table(bundle.family), months)}
    features, champion = Slice(feature_table(), months), Slice(CHAMPION, months)
    return lambda: warehouse.replace(
        PREDICTIONS, months, score_months(warehouse, features, candidates, champion, months, settings)
    )


def connect(folder: Path, threads: int) -> duckdb.DuckDBPyConnection:
    """The warehouse's file."""
    import duckdb

    return duckdb.connect(folder / "home" / "warehouse.duckdb", config={"threads": threads, "memory_limit": "400MB"})


def stored(folder: Path, threads: int, limit: str = "") -> list[pa.Table]:
    """Rows, in parts."""
    with connect(folder, threads) as connection:
        batches = connection.sql(f"SELECT * FROM gold.features {limit}").to_arrow_reader(BATCH_ROWS)
        return [pa.Table.from_batches([batch]) for batch in batches]


def measure(way: str, folder: Path, threads: int) -> dict[str, Any]:
    """Seconds and peak of one way, in this process."""
    from health_pipeline.modeling import load_bundle

    kind, family = WAYS[way]
    releases = json.loads((folder / "releases.json").read_text())
    bundle = load_bundle(folder / "home" / "releases" / releases[family] / "bundle")
    prepare = {"bare": bare, "sklearn": sklearn, "stream": stream, "asset": asset}[kind]
    work = prepare(folder, bundle, threads)
    bundle.probabilities(stored(folder, threads, "LIMIT 1000")[0])  # imports and first calls count for nobody
    began = time.perf_counter()
    work()
    seconds = time.perf_counter() - began
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024
    return {"seconds": round(seconds, 2), "peak_mib": round(peak)}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("folder", type=Path)
    parser.add_argument("--rows", type=int, default=1_000_000)
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--ways", nargs="*", choices=WAYS, default=list(WAYS))
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
    found: dict[str, list[dict[str, Any]]] = {way: [] for way in options.ways}
    environment = {**os.environ, "OMP_NUM_THREADS": str(options.threads)}
    for _ in range(options.rounds):
        for way in options.ways:
            command = [sys.executable, "-m", "benchmarks.serving.batch", str(folder), "--way", way]
            command += ["--threads", str(options.threads)]
            done = subprocess.run(command, capture_output=True, text=True, check=True, env=environment)
            found[way].append(json.loads(done.stdout.splitlines()[-1]))

    def ratio(above: str, below: str) -> float | None:
        if above not in found or below not in found:
            return None
        pairs = zip(found[above], found[below], strict=True)
        return round(statistics.median(a["seconds"] / b["seconds"] for a, b in pairs), 2)

    report = {
        "seconds": {way: statistics.median(item["seconds"] for item in items) for way, items in found.items()},
        "peak_mib": {way: max(item["peak_mib"] for item in items) for way, items in found.items()},
        "stream_times_the_bare_booster": ratio("stream_xgboost", "bare_xgboost"),
        "asset_times_the_bare_booster": ratio("asset_xgboost", "bare_xgboost"),
        "stream_times_faster_than_sklearn": ratio("sklearn_logistic_regression", "stream_logistic_regression"),
    }
    print(json.dumps(report, indent=1))


if __name__ == "__main__":
    main()
