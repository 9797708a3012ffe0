"""Repeated runs in fresh processes, medians, and results that a machine can read."""

from __future__ import annotations

import json
import os
import platform
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

RESULTS = Path(__file__).parents[1] / "results"
_LOAD_BEFORE = os.getloadavg()[0]


def run_json(module: str, *arguments: object) -> dict[str, Any]:
    """Run a module in a process of its own; its last line of output is JSON."""
    ran = subprocess.run(
        [sys.executable, "-W", "ignore", "-m", module, *map(str, arguments)],
        capture_output=True,
        text=True,
        check=False,
        env={**os.environ, "DAGSTER_DISABLE_TELEMETRY": "yes"},
    )
    if ran.returncode:
        raise SystemExit(f"{module} {' '.join(map(str, arguments))} failed:\n{ran.stderr[-3000:]}")
    return json.loads(ran.stdout.splitlines()[-1])


def median_ratio(numerators: list[float], denominators: list[float]) -> float:
    """Median of the ratios of pairs that were run one right after the other."""
    return statistics.median(a / b for a, b in zip(numerators, denominators, strict=True))


def verdict(name: str, value: float, limit: float, *, at_least: bool = False, unit: str = "x") -> dict[str, Any]:
    """A measured number beside its target; printed at once."""
    met = value >= limit if at_least else value <= limit
    found = {"name": name, "value": value, "limit": limit, "unit": unit, "at_least": at_least, "met": met}
    print(f"  {line(found)}", flush=True)
    return found


def line(found: dict[str, Any]) -> str:
    """A verdict as one line of a table."""
    unit = found["unit"]
    target = f"{'>=' if found['at_least'] else '<='} {found['limit']:g}{unit}"
    return (
        f"{found['name']:<62} {found['value']:>8.2f}{unit:<4} target {target:<10} {'met' if found['met'] else 'MISSED'}"
    )


def save(name: str, scale: dict[str, Any], results: list[dict[str, Any]], **more: Any) -> None:
    """Write ``benchmarks/results/<name>.json`` with the machine it was measured on."""
    RESULTS.mkdir(exist_ok=True)
    about = {
        "benchmark": name,
        "at": time.strftime("%Y-%m-%dT%H:%M:%S%z"),
        "machine": {"cores": os.cpu_count(), "architecture": platform.machine(), "python": platform.python_version()},
        "load_average": {"before": _LOAD_BEFORE, "after": os.getloadavg()[0]},
    }
    shown = {key: str(value) if isinstance(value, Path) else value for key, value in scale.items()}
    text = json.dumps({**about, "scale": shown, "results": results, **more}, indent=2, default=str)
    (RESULTS / f"{name}.json").write_text(text + "\n")


@contextmanager
def scratch(kept: Path | None = None) -> Iterator[Path]:
    """A folder that goes away (``TMPDIR`` chooses the disk), or one that is ``kept`` for the next time."""
    if kept is not None:
        kept.mkdir(parents=True, exist_ok=True)
        yield kept.resolve()
        return
    with tempfile.TemporaryDirectory(prefix="warehouse-bench-") as folder:
        yield Path(folder)


def timed_storage(storage: Any) -> dict[str, float]:
    """Count from now on what is stored in a Dagster event log, and the time it takes."""
    spent = {"seconds": 0.0, "events": 0, "depth": 0}

    def timed(method: Callable[..., Any], count: Callable[[Any], int]) -> Callable[..., Any]:
        def call(argument: Any) -> Any:
            begun = time.perf_counter()
            spent["depth"] += 1
            try:
                return method(argument)
            finally:
                spent["depth"] -= 1
                if not spent["depth"]:  # a batch stores its events one by one
                    spent["seconds"] += time.perf_counter() - begun
                    spent["events"] += count(argument)

        return call

    storage.store_event = timed(storage.store_event, lambda _: 1)
    storage.store_event_batch = timed(storage.store_event_batch, len)
    return spent
