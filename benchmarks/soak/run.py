"""Months replayed unattended, file drop by file drop, through the real daemon, with random faults.

    python -m benchmarks.soak.run [--months 60] [--turn 60] [--seed 1] [--fault-share 0.4] [--root DIR]

A soak can be played in turns: with ``--turn 5`` five more months are played in the folder ``--root``, and the services
rest in between; the turn that plays the last month (or ``--finish``) judges all of them. While a file ``hold`` lies in
the folder no new month begins.

Sensors look as often as they do in production. A month is done when its extracts, the labels of the month before, its
decision, scores, drift and performance are stored and its model serves or its skip is reported. Months that are not
done within half an hour count as needing somebody. In the end the home is compared, row by row, with one that got the
same files at once and met no fault. Faults: a broken file, a killed run, the model store away, a crash of the API, and
(as root) a full disk.
"""

from __future__ import annotations

import argparse
import json
import os
import random
import statistics
import subprocess
import sys
import tempfile
import time
from contextlib import suppress
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import sqlalchemy.exc

from benchmarks.soak import evidence
from benchmarks.soak.faults import FAULTS, Incident, Scene, alerts, begin, plan
from benchmarks.soak.hospital import WARM_UP, Services, SmallDisk, deliver, make_extracts, settings_of
from health_pipeline.defs.instance import open_instance
from health_pipeline.defs.state import records_of
from health_pipeline.deployment.local import LocalTarget
from health_pipeline.months import Month, MonthRange, month_key, shift
from health_pipeline.settings import Settings
from health_pipeline_tests.integration.dagster_services import free_port
from health_pipeline_tests.integration.home import run

PATIENCE_SECONDS = 1800


@dataclass
class Result:
    """A month of the soak; times in seconds since its files were dropped."""

    month: str
    fault: Incident | None
    decision_s: float | None
    outcome: str | None
    serving_s: float | None
    needed_somebody: bool
    failed_runs: int
    run_alerts: int


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--months", type=int, default=60)
    parser.add_argument("--turn", type=int, default=60, help="months played in this call")
    parser.add_argument("--finish", action="store_true", help="play nothing, judge what was played")
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--admissions", type=int, default=500)
    parser.add_argument("--fault-share", type=float, default=0.4, help="share of months that meet a fault")
    parser.add_argument("--faults", nargs="+", default=sorted(FAULTS), choices=sorted(FAULTS))
    parser.add_argument("--disk-mib", type=int, default=3000)
    parser.add_argument("--root", type=Path, default=Path(tempfile.gettempdir()) / "soak")
    parser.add_argument("--out", type=Path, default=Path("benchmarks/results/soak.json"))
    arguments = parser.parse_args()
    os.environ.pop("DAGSTER_HOME", None)
    disk = SmallDisk(arguments.root / "disk", arguments.disk_mib)
    size = {"admissions": arguments.admissions, "seed": arguments.seed}
    extracts = settings_of(arguments.root / "extracts", arguments.months, **size)
    mlflow_port = free_port()
    extra = f'[mlflow]\ntracking_uri = "http://127.0.0.1:{mlflow_port}"\n[serving]\nport = {free_port()}\n'
    settings = settings_of(disk.path / "home", arguments.months, **size, extra=extra)
    log = arguments.root / "months.jsonl"
    played = log.read_text().splitlines() if log.exists() else []
    if not played and not (settings.home / "landing").exists():
        make_extracts(extracts)
        deliver(extracts, settings, warm_up(settings))
        run(settings, warm_up(settings))
    if not arguments.finish:
        play(Services(settings, mlflow_port), extracts, disk, arguments, len(played))
    played = log.read_text().splitlines()
    if arguments.finish or len(played) >= arguments.months:
        report = judge(settings, arguments, [json.loads(line) for line in played])
        arguments.out.write_text(json.dumps(report, indent=1, default=str) + "\n")
        print(json.dumps(report["summary"], indent=1))
        disk.close()


def warm_up(settings: Settings) -> MonthRange:
    """Months before the first model."""
    return MonthRange(settings.start_month, shift(settings.start_month, WARM_UP - 1))


def play(services: Services, extracts: Settings, disk: SmallDisk, arguments: argparse.Namespace, played: int) -> None:
    """Play the next months; notes how often UI and daemon had to be started again."""
    settings = services.settings
    try:
        services.start()
        with open_instance(settings) as instance:
            kinds = [kind for kind in arguments.faults if kind != "full_disk" or disk.is_mounted]
            faults = plan(kinds, arguments.months, arguments.seed, arguments.fault_share)
            months = list(MonthRange(settings.first_model_month, settings.months.last))
            for number in range(played, min(played + arguments.turn, len(months))):
                rest(arguments.root)
                scene = Scene(settings, extracts, services, disk, instance, random.Random(f"{arguments.seed} {number}"))
                line = json.dumps(asdict(one_month(scene, months[number], faults[number])), default=str)
                with (arguments.root / "months.jsonl").open("a") as log:
                    log.write(line + "\n")
                print(line, flush=True)
    finally:
        with (arguments.root / "restarts").open("a") as log:
            log.write(f"{services.restarts}\n")
        services.stop()
        LocalTarget(settings).stop()


