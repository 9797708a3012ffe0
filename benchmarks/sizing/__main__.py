"""Processor seconds, peak memory and disk of every stage of the graph, for hospitals of several sizes.

``python -m benchmarks.sizing --admissions 10000 100000``

Fifteen months, the stages as commands of their own, as people run them. The newest but one month is the first with
models, so it is tuned; the newest month takes its parameters over: that is what eleven of twelve months cost. Models
see the shortest training window (six months, and six more to validate and judge). One thread, so that processor seconds
do not hide behind cores. With ``--home`` the home stays, and stages that a run before has measured are not run again.
"""

from __future__ import annotations

import argparse
import json
import os
import subprocess
import sys
import time
from dataclasses import asdict, dataclass
from pathlib import Path

from benchmarks.warehouse.measure import save, scratch
from health_pipeline.months import MonthRange, shift

MONTHS = 15
LAST = MonthRange.of("2024-12").last
NEW_MONTH = ("new month, extracts", "new month, models", "new month, scoring", "new month, monitoring")


@dataclass(frozen=True)
class Cost:
    """Of one command."""

    stage: str
    cpu_seconds: float
    wall_seconds: float
    peak_mib: float


def main() -> None:
    """Measure each size in a home of its own."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--admissions", type=int, nargs="+", default=[10_000, 100_000])
    parser.add_argument("--samples", type=int, help="tuning trials instead of those of the profile; 0: no tuning")
    parser.add_argument("--threads", type=int, default=1, help="threads of the warehouse")
    parser.add_argument("--home", type=Path, help="folder that is kept, with what has been measured in it")
    chosen = parser.parse_args()
    for admissions in chosen.admissions:
        with scratch(chosen.home and chosen.home / str(admissions)) as folder:
            costs, disk = measure(folder / "home", admissions, chosen.samples, chosen.threads)
        scale = {"admissions": admissions, "months": MONTHS, "samples": chosen.samples, "threads": chosen.threads}
        save(f"sizing_{admissions}", scale, [asdict(cost) for cost in costs], disk_mb=disk)


def measure(
    home: Path, admissions: int, samples: int | None = None, threads: int = 1
) -> tuple[list[Cost], dict[str, float]]:
    """Stages in order, and what lies on the disk afterwards."""
    first = shift(LAST, 1 - MONTHS)
    environment = {
        **os.environ,
        "HEALTH_PIPELINE_HOME": str(home),
        "HEALTH_PIPELINE_START_MONTH": f"{first:%Y-%m}",
        "HEALTH_PIPELINE_END_MONTH": f"{LAST:%Y-%m}",
        "HEALTH_PIPELINE_AUTOMATION": "false",
        "HEALTH_PIPELINE_SIMULATOR__ADMISSIONS_PER_MONTH": str(admissions // MONTHS),
        "HEALTH_PIPELINE_TRAINING__THREADS": "1",
        "HEALTH_PIPELINE_WAREHOUSE__THREADS": str(threads),
        "OMP_NUM_THREADS": "1",
        "PYTHONPATH": os.pathsep.join(filter(None, [str(Path.cwd()), os.environ.get("PYTHONPATH")])),
    }
    environment.pop("DAGSTER_HOME", None)
    if samples is not None:
        environment["HEALTH_PIPELINE_TRAINING__SAMPLES"] = str(samples)
    before, new = f"{shift(LAST, -1):%Y-%m}", f"{LAST:%Y-%m}"
    extracts = "group:bronze,group:silver,group:gold"
    stages = {
        "simulate": ("simulate",),
        "backfill, extracts": ("run", "--to", before, "--select", extracts),
        "tuned month, models": ("run", "--from", before, "--to", before, "--select", "group:models"),
        **{
            stage: ("run", "--from", new, "--to", new, "--select", select)
            for stage, select in zip(
                NEW_MONTH, (extracts, "group:models", "group:scoring", "group:monitoring"), strict=True
            )
        },
    }
    notes = home.with_name("costs.json")
    measured = {each["stage"]: Cost(**each) for each in json.loads(notes.read_text())} if notes.exists() else {}
    for stage, arguments in stages.items():
        if stage not in measured:
            measured[stage] = _run(stage, environment, *arguments)
            notes.write_text(json.dumps([asdict(cost) for cost in measured.values()]))
    costs = list(measured.values())
    disk = {name: _bytes(home / path) / 1e6 for name, path in _PLACES.items()}
    print("  disk, MB: " + ", ".join(f"{name} {size:,.1f}" for name, size in disk.items()), flush=True)
    return costs, disk


_PLACES = {
    "landing": "landing",
    "warehouse": "warehouse.duckdb",
    "models": "models",
    "mlflow": "mlartifacts",
    "figures": "outputs",
    "records": "dagster",
}


def _run(stage: str, environment: dict[str, str], *arguments: str) -> Cost:
    """A command in a process of its own; its resources as the kernel counted them."""
    began = time.monotonic()
    process = subprocess.Popen(
        [sys.executable, "-m", "health_pipeline", *arguments],
        env=environment,
        stdout=subprocess.DEVNULL,
    )
    _, status, usage = os.wait4(process.pid, 0)
    process.returncode = os.waitstatus_to_exitcode(status)
    if process.returncode:
        raise RuntimeError(f"{stage}: exit status {process.returncode}")
    cost = Cost(stage, usage.ru_utime + usage.ru_stime, time.monotonic() - began, usage.ru_maxrss / 1024)
    print(f"  {stage}: {cost.cpu_seconds:.1f} s CPU, {cost.peak_mib:,.0f} MiB", flush=True)
    return cost


def _bytes(path: Path) -> int:
    return sum(file.stat().st_size for file in ([path] if path.is_file() else path.rglob("*")) if file.is_file())


if __name__ == "__main__":
    main()
