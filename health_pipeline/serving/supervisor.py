"""The supervisor: holds the listening socket and keeps one serving process alive.

It retreats to the fallback from a release that kills the process. Because the socket stays open, connections wait in
the backlog while a crashed process is replaced.
"""

from __future__ import annotations

import fcntl
import os
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Sequence
from types import FrameType
from typing import IO

import structlog

from health_pipeline.errors import DeploymentError
from health_pipeline.serving.places import Places
from health_pipeline.serving.traffic import Traffic, read_traffic, write_traffic

YOUNG_SECONDS = 10.0
"""A process that dies earlier than this after its start counts towards the retreat."""
DEATHS_BEFORE_RETREAT = 2
LONGEST_PAUSE_SECONDS = 10.0
LOCK_SECONDS = 1.0

_log = structlog.get_logger(__name__)


class Supervisor:
    """Runs the worker command until it is told to stop.

    Args:
        command: worker command; ``--worker --fd <n> --parent <pid>`` is appended.
        places: files of the environment.
        sock: listening socket, inherited by the worker.
    """

    def __init__(self, command: Sequence[str], places: Places, sock: socket.socket) -> None:
        self._command, self._places, self._sock = command, places, sock
        self._worker: subprocess.Popen[bytes] | None = None
        self._stopping = False

    def run(self) -> None:
        """Keep the worker alive; returns after SIGTERM or SIGINT."""
        for number in (signal.SIGTERM, signal.SIGINT):
            signal.signal(number, self._stop)
        signal.signal(signal.SIGUSR1, self._forward)
        deaths = 0
        socket_number = str(self._sock.fileno())
        words = [*self._command, "--worker", "--fd", socket_number, "--parent", str(os.getpid())]
        while not self._is_told_to_stop():
            began = time.monotonic()
            status = self._run_worker(words)
            if self._is_told_to_stop():
                return
            deaths = deaths + 1 if time.monotonic() - began < YOUNG_SECONDS else 1
            _log.error("worker_died", status=status, deaths=deaths)
            if deaths >= DEATHS_BEFORE_RETREAT and self._retreat():
                deaths = 0
            end = time.monotonic() + min(0.05 * 2 ** min(deaths, 16), LONGEST_PAUSE_SECONDS)
            while time.monotonic() < end and not self._is_told_to_stop():
                time.sleep(0.05)

    def _run_worker(self, words: Sequence[str]) -> int | str:
        """Exit status of a worker that has ended, or why there was none."""
        try:
            self._worker = subprocess.Popen(words, pass_fds=[self._sock.fileno()])
        except OSError as error:  # memory or processes are used up, which passes
            return f"not started: {error.strerror}"
        if self._is_told_to_stop():  # while the process was started
            self._worker.terminate()
        return self._worker.wait()

    def _is_told_to_stop(self) -> bool:
        """Asked again and again: the signal may come at any moment, also while there is no worker to pass it on to."""
        return self._stopping

    def _stop(self, _number: int, _frame: FrameType | None) -> None:
        self._stopping = True
        if self._worker is not None:
            self._worker.terminate()

    def _forward(self, number: int, _frame: FrameType | None) -> None:
        if self._worker is not None:
            self._worker.send_signal(number)

    def _retreat(self) -> bool:
        """Send all traffic to the fallback release, when the manifest names one that is not alone already."""
        try:
            traffic = read_traffic(self._places.traffic)
            if traffic is None or traffic.fallback is None or traffic.routes == (traffic.fallback,):
                return False
            write_traffic(
                self._places.traffic,
                Traffic(generation=traffic.generation + 1, routes=(traffic.fallback,)),
            )
        except DeploymentError as error:
            _log.error("not_retreated", reason=error.what)
            return False
        _log.error("retreated", release=traffic.fallback.release_id)
        return True


def supervise(command: Sequence[str], places: Places, sock: socket.socket) -> None:
    """Run a supervisor, one per environment; closes the socket in the end.

    Raises:
        DeploymentError: another supervisor runs for this environment.
    """
    places.lock.parent.mkdir(parents=True, exist_ok=True)
    lock: IO[str] = places.lock.open("a+")
    end = time.monotonic() + LOCK_SECONDS
    while True:
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
            break
        except OSError as error:
            if time.monotonic() > end:
                lock.close()
                raise DeploymentError(
                    "the API of this environment is already running",
                    where=str(places.lock),
                    remedy="use the running one",
                ) from error
            time.sleep(0.05)  # somebody may just be looking whether it runs
    lock.truncate(0)
    lock.write(str(os.getpid()))
    lock.flush()
    try:
        Supervisor(command, places, sock).run()
    finally:
        sock.close()  # first: whoever finds the lock free may bind the address
        lock.close()


def python_command() -> list[str]:
    """How this package's API is started."""
    return [sys.executable, "-m", "health_pipeline.serving"]
