"""XGBoost on CPU and GPU: seconds, memory and loss of the pipeline's own fit on many rows.

Rows are drawn, not read: numbers with nulls and categories like those of ``gold.features``, outcome from a known logit.
A device that is not there is named and left out.
Where a GPU is: ``pip uninstall xgboost-cpu && pip install 'xgboost>=3.2,<3.3'``.

python benchmarks/modeling/xgboost_device.py [--rows 10000000] [--rounds 200] [--devices cpu,cuda]
"""

from __future__ import annotations

import argparse
import json
import os
import resource
import time
from dataclasses import replace
from pathlib import Path

import numpy as np

from health_pipeline.errors import SettingsError
from health_pipeline.modeling.device import require_device
from health_pipeline.modeling.encoding import Feature, Inputs
from health_pipeline.modeling.families import Sample, family_named
from health_pipeline.modeling.profiles import PROFILES

NUMBERS, CATEGORICALS, LEVELS = 40, 10, 12
VALIDATION_SHARE = 0.05
RESULTS = Path(__file__).resolve().parents[1] / "results" / "xgboost_device.json"


def drawn(rows: int, seed: int) -> tuple[Sample, tuple[Feature, ...]]:
    """Rows whose outcome follows a logit of a tenth of the features; 12 % are readmitted."""
    random = np.random.default_rng(seed)
    features, values = [], {}
    logit = np.full(rows, -3.5)
    for index in range(NUMBERS):
        name = f"number_{index}"
        column = random.standard_normal(rows)
        if index % 10 == 0:
            logit += 0.4 * np.abs(column)
        column[random.random(rows) < 0.1] = np.nan
        values[name] = column
        features.append(Feature(name, "numeric"))
    for index in range(CATEGORICALS):
        name = f"category_{index}"
        codes = random.integers(-1, LEVELS, rows).astype(np.int32)
        if index % 5 == 0:
            logit += 0.3 * (codes == 0)
        values[name] = codes
        features.append(Feature(name, "categorical", categories=tuple(f"level {level}" for level in range(LEVELS))))
    outcome = (random.random(rows) < 1 / (1 + np.exp(-logit))).astype(np.float64)
    return Sample(Inputs(rows, values), outcome), tuple(features)


def part(sample: Sample, start: int, stop: int) -> Sample:
    return Sample(sample.inputs.part(start, stop), sample.y[start:stop])


def measure(rows: int, rounds: int, device: str, threads: int) -> dict[str, object]:
    sample, features = drawn(rows, seed=7)
    cut = int(rows * (1 - VALIDATION_SHARE))
    effort = replace(PROFILES["standard"], max_rounds=rounds, patience=rounds, device=device)
    family = family_named("xgboost")
    before, started = peak_gb(), time.perf_counter()
    prepared = family.prepare(part(sample, 0, cut), part(sample, cut, rows), features, effort, threads)
    quantised = time.perf_counter()
    fit = prepared.fit(family.defaults, seed=1)
    ended = time.perf_counter()
    return {
        "device": device,
        "rows": rows,
        "rounds": rounds,
        "threads": threads,
        "quantise_s": round(quantised - started, 1),
        "fit_s": round(ended - quantised, 1),
        "log_loss": round(fit.loss, 6),
        "input_gb": round(before, 1),
        "peak_gb": round(peak_gb(), 1),
    }


def peak_gb() -> float:
    """Largest memory of this process so far."""
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024**2


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rows", type=int, default=10_000_000)
    parser.add_argument("--rounds", type=int, default=200)
    parser.add_argument("--devices", default="cpu,cuda")
    parser.add_argument("--threads", type=int, default=len(os.sched_getaffinity(0)))
    arguments = parser.parse_args()
    results = []
    for device in arguments.devices.split(","):
        try:
            require_device(device)
        except SettingsError as error:
            print(f"{device}: left out. {error}")
            continue
        results.append(measure(arguments.rows, arguments.rounds, device, arguments.threads))
        print(json.dumps(results[-1]), flush=True)
    if results:
        RESULTS.parent.mkdir(exist_ok=True)
        RESULTS.write_text(json.dumps(results, indent=1) + "\n", encoding="utf-8")


if __name__ == "__main__":
    main()
