"""``health-pipeline up``: the Dagster UI and its daemon, supervised together."""

from __future__ import annotations

import os
import signal
import socket
import subprocess
import sys
import time

from rich.console import Console

from health_pipeline.defs.instance import instance_folder
from health_pipeline.errors import PipelineError
from health_pipeline.settings import PREFIX, Settings

MODULE = "health_pipeline.definitions"
GRACE_SECONDS = 15


def serve(settings: Settings, port: int, console: Console) -> int:
    """Run UI and daemon until Ctrl-C or until one of them ends; returns the exit code.

    Raises:
        PipelineError: the port is taken.
    """
    _refuse_taken_port(port)
    environment = {
        **os.environ,
        "DAGSTER_HOME": str(instance_folder(settings)),
        f"{PREFIX}HOME": str(settings.home.resolve()),
    }
    location = ["-m", MODULE]
    commands = {
        "webserver": ["dagster_webserver", "-h", "127.0.0.1", "-p", str(port), *location],
        "daemon": ["dagster._daemon", "run", *location],
    }
    processes = {
        name: subprocess.Popen([sys.executable, "-m", *command], env=environment) for name, command in commands.items()
    }
    console.print(f"Dagster UI: [bold]http://127.0.0.1:{port}[/] (Ctrl-C stops it)", highlight=False)
    signal.signal(signal.SIGTERM, signal.default_int_handler)
    try:
        while True:
            for name, process in processes.items():
                code = process.poll()
                if code is not None:
                    console.print(f"[red]{name} ended with code {code}[/]; stopping the other")
                    return code or 1
            time.sleep(0.5)
    except KeyboardInterrupt:
        return 0
    finally:
        _stop(list(processes.values()))


def _refuse_taken_port(port: int) -> None:
    with socket.socket() as probe:
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            probe.bind(("127.0.0.1", port))
        except OSError:
            raise PipelineError(
                f"port {port} is taken",
                where="127.0.0.1",
                remedy="stop what listens there, or: health-pipeline up --port N",
            ) from None


def _stop(processes: list[subprocess.Popen[bytes]]) -> None:
    for process in processes:
        if process.poll() is None:
            process.send_signal(signal.SIGINT)
    deadline = time.monotonic() + GRACE_SECONDS
    for process in processes:
        try:
            process.wait(max(0.1, deadline - time.monotonic()))
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait()
