"""The real webserver and daemon over a home, and the GraphQL calls the UI makes."""

from __future__ import annotations

import os
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import httpx

START_SECONDS = 120
LAUNCH = """
mutation Launch($params: LaunchBackfillParams!) {
  launchPartitionBackfill(backfillParams: $params) {
    __typename
    ... on LaunchBackfillSuccess { backfillId }
    ... on PythonError { message }
    ... on PartitionKeysNotFoundError { message }
  }
}
"""
STATUS = """
query Status($id: String!) {
  partitionBackfillOrError(backfillId: $id) {
    __typename
    ... on PartitionBackfill { status error { message } }
  }
}
"""


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


class Services:
    """A running webserver and daemon."""

    def __init__(self, port: int, host: str = "127.0.0.1") -> None:
        self.url = f"http://{host}:{port}/graphql"

    def query(self, query: str, **variables: object) -> dict:
        answer = httpx.post(self.url, json={"query": query, "variables": variables}, timeout=60)
        answer.raise_for_status()
        body = answer.json()
        assert "errors" not in body, body["errors"]
        return body["data"]

    def backfill(self, partitions: dict[tuple[str, ...], list[str]], *, seconds: float) -> str:
        """Launch a backfill of the partitions of each asset and wait for its end; returns its status."""
        return self.wait_for_backfill(self.launch(partitions), seconds=seconds)

    def launch(self, partitions: dict[tuple[str, ...], list[str]]) -> str:
        """Launch a backfill; returns its id."""
        params = {
            "partitionsByAssets": [
                {
                    "assetKey": {"path": list(path)},
                    "partitions": {"ranges": [{"start": keys[0], "end": keys[-1]}]},
                }
                for path, keys in partitions.items()
            ]
        }
        launched = self.query(LAUNCH, params=params)["launchPartitionBackfill"]
        assert launched["__typename"] == "LaunchBackfillSuccess", launched
        return str(launched["backfillId"])

    def wait_for_backfill(self, backfill: str, *, seconds: float) -> str:
        """Wait for the end of a backfill; returns its status."""
        deadline = time.monotonic() + seconds
        while time.monotonic() < deadline:
            found = self.query(STATUS, id=backfill)["partitionBackfillOrError"]
            if found["status"] not in {"REQUESTED", "CANCELING", "FAILING"}:
                return str(found["status"])
            time.sleep(2)
        raise TimeoutError(f"the backfill did not end within {seconds} s")


@contextmanager
def services(home: Path, environment: dict[str, str]) -> Iterator[Services]:
    """Start what `make up` starts; stop it at the end. Output goes to <home>/services.log."""
    port = free_port()
    home.mkdir(parents=True, exist_ok=True)
    with (home / "services.log").open("w") as log:
        process = subprocess.Popen(
            [sys.executable, "-m", "health_pipeline", "up", "--port", str(port)],
            env={**os.environ, **environment, "HEALTH_PIPELINE_HOME": str(home)},
            stdout=log,
            stderr=subprocess.STDOUT,
            start_new_session=True,
        )
        try:
            running = Services(port)
            _wait_until_ready(running, process, home / "services.log")
            yield running
        finally:
            process.send_signal(signal.SIGTERM)
            try:
                process.wait(30)
            except subprocess.TimeoutExpired:
                os.killpg(process.pid, signal.SIGKILL)
                process.wait()


def _wait_until_ready(running: Services, process: subprocess.Popen, log: Path) -> None:
    deadline = time.monotonic() + START_SECONDS
    while time.monotonic() < deadline:
        assert process.poll() is None, log.read_text()[-3000:]
        try:
            loaded = running.query("{ repositoriesOrError { __typename } }")["repositoriesOrError"]["__typename"]
        except (httpx.TransportError, httpx.HTTPStatusError):
            loaded = None
        if loaded == "RepositoryConnection":
            return
        time.sleep(1)
    raise TimeoutError("the webserver did not come up:\n" + log.read_text()[-3000:])
