"""Pods of ``deploy/kubernetes`` run the months of a single machine: a job a run, PostgreSQL, DuckLake on S3."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import time
from pathlib import Path

import httpx
import pytest

from health_pipeline.defs.build import build_definitions
from health_pipeline.months import MonthRange, month_key
from health_pipeline.settings import Settings, load_settings
from health_pipeline_tests.integration.cluster import API, BUCKET, PASSWORD, SPACE, TOKEN, Cluster, Placed, push_images
from health_pipeline_tests.integration.dagster_services import Services
from health_pipeline_tests.integration.home import small_environment, small_settings
from health_pipeline_tests.integration.servers import Shared, deliver
from health_pipeline_tests.integration.tables import DERIVED, LANDED, assert_the_same, rows

pytestmark = [
    pytest.mark.slow,
    pytest.mark.servers,
    pytest.mark.skipif(
        not {"KUBECONFIG", "IMAGE_REGISTRY"} <= os.environ.keys(),
        reason="needs a cluster of one node at KUBECONFIG, which is this machine, and IMAGE_REGISTRY",
    ),
]
EARLY, LATE = MonthRange.of("2022-01", "2022-05"), MonthRange.of("2022-06", "2022-10")
PATIENCE_SECONDS = 900
CREDENTIALS = {"AWS_ACCESS_KEY_ID": "test", "AWS_SECRET_ACCESS_KEY": "test", "AWS_DEFAULT_REGION": "us-east-1"}
SAME_KERNELS = {"OPENBLAS_CORETYPE": "Haswell", "OPENBLAS_L2_SIZE": "512"}
"""As the image has them."""
RUNS = """
query Runs($backfill: String!) {
  runsOrError(filter: {tags: [{key: "dagster/backfill", value: $backfill}]}) {
    ... on Runs { results { runId status } }
  }
}
"""


@pytest.fixture(scope="module")
def single(tmp_path_factory):
    """One machine, one file; the same BLAS kernels as in the image."""
    home = tmp_path_factory.mktemp("single") / "home"
    environment = {**os.environ, **small_environment(home), **SAME_KERNELS}
    environment.pop("DAGSTER_HOME", None)
    for command in ("simulate", "run"):
        done = subprocess.run(
            [sys.executable, "-m", "health_pipeline", command],
            env=environment,
            capture_output=True,
            text=True,
            check=False,
        )
        assert done.returncode == 0, done.stderr[-3000:]
    return small_settings(home)


@pytest.fixture(scope="module")
def home(tmp_path_factory):
    """The folder that pods share."""
    return tmp_path_factory.mktemp("shared")


@pytest.fixture(scope="module")
def cluster(home):
    given = small_environment(Path("/data"))
    started = Cluster(Placed(push_images(os.environ["IMAGE_REGISTRY"]), home, given))
    try:
        started.start()
        yield started
    finally:
        started.close()


@pytest.fixture(scope="module")
def outside(cluster, home, tmp_path_factory) -> dict[str, str]:
    """Variables with which this machine works on what the pods share."""
    database = f"pipeline:{PASSWORD}@{cluster.address('postgres')}"
    given: dict[str, object] = {
        "landing": f"{BUCKET}/landing",
        "warehouse": {
            "backend": "ducklake",
            "catalog": f"postgresql://{database}/ducklake",
            "data_path": f"{BUCKET}/lake",
        },
        "mlflow": {"tracking_uri": f"http://{cluster.address('mlflow')}:5000"},
        "serving": {"token": TOKEN},
        "deployment": {
            "target": "kubernetes",
            "namespace": SPACE,
            "replicas": 1,
            "registry": f"{os.environ['IMAGE_REGISTRY']}/team/readmission-api",
            "registry_insecure": True,
            "endpoint": f"http://{cluster.address(API)}",
            "health_seconds": 5.0,
            "max_p99_seconds": 2.0,
        },
    }
    records = tmp_path_factory.mktemp("instance")
    Shared(f"postgresql://{database}/dagster?sslmode=require", {}).make_instance(records)
    return {
        **small_environment(home, **given),
        **CREDENTIALS,
        "AWS_ENDPOINT_URL": f"http://{cluster.address('s3')}:5000",
        "DAGSTER_HOME": str(records / "dagster"),
    }


@pytest.fixture
def lake(outside, monkeypatch) -> Settings:
    """The pods' warehouse, read from here."""
    for name, value in outside.items():
        monkeypatch.setenv(name, value)
    return load_settings()


@pytest.fixture
def ui(cluster) -> Services:
    running = Services(3000, cluster.address("webserver"))
    deadline = time.monotonic() + PATIENCE_SECONDS
    while (loaded := running.query("{ repositoriesOrError { __typename } }")["repositoriesOrError"]["__typename"]) != (
        "RepositoryConnection"
    ):
        assert time.monotonic() < deadline, (loaded, cluster.trouble())
        time.sleep(2)
    return running


