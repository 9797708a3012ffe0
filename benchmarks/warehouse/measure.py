"""Repeated runs in fresh processes, medians, and results that a machine can read."""

from __future__ import annotations

import json
import os
import statistics
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

RESULTS = Path(__file__).parents[1] / "results"


def run_json(module: str, *arguments: object) -> dict[str, Any]:
    """Run a module in a process of its own; its last line of output is JSON."""
    ran = subprocess.run(
        [sys.executable, "-W", "ignore", "-m", module, *map(str, arguments)],
        stdout=subprocess.PIPE,
        stderr=subprocess.DEVNULL,
        text=True,
        check=True,
        env={**os.environ, "DAGSTER_DISABLE_TELEMETRY": "yes"},
    )
    return json.loads(ran.stdout.splitlines()[-1])


def median_ratio(numerators: list[float], denominators: list[float]) -> float:
    """Median of the ratios of pairs that were run one right after the other."""
    return statistics.median(a / b for a, b in zip(numerators, denominators, strict=True))


def verdict(name: str, value: float, limit: float, *, at_least: bool = False, unit: str = "x") -> dict[str, Any]:
    """Print a measured number beside its target."""
    met = value >= limit if at_least else value <= limit
    print(
        f"{name}: {value:.2f}{unit} (target {'>=' if at_least else '<='} {limit:g}{unit}) {'met' if met else 'MISSED'}"
    )
    return {"value": value, "limit": limit, "met": met}


def save(name: str, result: dict[str, Any]) -> None:
    """Write ``benchmarks/results/<name>.json`` with the machine it was measured on."""
    RESULTS.mkdir(exist_ok=True)
    about = {"cores": os.cpu_count(), "load_before": os.getloadavg()[2]}
    (RESULTS / f"{name}.json").write_text(json.dumps({**about, **result}, indent=2) + "\n")


@contextmanager
def scratch() -> Iterator[Path]:
    """A folder that goes away; ``TMPDIR`` chooses the disk."""
    with tempfile.TemporaryDirectory(prefix="warehouse-bench-") as folder:
        yield Path(folder)
