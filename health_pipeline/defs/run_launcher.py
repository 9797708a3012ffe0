"""Dagster's own launcher of run processes, which also notices when one is gone.

Stock Dagster learns of a dead run from the code server that started it. When that server goes down with it (a reboot, a
crash of the whole service), the run would stay STARTED for ever, and with it whatever waits for it: the next
improvement, the next deployment. Here run monitoring asks whether the process still exists: on this machine by its
number, elsewhere (the code location's container) by asking the code server, whose processes end with it. A run of the
command line is one of this machine where it says so: a killed one would keep a slot of the queue for good.
"""

import json
import os
import socket
from pathlib import Path

import dagster as dg
from dagster._core.errors import DagsterUserCodeUnreachableError
from dagster._core.events import EngineEventData
from dagster._core.launcher import CheckRunHealthResult, DefaultRunLauncher, WorkerStatus
from dagster._core.storage.tags import GRPC_INFO_TAG
from dagster._grpc.types import CanCancelExecutionRequest, CanCancelExecutionResult
from dagster._serdes import deserialize_value

MACHINE_TAG = "health_pipeline/machine"
"""Of a run of the command line: where its process can be seen."""
ASK_SECONDS = 10
SLACK_SECONDS = 60.0
"""A process that began later than this after the run's first sign of life is another one with the same number."""


def this_machine() -> str:
    """Where a process id means this very process: the host, and on it the container."""
    try:
        return f"{socket.gethostname()}/{Path('/proc/self/ns/pid').readlink()}"
    except OSError:
        return socket.gethostname()


class WatchedRunLauncher(DefaultRunLauncher):
    """Runs as processes beside their code server, watched by their process id or by asking that server."""

    @property
    def supports_check_run_worker_health(self) -> bool:
        """Run monitoring may ask."""
        return True

    def check_run_worker_health(self, run: dg.DagsterRun) -> CheckRunHealthResult:
        """Failed when the run's process is gone; what cannot be seen now is believed."""
        server = json.loads(run.tags.get(GRPC_INFO_TAG, "{}"))
        if "socket" in server or run.tags.get(MACHINE_TAG) == this_machine():
            known = _process_of(self._instance, run.run_id)
            if known is not None and not _lives(*known):
                return CheckRunHealthResult(WorkerStatus.FAILED, f"its process ({known[0]}) is gone")
        elif server and not self._has_server(run.run_id):
            said = "its code server was started anew and does not know it"
            return CheckRunHealthResult(WorkerStatus.FAILED, said)
        return CheckRunHealthResult(WorkerStatus.RUNNING)

    def _has_server(self, run_id: str) -> bool:
        """Whether the code server that started a run holds its process; one that does not answer is believed to."""
        client = self._get_grpc_client_for_termination(run_id)  # type: ignore[no-untyped-call]
        if client is None:  # the run has ended meanwhile
            return True
        try:
            answer = client.can_cancel_execution(CanCancelExecutionRequest(run_id=run_id), timeout=ASK_SECONDS)
        except DagsterUserCodeUnreachableError:
            return True
        return deserialize_value(answer, CanCancelExecutionResult).can_cancel


def _process_of(instance: dg.DagsterInstance, run_id: str) -> tuple[int, float] | None:
    """Process id of a run, and when it said so (POSIX seconds)."""
    for entry in instance.all_logs(run_id, of_type=dg.DagsterEventType.ENGINE_EVENT):
        data = entry.dagster_event.event_specific_data if entry.dagster_event else None
        if isinstance(data, EngineEventData) and "pid" in data.metadata:
            return int(str(data.metadata["pid"].value)), entry.timestamp
    return None


def _lives(pid: int, said_at: float) -> bool:
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    except PermissionError:
        return True
    # One that has ended keeps its number until its parent asks for it; where nobody does (a container without an init,
    # a code server that hangs), that is for ever.
    if (stat := _stat(pid)) and stat[0] in "ZX":
        return False
    began = _began(pid)
    return began is None or began <= said_at + SLACK_SECONDS


def _stat(pid: int) -> list[str]:
    """What /proc says of a process, from its state on; empty where it does not tell."""
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    except OSError:
        return []


def _began(pid: int) -> float | None:
    """When a process began (POSIX seconds); None where /proc does not tell."""
    try:
        ticks = int(_stat(pid)[19])
        booted = next(line for line in Path("/proc/stat").read_text().splitlines() if line.startswith("btime "))
    except (OSError, ValueError, IndexError, StopIteration):
        return None
    return int(booted.split()[1]) + ticks / os.sysconf("SC_CLK_TCK")
