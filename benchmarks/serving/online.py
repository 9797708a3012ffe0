"""Requests per second of this API and its peers: ``python -m benchmarks.serving.online FOLDER``.

Servers run at the same time and are measured in turns. Every round measures every server once, so that each pair of
figures was taken under the same conditions; shown are medians of the rounds, and of the ratios within a round.
"""

from __future__ import annotations

import argparse
import contextlib
import importlib.util
import json
import os
import secrets
import signal
import socket
import statistics
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from benchmarks.serving.load import load, message
from benchmarks.serving.models import make, rows

TOKEN = secrets.token_urlsafe(32)
CORES = sorted(os.sched_getaffinity(0))
SERVER_CORE, CLIENT_CORE = (CORES[0], CORES[1]) if len(CORES) > 1 else (None, None)
"""Every server has one core, the client another: what a worker does beside answering counts against it."""
OURS = ("ours_xgboost", "ours_logistic_regression")


def free_port() -> int:
    with socket.socket() as sock:
        sock.bind(("127.0.0.1", 0))
        return int(sock.getsockname()[1])


def command(server: str, folder: Path, port: int) -> tuple[list[str], dict[str, str]]:
    """How a server is started."""
    releases = json.loads((folder / "releases.json").read_text())
    environment = {
        **os.environ,
        "HEALTH_PIPELINE_HOME": str(folder / "home"),
        "HEALTH_PIPELINE_SERVING__TOKEN": TOKEN,
        "PEER_MODEL": str(folder / "xgboost.joblib"),
    }
    if server in OURS:
        release = folder / "home" / "releases" / releases[server.removeprefix("ours_")]
        return (
            [sys.executable, "-m", "health_pipeline.serving", "--release", str(release), "--port", str(port)],
            environment,
        )
    if server == "mlflow":
        # It starts the `uvicorn` of the PATH, which must be that of this environment.
        environment["PATH"] = os.pathsep.join([str(Path(sys.executable).parent), environment["PATH"]])
        mlflow = [sys.executable, "-m", "mlflow", "models", "serve", "--env-manager", "local", "--workers", "1"]
        return [*mlflow, "-m", str(folder / "mlflow"), "-p", str(port)], environment
    if server == "bentoml":
        bentoml = [os.environ["BENTOML_PYTHON"], "-m", "bentoml", "serve", "benchmarks.serving.bento:Readmission"]
        return [*bentoml, "--port", str(port), "--host", "127.0.0.1"], environment
    uvicorn = [sys.executable, "-m", "uvicorn", "--port", str(port), "--log-level", "error", "--no-access-log"]
    uvicorn += ["--no-proxy-headers"]
    target = {"floor": ["benchmarks.serving.peers:floor"], "fastapi": ["--factory", "benchmarks.serving.peers:fastapi"]}
    return [*uvicorn, *target[server]], environment


@contextlib.contextmanager
def running(server: str, folder: Path) -> Iterator[tuple[int, float, float]]:
    """Port, seconds to the first answer, and a process to be measured."""
    port = free_port()
    arguments, environment = command(server, folder, port)
    began = time.perf_counter()
    process = subprocess.Popen(
        arguments, env=environment, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL, start_new_session=True
    )
    if SERVER_CORE is not None:
        os.sched_setaffinity(process.pid, {SERVER_CORE})
    try:
        probe = messages(server, 1)[:1]
        while True:
            with contextlib.suppress(OSError):
                if load(port, probe, connections=1, seconds=0.001).failed == 0:
                    break
            if process.poll() is not None:
                raise SystemExit(f"{server} ended with {process.returncode}")
            time.sleep(0.02)
        ready = time.perf_counter() - began
        load(port, messages(server, 1), connections=1, seconds=0.5)
        yield port, ready, memory(process.pid)
    finally:
        os.killpg(process.pid, signal.SIGTERM)  # some peers start their server as a child
        process.wait()


def memory(pid: int) -> float:
    status = Path(f"/proc/{pid}/status").read_text().splitlines()
    return next(int(line.split()[1]) / 1024 for line in status if line.startswith("VmRSS"))


def messages(server: str, records: int) -> list[bytes]:
    """Varied requests of so many records each."""
    made = rows(200 * records if records == 1 else 20 * records)
    result = []
    for start in range(0, len(made), records):
        part = made[start : start + records]
        if server == "mlflow":
            columns = list(part[0])
            body: Any = {"dataframe_split": {"columns": columns, "data": [list(row.values()) for row in part]}}
            result.append(message("/invocations", json.dumps(body).encode(), None))
        elif server in {"fastapi", "bentoml"}:
            path = "/predict" if server == "bentoml" else "/v1/predict"
            result.append(message(path, json.dumps({"records": part}).encode(), None))
        else:
            wrapped = [{"patient_id": f"p{start + index}", "features": row} for index, row in enumerate(part)]
            body = wrapped[0] if records == 1 else {"records": wrapped}
            result.append(message("/v1/predict", json.dumps(body).encode(), TOKEN))
    return result


def save_for_mlflow(folder: Path) -> None:
    import joblib
    import mlflow.sklearn

    mlflow.sklearn.save_model(
        joblib.load(folder / "xgboost.joblib"),
        folder / "mlflow",
        pip_requirements=[],
        serialization_format="cloudpickle",
    )


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("folder", type=Path)
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--seconds", type=float, default=3.0)
    parser.add_argument("--servers", nargs="*", default=["floor", *OURS, "fastapi", "mlflow"])
    parser.add_argument("--bentoml", help="Python interpreter of an environment that has BentoML; measures it too")
    options = parser.parse_args()
    if options.bentoml:
        os.environ["BENTOML_PYTHON"] = options.bentoml
        options.servers.append("bentoml")
    if CLIENT_CORE is not None:
        os.sched_setaffinity(0, {CLIENT_CORE})
    folder = options.folder.resolve()
    folder.mkdir(parents=True, exist_ok=True)
    if not (folder / "releases.json").exists():
        make(folder)
    if "mlflow" in options.servers and importlib.util.find_spec("mlflow") and not (folder / "mlflow").exists():
        save_for_mlflow(folder)
    with contextlib.ExitStack() as stack:
        servers = {name: stack.enter_context(running(name, folder)) for name in options.servers}
        kinds = {"1 record, 1 connection": (1, 1), "1 record, 16 connections": (1, 16), "100 records": (100, 1)}
        report: dict[str, Any] = {
            "start_seconds": {name: round(item[1], 2) for name, item in servers.items()},
            "memory_mib": {name: round(item[2]) for name, item in servers.items()},
        }
        for kind, (records, connections) in kinds.items():
            rates: dict[str, list[float]] = {name: [] for name in servers}
            failed = 0
            prepared = {name: messages(name, records) for name in servers}
            for _ in range(options.rounds):
                for name, (port, _ready, _memory) in servers.items():
                    found = load(port, prepared[name], connections=connections, seconds=options.seconds)
                    rates[name].append(found.rate)
                    failed += found.failed
            report[kind] = {
                "requests_per_second": {name: round(statistics.median(values), 1) for name, values in rates.items()},
                "ratio_of_ours": {
                    ours: {
                        name: round(
                            statistics.median(
                                a / b if b else float("inf") for a, b in zip(rates[ours], values, strict=True)
                            ),
                            2,
                        )
                        for name, values in rates.items()
                        if name not in OURS
                    }
                    for ours in OURS
                    if ours in rates
                },
                "failed": failed,
            }
    print(json.dumps(report, indent=1))


if __name__ == "__main__":
    main()
