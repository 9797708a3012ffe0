"""Faults of the soak. Each begins when its month is dropped and ends by itself; nobody touches the pipeline."""

from __future__ import annotations

import json
import os
import random
import signal
import threading
import time
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path

import dagster as dg

from benchmarks.soak.hospital import Services, SmallDisk, extract, put
from health_pipeline.deployment.client import ApiClient
from health_pipeline.deployment.local import LocalTarget
from health_pipeline.months import Month, month_key
from health_pipeline.serving.places import Places
from health_pipeline.settings import Settings

STAGES = {"extracts": ("extracts",), "improvement": ("improvement", "scoring")}
"""Requests behind the runs of a month; where drift has brought its models forward, it is scored only."""
ACTIVE = [dg.DagsterRunStatus.STARTED]
WAIT_SECONDS = 600


@dataclass
class Scene:
    """What faults act on."""

    settings: Settings
    extracts: Settings
    services: Services
    disk: SmallDisk
    instance: dg.DagsterInstance
    random: random.Random


@dataclass
class Incident:
    """A fault of a month: what was done, and what was seen of it.

    Attributes:
        notes: facts for the report, such as seconds until the API answered again.
        resent: whether the sender had to send a file again.
    """

    kind: str
    notes: dict[str, float | str] = field(default_factory=dict)
    resent: bool = False


Fault = Callable[[Scene, Month, Incident], None]


def plan(kinds: list[str], months: int, seed: int, share: float) -> list[str | None]:
    """The fault of each month, or none: every kind equally often, in random order."""
    random_ = random.Random(seed)
    waiting: list[str] = []
    planned: list[str | None] = []
    for _ in range(months):
        if random_.random() >= share:
            planned.append(None)
            continue
        if not waiting:
            waiting = random_.sample(kinds, len(kinds))
        planned.append(waiting.pop())
    return planned


def begin(kind: str, scene: Scene, month: Month) -> tuple[Incident, threading.Thread]:
    """Let a fault happen beside the month's work."""
    incident = Incident(kind)
    thread = threading.Thread(target=FAULTS[kind], args=(scene, month, incident), daemon=True)
    thread.start()
    return incident, thread


def bad_file(scene: Scene, month: Month, incident: Incident) -> None:
    """A transfer broke off. The sender reads the alert and sends the file again."""
    table = scene.random.choice(["admissions", "clinical_events", "claims"])
    file = extract(scene.extracts, table, month)
    before = len(alerts(scene.settings, "run_failed", month))
    put(file, scene.settings, share=0.6)
    incident.notes["table"] = table
    began = time.monotonic()
    if _wait(lambda: len(alerts(scene.settings, "run_failed", month)) > before):
        incident.notes["alerted_after_s"] = round(time.monotonic() - began)
    put(file, scene.settings)
    incident.resent = True


def killed_run(scene: Scene, month: Month, incident: Incident) -> None:
    """The process of a run of the month dies at a random moment."""
    wanted = scene.random.choice(["extracts", "improvement"])
    process = _run_process(scene, month, wanted)
    if process is None:
        incident.notes["missed"] = "no such run was seen"
        return
    time.sleep(scene.random.uniform(0, 8))
    with suppress(ProcessLookupError):
        os.kill(process, signal.SIGKILL)
        incident.notes["killed"] = wanted


def mlflow_away(scene: Scene, month: Month, incident: Incident) -> None:
    """The model store is away when training begins, for a while."""
    if _run_process(scene, month, "improvement") is None:
        incident.notes["missed"] = "no training was seen"
        return
    scene.services.kill_mlflow()
    seconds = scene.random.uniform(10, 90)
    time.sleep(seconds)
    scene.services.start_mlflow()
    incident.notes["away_s"] = round(seconds)


def api_crash(scene: Scene, _month: Month, incident: Incident) -> None:
    """The serving process dies; the supervisor has to bring it back."""
    time.sleep(scene.random.uniform(0, 90))
    places = Places.of(scene.settings.home, "production")
    supervisor = places.lock.read_text().strip() if places.lock.exists() else ""
    children = Path(f"/proc/{supervisor}/task/{supervisor}/children")
    workers = children.read_text().split() if supervisor and children.exists() else []
    if not workers:
        incident.notes["missed"] = "no API serves yet"
        return
    os.kill(int(workers[0]), signal.SIGKILL)
    began = time.monotonic()
    endpoint = LocalTarget(scene.settings).endpoint()
    failed = 0
    while time.monotonic() < began + WAIT_SECONDS:
        with ApiClient(endpoint, timeout=10) as client:
            if client.ask("GET", "/health/ready").is_ok:
                break
        failed += 1
        time.sleep(0.05)
    incident.notes |= {"back_after_s": round(time.monotonic() - began, 2), "refused_requests": failed}


def full_disk(scene: Scene, month: Month, incident: Incident) -> None:
    """The disk fills up while a run of the month is at work; a minute later there is space again."""
    _run_process(scene, month, scene.random.choice(["extracts", "improvement"]))
    scene.disk.fill()
    time.sleep(60)
    scene.disk.clear()
    incident.notes["full_s"] = 60


FAULTS: dict[str, Fault] = {
    "bad_file": bad_file,
    "killed_run": killed_run,
    "mlflow_away": mlflow_away,
    "api_crash": api_crash,
    "full_disk": full_disk,
}


def alerts(settings: Settings, kind: str | None = None, month: Month | None = None) -> list[dict[str, str]]:
    """Lines of the alert log."""
    log = settings.home / "logs" / "alerts.jsonl"
    lines = [json.loads(line) for line in log.read_text().splitlines() if line.endswith("}")] if log.exists() else []
    return [
        line
        for line in lines
        if (kind is None or line["kind"] == kind) and (month is None or line["partition"] == month_key(month))
    ]


def _run_process(scene: Scene, month: Month, stage: str) -> int | None:
    """Process of a run of that stage and month that is at work."""
    found: list[int] = []

    def look() -> bool:
        runs = scene.instance.get_runs(
            dg.RunsFilter(statuses=ACTIVE, tags={"dagster/partition": month_key(month)}), limit=20
        )
        for run in runs:
            if run.tags.get("health_pipeline/request", "").startswith(STAGES[stage]):
                for record in scene.instance.all_logs(run.run_id):
                    event = record.dagster_event
                    pid = event.engine_event_data.metadata.get("pid") if event and event.is_engine_event else None
                    if pid is not None:
                        found.append(int(str(pid.value)))
                        return True
        return False

    return found[0] if _wait(look) else None


def _wait(condition: Callable[[], bool]) -> bool:
    deadline = time.monotonic() + WAIT_SECONDS
    while time.monotonic() < deadline:
        with suppress(OSError):  # the disk may be full
            if condition():
                return True
        time.sleep(0.5)
    return False