def rest(root: Path) -> None:
    """Between two months, wait while the file ``hold`` lies in the folder; ``held`` says that it waits."""
    held = root / "held"
    while (root / "hold").exists():
        held.touch()
        time.sleep(1)
    held.unlink(missing_ok=True)


def judge(settings: Settings, arguments: argparse.Namespace, months: list[dict[str, Any]]) -> dict[str, Any]:
    """Compare with a home that met no fault, and sum up."""
    with open_instance(settings) as instance:
        twice = evidence.done_twice(settings, instance)
    last = shift(warm_up(settings).last, len(months))
    size = {"admissions": arguments.admissions, "seed": arguments.seed}
    undisturbed = settings_of(arguments.root / "undisturbed", arguments.months, **size)
    del os.environ["DAGSTER_HOME"]  # the other home has its own instance
    deliver(settings_of(arguments.root / "extracts", arguments.months, **size), undisturbed, through(settings, last))
    run(undisturbed, through(settings, last))
    compared = evidence.against_undisturbed(settings, undisturbed, last)
    restarts = sum(int(line) for line in (arguments.root / "restarts").read_text().split())
    summary = summarise(months) | {"services_restarted": restarts} | twice
    summary["rows_lost"] = sum(table["lost"] for table in compared.values())
    summary["rows_surplus"] = sum(table["surplus"] for table in compared.values())
    return {"summary": summary, "tables": compared, "months": months}


def through(settings: Settings, last: Month) -> MonthRange:
    """All months up to the last one played."""
    return MonthRange(settings.start_month, last)


def one_month(scene: Scene, month: Month, fault: str | None) -> Result:
    """Drop a month, let its fault happen, wait until it is done."""
    deliver(scene.extracts, scene.settings, MonthRange(month, month))
    dropped = time.time()
    incident, thread = begin(fault, scene, month) if fault else (None, None)
    needed = False
    while not (is_done(scene, month) and (thread is None or not thread.is_alive())):
        scene.services.keep_alive()
        if time.time() > dropped + PATIENCE_SECONDS:
            needed = True
            command = [sys.executable, "-m", "health_pipeline", "run", "--from", f"{month:%Y-%m}", "--to"]
            environment = {**os.environ, "HEALTH_PIPELINE_HOME": str(scene.settings.home)}
            subprocess.run([*command, f"{month:%Y-%m}"], check=False, env=environment)
            break
        time.sleep(2)
    decided = evidence.decided_at(scene.instance, month)
    served = evidence.serving_at(scene.settings, scene.instance, month)
    return Result(
        month_key(month)[:7],
        incident,
        # What drift brought forward was there before the files.
        None if decided is None else max(0, round(decided - dropped)),
        served[0] if served else None,
        max(0, round(served[1] - dropped)) if served else None,
        needed,
        failed_runs(scene, month),
        len(alerts(scene.settings, "run_failed", month)),
    )


def is_done(scene: Scene, month: Month) -> bool:
    """Whether nothing of the month is open; while the disk is full nobody can tell."""
    before = shift(month, -1)
    wanted = [
        ("gold/features", month),
        ("gold/labels", before),
        ("models/champion", month),
        ("gold/predictions", month),
    ]
    wanted += [("monitoring/drift", month)]
    with suppress(sqlalchemy.exc.OperationalError, OSError):
        labels, measured = (
            records_of(scene.instance, table).get(before, 0) for table in ("gold.labels", "monitoring.performance")
        )
        return (
            all(evidence.is_stored(scene.instance, asset, each) for asset, each in wanted)
            and (measured > labels or before < scene.settings.first_model_month)
            and evidence.serving_at(scene.settings, scene.instance, month) is not None
        )
    return False


def failed_runs(scene: Scene, month: Month) -> int:
    """Runs of the month that failed."""
    import dagster as dg

    tags = {"dagster/partition": month_key(month)}
    return len(scene.instance.get_runs(dg.RunsFilter(statuses=[dg.DagsterRunStatus.FAILURE], tags=tags)))


def summarise(months: list[dict[str, Any]]) -> dict[str, Any]:
    """Shares and times over all months."""
    decision = [month["decision_s"] for month in months if month["decision_s"] is not None]
    serving = [month["serving_s"] for month in months if month["serving_s"] is not None]
    nobody = sum(not month["needed_somebody"] for month in months)
    return {
        "months": len(months),
        "months_with_fault": sum(month["fault"] is not None for month in months),
        "months_needing_nobody_share": round(nobody / len(months), 4),
        "months_with_file_sent_again": sum(bool(month["fault"] and month["fault"]["resent"]) for month in months),
        "failed_runs": sum(month["failed_runs"] for month in months),
        "failed_runs_alerted": sum(month["run_alerts"] for month in months),
        "decision_s": {"median": statistics.median(decision), "worst": max(decision)},
        "serving_s": {"median": statistics.median(serving), "worst": max(serving)},
    }


if __name__ == "__main__":
    main()
