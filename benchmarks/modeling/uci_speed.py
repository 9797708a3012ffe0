"""Time of N model months on UCI Diabetes 130, by part: both families, gates, MLflow, Dagster's records.

One Dagster run materialises ``models/*`` on a copy of a home that has gold (uci_home.py), with an instance of its own.
The default windows leave 89 model months of the extract's 102; ``--months 96`` shortens validation and holdout by one
month and the first training windows, everything else is as a hospital gets it.

python benchmarks/modeling/uci_speed.py <home> [--months 96] [--profile standard]
"""

from __future__ import annotations

import argparse
import functools
import json
import logging
import resource
import shutil
import tempfile
import threading
import time
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import structlog
from uci_home import MONTHS, uci_settings

from health_pipeline.environment import prepare_environment
from health_pipeline.months import MonthRange, shift
from health_pipeline.settings import Settings

RESULTS = Path(__file__).resolve().parents[1] / "results" / "uci_speed.json"
GOAL_SECONDS = 600


class Parts:
    """CPU and wall seconds by part, summed over threads; a part inside another counts for the inner one only."""

    def __init__(self) -> None:
        self.cpu: Counter[str] = Counter()
        self.wall: Counter[str] = Counter()
        self._lock = threading.Lock()
        self._inner = threading.local()

    def timed(self, part: str, function: Callable[..., Any]) -> Callable[..., Any]:
        """The function, timed as a part."""

        @functools.wraps(function)
        def run(*args: Any, **kwargs: Any) -> Any:
            stack = self._inner.__dict__.setdefault("stack", [])
            stack.append([0.0, 0.0])
            wall, cpu = time.perf_counter(), time.thread_time()
            try:
                return function(*args, **kwargs)
            finally:
                spent = time.perf_counter() - wall, time.thread_time() - cpu
                inner = stack.pop()
                if stack:
                    stack[-1][0] += spent[0]
                    stack[-1][1] += spent[1]
                with self._lock:
                    self.wall[part] += spent[0] - inner[0]
                    self.cpu[part] += spent[1] - inner[1]

        return run


@contextmanager
def instrumented(parts: Parts) -> Iterator[None]:
    """Time the rooms' own functions where they are called from."""
    from dagster import DagsterInstance

    from health_pipeline import promotion
    from health_pipeline.modeling import candidate, training
    from health_pipeline.modeling.tracking import Tracker
    from health_pipeline.promotion import champion
    from health_pipeline.warehouse import Warehouse

    places: list[tuple[Any, str, str]] = [
        (training, "read_subject", "data"),
        (champion, "read_dataset", "data"),
        (training._Trainer, "_tune", "tuning"),
        (candidate, "learn_features", "fit"),
        (training, "fit_candidate", "fit"),
        (candidate, "fit_calibration", "calibrate"),
        (candidate, "best_f1_threshold", "calibrate"),
        (candidate, "judge", "evaluate"),
        (training, "write_card", "explain and card"),
        (training._Trainer, "record", "bundle and row"),
        (Tracker, "log", "MLflow"),
        (promotion, "champion_months", "gates"),
        (Warehouse, "replace", "warehouse"),
    ]
    places += [
        (DagsterInstance, name, "Dagster records")
        for name in ("store_event", "store_event_batch", "handle_new_event", "report_runless_asset_event")
        if hasattr(DagsterInstance, name)
    ]
    kept = [(owner, name, getattr(owner, name)) for owner, name, _ in places]
    for owner, name, part in places:
        setattr(owner, name, parts.timed(part, getattr(owner, name)))
    try:
        yield
    finally:
        for owner, name, function in kept:
            setattr(owner, name, function)


def settings_of(home: Path, months: int, profile: str) -> Settings:
    """The default windows where they leave enough months; else one month less of each."""
    default = uci_settings(home, training={"profile": profile})
    if _model_months(default) >= months:
        return default
    short = {"holdout_months": 2, "validation_months": 2, "min_training_months": 1}
    return uci_settings(home, windows=short, training={"profile": profile})


def _model_months(settings: Settings) -> int:
    return len(MonthRange(settings.first_model_month, MONTHS.last))


def run(settings: Settings, months: MonthRange) -> tuple[Parts, float, bool]:
    """Materialise the models of the months in one Dagster run."""
    from health_pipeline.defs.build import build_definitions
    from health_pipeline.defs.instance import open_instance
    from health_pipeline.defs.runner import execute, plan_runs

    parts = Parts()
    defs = build_definitions(settings)
    with instrumented(parts), open_instance(settings) as instance:
        started = time.perf_counter()
        planned = plan_runs(defs, months, "group:models")
        outcomes = [execute(defs, each, instance) for each in planned]
        wall = time.perf_counter() - started
    for outcome in outcomes:
        print("\n".join(outcome.errors))
    return parts, wall, all(outcome.success for outcome in outcomes)


def show(parts: Parts, wall: float, months: int, cpu: float) -> None:
    print("\n| part | CPU s | share | wall s of its threads |\n|---|---|---|---|")
    for part, seconds in parts.cpu.most_common():
        print(f"| {part} | {seconds:.1f} | {seconds / cpu:.0%} | {parts.wall[part]:.1f} |")
    rest = cpu - sum(parts.cpu.values())
    print(f"| everything else (imports, planning, checks, gates' SQL) | {rest:.1f} | {rest / cpu:.0%} | |")
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024**2
    print(f"\n{months} model months: {wall:.0f} s wall, {cpu:.0f} s CPU, {peak:.1f} GB at most")
    print("under" if wall < GOAL_SECONDS else "ABOVE", f"{GOAL_SECONDS} s")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("home", type=Path)
    parser.add_argument("--months", type=int, default=96)
    parser.add_argument("--profile", default="standard")
    arguments = parser.parse_args()
    structlog.configure(wrapper_class=structlog.make_filtering_bound_logger(logging.WARNING))
    with tempfile.TemporaryDirectory(prefix="uci-speed-") as scratch:
        home = Path(scratch) / "home"
        shutil.copytree(arguments.home, home, ignore=shutil.ignore_patterns("ml*", "models", "dagster", "landing"))
        prepare_environment()
        settings = settings_of(home, arguments.months, arguments.profile)
        months = MonthRange(settings.first_model_month, shift(settings.first_model_month, arguments.months - 1))
        before = time.process_time()
        parts, wall, success = run(settings, months)
        cpu = time.process_time() - before
        show(parts, wall, len(months), cpu)
        RESULTS.parent.mkdir(exist_ok=True)
        found = {"months": len(months), "wall_s": wall, "cpu_s": cpu, "cpu_by_part": dict(parts.cpu)}
        RESULTS.write_text(json.dumps(found, indent=1) + "\n", encoding="utf-8")
        if not success:
            raise SystemExit("the run failed")


if __name__ == "__main__":
    main()
