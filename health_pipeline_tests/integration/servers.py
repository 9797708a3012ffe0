"""Shared storage as a fleet of machines has it: databases on a real PostgreSQL, files on a real S3, MLflow."""

from __future__ import annotations

import os
import subprocess
import sys
import time
import uuid
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from importlib.resources import files
from pathlib import Path

import httpx
import pytest
import yaml

from health_pipeline_tests.integration.dagster_services import free_port

POSTGRES = "HEALTH_PIPELINE_TEST_POSTGRES"  # postgresql://user@host:port, a server on which databases may be created
S3 = "HEALTH_PIPELINE_TEST_S3"  # s3://bucket/prefix; endpoint and credentials in the AWS variables
START_SECONDS = 120


@dataclass(frozen=True)
class Shared:
    """Where several machines meet: the database of Dagster's records, and the settings that name the rest."""

    dagster: str
    settings: dict[str, object]

    def make_instance(self, home: Path) -> None:
        """Write the instance of a home: the stock one with its records in PostgreSQL."""
        instance = yaml.safe_load(files("health_pipeline.defs").joinpath("dagster.yaml").read_text())
        instance["storage"] = {"postgres": {"postgres_url": self.dagster}}
        folder = home / "dagster"
        folder.mkdir(parents=True)
        (folder / "dagster.yaml").write_text(yaml.safe_dump(instance))


def deliver(folder: Path, landing: str) -> None:
    """Copy landed files to the bucket, as a hospital's interface engine would."""
    boto3 = pytest.importorskip("boto3", reason="the extra aws is not installed")
    bucket, _, prefix = landing.removeprefix("s3://").partition("/")
    client = boto3.client("s3")
    for file in sorted(path for path in folder.rglob("*") if path.is_file()):
        client.upload_file(str(file), bucket, f"{prefix}/{file.relative_to(folder).as_posix()}")


@contextmanager
def shared_storage(folder: Path) -> Iterator[Shared]:
    """Databases of their own, a prefix of its own, and a running MLflow server; skips where there are no servers."""
    psycopg2 = pytest.importorskip("psycopg2", reason="the extra postgres is not installed")
    for name in (POSTGRES, S3):
        if name not in os.environ:
            pytest.skip(f"{name} is not set")
    server, mark = os.environ[POSTGRES].rstrip("/"), uuid.uuid4().hex[:12]
    names = {use: f"{use}_{mark}" for use in ("dagster", "catalog", "mlflow")}
    connection = psycopg2.connect(f"{server}/postgres")
    connection.autocommit = True
    try:
        with connection.cursor() as cursor:
            for name in names.values():
                cursor.execute(f"CREATE DATABASE {name}")
        with _mlflow_server(f"{server}/{names['mlflow']}", folder) as mlflow:
            bucket = f"{os.environ[S3].rstrip('/')}/{mark}"
            settings: dict[str, object] = {
                "landing": f"{bucket}/landing",
                "warehouse": {
                    "backend": "ducklake",
                    "catalog": f"{server}/{names['catalog']}",
                    "data_path": f"{bucket}/lake",
                },
                "mlflow": {"tracking_uri": mlflow},
            }
            yield Shared(f"{server}/{names['dagster']}", settings)
    finally:
        with connection.cursor() as cursor:
            for name in names.values():
                cursor.execute(f"DROP DATABASE IF EXISTS {name} WITH (FORCE)")
        connection.close()


@contextmanager
def _mlflow_server(database: str, folder: Path) -> Iterator[str]:
    port = free_port()
    url = f"http://127.0.0.1:{port}"
    words = ["server", "--host", "127.0.0.1", "--port", str(port), "--workers", "1"]
    storage = ["--backend-store-uri", database.replace("postgresql://", "postgresql+psycopg2://")]
    storage += ["--artifacts-destination", str(folder / "artefacts")]
    with (folder / "mlflow.log").open("w") as log:
        process = subprocess.Popen(
            [sys.executable, "-m", "mlflow", *words, *storage],
            env={**os.environ, "MLFLOW_SERVER_ENABLE_JOB_EXECUTION": "false", "MLFLOW_DISABLE_TELEMETRY": "true"},
            stdout=log,
            stderr=subprocess.STDOUT,
        )
    try:
        deadline = time.monotonic() + START_SECONDS
        while True:
            assert process.poll() is None, (folder / "mlflow.log").read_text()[-3000:]
            try:
                if httpx.get(f"{url}/health", timeout=5).is_success:
                    break
            except httpx.TransportError:
                pass  # not listening yet
            assert time.monotonic() < deadline, (folder / "mlflow.log").read_text()[-3000:]
            time.sleep(0.5)
        yield url
    finally:
        process.terminate()
        process.wait(30)