def ended_well(cluster, ui, backfill: str) -> None:
    status = ui.wait_for_backfill(backfill, seconds=PATIENCE_SECONDS)
    assert status == "COMPLETED_SUCCESS", cluster.trouble()


def runs_of(ui, backfill: str) -> list[dict[str, str]]:
    return ui.query(RUNS, backfill=backfill)["runsOrError"]["results"]


def statuses(ui, backfill: str) -> list[str]:
    return sorted(each["status"] for each in runs_of(ui, backfill))


def lose_the_pod(cluster, ui, backfill: str) -> None:
    """Take the pod of a backfill's run away once it works."""
    deadline = time.monotonic() + PATIENCE_SECONDS
    while not (begun := [each for each in runs_of(ui, backfill) if each["status"] == "STARTED"]):
        assert time.monotonic() < deadline, cluster.trouble()
        time.sleep(0.3)
    cluster.do("delete", "pod", "--grace-period=0", "--force", f"--selector=dagster/run-id={begun[0]['runId']}")


def test_pods_run_the_months_though_one_is_lost(single, cluster, lake, ui):
    import boto3

    boto3.client("s3").create_bucket(Bucket=BUCKET.removeprefix("s3://"))
    deliver(single.home / "landing", lake.landing_uri)
    # Extracts: two pods at once, each its half of the months. One is lost while it works and started again.
    extracts = [tuple(table.split(".")) for table in LANDED]
    asked = [
        ui.launch({path: [month_key(half.first), month_key(half.last)] for path in extracts}) for half in (EARLY, LATE)
    ]
    lose_the_pod(cluster, ui, asked[1])
    for each in asked:
        ended_well(cluster, ui, each)
    assert statuses(ui, asked[0]) == ["SUCCESS"]
    assert statuses(ui, asked[1]) == ["FAILURE", "SUCCESS"]
    assert_the_same(single, lake, LANDED)
    # The rest of the graph, as the daemon plans it.
    graph = build_definitions(lake).resolve_asset_graph()
    rest = {
        tuple(key.path): graph.get(key).partitions_def.get_partition_keys()
        for key in graph.materializable_asset_keys
        if graph.get(key).group_name != "deployment" and ".".join(key.path) not in LANDED
    }
    ended_well(cluster, ui, ui.launch(rest))
    assert_the_same(single, lake, DERIVED)
    for pod in cluster.pods("app.kubernetes.io/component=run"):
        (container,) = pod["spec"]["containers"]
        assert pod["spec"]["securityContext"]["runAsUser"] == 10001
        assert container["securityContext"]["readOnlyRootFilesystem"] is True
        assert pod["spec"]["serviceAccountName"] == "pipeline-run"


def test_the_champion_answers_from_its_pod(cluster, lake, outside):
    made = rows(lake, "models.champion", "decision = 'INITIAL'").to_pylist()
    month = f"{made[0]['month']:%Y-%m}"
    asked = ["--select", "group:deployment", "--from", month, "--to", month]
    done = subprocess.run(
        [sys.executable, "-m", "health_pipeline", "run", *asked],
        env={**os.environ, **outside},
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, f"{done.stdout[-3000:]}\n{done.stderr[-3000:]}\n{cluster.trouble()}"
    url = json.loads(outside["HEALTH_PIPELINE_DEPLOYMENT"])["endpoint"]
    patient = {"patient_id": "4711", "features": {"age_years": 71, "payer": "medicare"}}
    assert httpx.post(f"{url}/v1/predict", json=patient, timeout=10).status_code == 401
    answer = httpx.post(f"{url}/v1/predict", json=patient, headers={"Authorization": f"Bearer {TOKEN}"}, timeout=10)
    assert answer.status_code == 200, answer.text
    (prediction,) = answer.json()["predictions"]
    assert prediction["model_id"] == made[0]["model_id"]


def test_every_pod_of_the_overlay_keeps_its_root_read_only(cluster):
    for component in ("code-location", "webserver", "daemon", "mlflow"):
        (pod, *_) = cluster.pods(f"app.kubernetes.io/component={component}")
        written = subprocess.run(
            ["kubectl", "--namespace", SPACE, "exec", pod["metadata"]["name"], "--", "touch", "/opt/probe"],
            capture_output=True,
            text=True,
            check=False,
        )
        assert "Read-only file system" in written.stderr, (component, written.stderr)
        user = cluster.do("exec", pod["metadata"]["name"], "--", "id", "-u").strip()
        assert user == "10001", component
