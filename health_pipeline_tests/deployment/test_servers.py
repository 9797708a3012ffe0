"""Real components: container tool and registry (``IMAGE_REGISTRY``), cluster (``KUBECONFIG``); else skipped.

``IMAGE_REGISTRY_AUTH`` is ``user:password`` of a registry that wants them, ``ECR_ENDPOINT`` the address of ECR's API
whose tokens that registry takes.
"""

from __future__ import annotations

import base64
import dataclasses
import json
import os
import shutil
import signal
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest
import structlog

from health_pipeline.clock import system_clock
from health_pipeline.deployment import History, Options, Tools, recover, rollback, ship
from health_pipeline.deployment.client import ApiClient, wait_ready
from health_pipeline.deployment.container_settings import container_settings
from health_pipeline.deployment.images import ImageTool
from health_pipeline.deployment.kubernetes import KubernetesTarget
from health_pipeline.deployment.manifests import CANARY, NAME
from health_pipeline.deployment.recovery import open_transition
from health_pipeline.deployment.registry import MLflowRegistry
from health_pipeline.errors import DeploymentError
from health_pipeline.serving.release import Release
from health_pipeline.settings import ServingSettings
from health_pipeline_tests.deployment.conftest import Load, Yard, settings_for
from health_pipeline_tests.serving.bundles import linear_bundle, pack

pytestmark = pytest.mark.servers

REGISTRY = os.environ.get("IMAGE_REGISTRY")
USER, _, PASSWORD = os.environ.get("IMAGE_REGISTRY_AUTH", "").partition(":")
ECR = os.environ.get("ECR_ENDPOINT")
NODE_PORT = 30_080
ROLLBACK_SECONDS = 300

needs_registry = pytest.mark.skipif(
    REGISTRY is None or not any(map(shutil.which, ("buildah", "podman", "docker"))),
    reason="needs a container tool, and a registry at IMAGE_REGISTRY",
)
needs_password = pytest.mark.skipif(not USER, reason="needs a registry with credentials, IMAGE_REGISTRY_AUTH")
needs_cluster = pytest.mark.skipif(
    "KUBECONFIG" not in os.environ or REGISTRY is None, reason="needs a cluster at KUBECONFIG and IMAGE_REGISTRY"
)


def deployment(**more):
    credentials = {"registry_user": USER, "registry_password": PASSWORD} if USER else {}
    return {
        "registry": f"{REGISTRY}/team/readmission-api",
        "registry_insecure": True,
        **credentials,
        **more,
    }


def images_of(home, **more) -> tuple[ImageTool, Release]:
    settings = settings_for(home, **deployment(**more))
    variables = container_settings(ServingSettings(max_records=2))
    images = ImageTool(settings.deployment, home / "releases", sleep=lambda _seconds: None, variables=variables)
    return images, pack(linear_bundle(), home)


@needs_registry
def test_an_image_is_built_tried_and_pushed(tmp_path):
    images, release = images_of(tmp_path)
    package = images.build(release)
    assert images.build(release) == package
    with images.trial(package, 60) as endpoint, ApiClient(endpoint) as client:
        assert client.serving().digest == release.digest
        asked = [client.predict({"records": [{"features": {}}] * records}).status for records in (2, 3)]
        assert asked == [200, 422], "the limit of the settings reached the container"
    published = images.publish(package)
    assert published.digest.startswith("sha256:")
    assert images.publish(package) == published


@needs_registry
def test_a_registry_that_is_not_there(tmp_path):
    images, release = images_of(tmp_path, registry="127.0.0.1:1/team/api", push_attempts=2, registry_user=None)
    with pytest.raises(DeploymentError, match="failed after 2 tries"):
        images.publish(images.build(release))


@needs_registry
@needs_password
@pytest.mark.parametrize(("user", "password"), [(None, None), (USER, "wrong")])
def test_a_registry_refuses_who_is_not_known_to_it(tmp_path, user, password):
    images, release = images_of(tmp_path, registry_user=user, registry_password=password)
    package = images.build(release)
    with pytest.raises(DeploymentError, match="the registry refused the") as caught:
        images.publish(package)
    assert PASSWORD not in str(caught.value)


@needs_registry
@needs_password
@pytest.mark.skipif(ECR is None, reason="needs the API of ECR at ECR_ENDPOINT")
def test_a_token_of_ecr_opens_the_registry(tmp_path, monkeypatch):
    for name, value in {
        "AWS_ACCESS_KEY_ID": "testing",
        "AWS_SECRET_ACCESS_KEY": "testing",
        "AWS_DEFAULT_REGION": "eu-central-1",
    }.items():
        monkeypatch.setenv(name, value)
    images, release = images_of(tmp_path, registry_user=None, registry_password=None, aws_endpoint=ECR)
    assert images.publish(images.build(release)).digest.startswith("sha256:")
    closed, _ = images_of(tmp_path, registry_user=None, registry_password=None, aws_endpoint="http://127.0.0.1:1")
    with pytest.raises(DeploymentError, match="AWS gave no registry token: EndpointConnectionError"):
        closed.publish(images.build(release))


# The cluster ---------------------------------------------------------------------------------------------------------


def kubectl(*arguments: str) -> str:
    return subprocess.run(["kubectl", *arguments], check=True, capture_output=True, text=True).stdout


def cluster_tools(home, store: str, name: str, **more) -> tuple[Tools, list]:
    settings = settings_for(
        home,
        **deployment(
            **{
                "target": "kubernetes",
                "endpoint": f"http://127.0.0.1:{NODE_PORT}",
                "rollout_timeout_seconds": 120,
                "max_p99_seconds": 1.0,
                **more,
            }
        ),
    )
    alerts: list = []
    tools = Tools(
        target=KubernetesTarget(settings),
        registry=MLflowRegistry(store, name),
        history=History(home / "deployment" / "history.ndjson", system_clock),
        limits=settings.deployment,
        alert=alerts.append,
        clock=system_clock,
    )
    return tools, alerts


@pytest.fixture
def ground(tmp_path, registry_store) -> Iterator[Yard]:
    """A cluster that serves the first release behind a node port."""
    tools, alerts = cluster_tools(tmp_path, registry_store, tmp_path.name)
    yard = Yard(settings_for(tmp_path), tools, alerts)
    kubectl("delete", "deployment,service", NAME, CANARY, "--ignore-not-found")
    kubectl("create", "service", "nodeport", NAME, "--tcp=80:8080", f"--node-port={NODE_PORT}")
    results = yard.ship(linear_bundle(), attempt="first")
    assert results[-1].outcome == "pass", results
    wait_ready(tools.target.endpoint(), 30)
    yield yard
    kubectl("delete", "deployment,service", NAME, CANARY, "--ignore-not-found")


@needs_cluster
def test_rollout_failed_rollouts_and_rollback_lose_no_request(ground, tmp_path, registry_store):
    first, second, third = linear_bundle(), linear_bundle(0.01), linear_bundle(0.02)
    tools = ground.tools
    with Load(tools.target.endpoint()) as load:
        results = {result.step: result for result in ground.ship(second, attempt="second")}
        assert "promotion" in results, list(results.values())[-1]
        found = {item.name: item for item in (*results["rollout"].findings, *results["verification"].findings)}
        assert {"canary_0.3_success_rate", "canary_0.3_release_errors", "digest", "image"} <= set(found)
        assert found["image"].numbers["running"] == [results["published_image"].digest]

        elsewhere = ImageTool(tools.limits, tmp_path / "builds").repository
        (of_first, *_) = [
            event.evidence["reference"]
            for event in tools.history.events()
            if (event.step, event.outcome) == ("published_image", "pass")
        ]
        for fault, reference, says in (
            ("not there", f"{elsewhere}@sha256:{'0' * 64}", "the rollout made no progress"),
            ("another model", of_first, "from the rolled out release alone"),
        ):

            class Mixed(KubernetesTarget):
                def publish(self, package, reference=reference):
                    return dataclasses.replace(super().publish(package), reference=reference)

            impatient, _ = cluster_tools(
                tmp_path, registry_store, tmp_path.name, rollout_timeout_seconds=30.0, start_timeout_seconds=10.0
            )
            settings = impatient.target._settings
            broken = dataclasses.replace(
                tools,
                target=Mixed(settings),
                limits=settings.deployment.model_copy(update={"canary_weights": ()}),
            )
            failed = ship(ground.plan(third), Options(actor="test"), broken, fault)[-1]
            assert failed.outcome == "fail", (fault, failed)
            assert says in failed.summary, (fault, failed)
            assert tools.target.serving().model_id == ground.holder("champion") == second.model_id
            assert ground.kinds()[-2:] == ["rolled_back", "deployment_failed"]
            assert open_transition(tools.history.events()) is None

        event = rollback(tools, actor="test", reason="try")
        assert event.model_id == first.model_id
        assert event.seconds < ROLLBACK_SECONDS
    structlog.get_logger(__name__).info("lane", requests=len(load.replies), rollback_seconds=event.seconds)
    assert load.failed == []
    assert set(load.models) == {first.model_id, second.model_id}
    assert tools.history.verify() == []


KILLED = """
import dataclasses, os, sys
from pathlib import Path
from health_pipeline.deployment import Options, ship
from health_pipeline.deployment.cluster import Namespace
from health_pipeline_tests.deployment.conftest import Yard, settings_for
from health_pipeline_tests.deployment.test_servers import cluster_tools
from health_pipeline_tests.serving.bundles import linear_bundle

home, store, name, when = sys.argv[1:]
wait = Namespace.wait

def killed(self, deployment, seconds):
    if when == deployment:
        os.kill(os.getpid(), 9)
    wait(self, deployment, seconds)

Namespace.wait = killed
tools, alerts = cluster_tools(Path(home), store, name)
yard = Yard(settings_for(Path(home)), tools, alerts)
print(yard.ship(linear_bundle(0.03), attempt="killed", skip_api_tests=True))
"""


@needs_cluster
@pytest.mark.parametrize("when", [CANARY, NAME])
def test_the_orchestrator_is_killed_in_the_middle_of_a_rollout(ground, registry_store, tmp_path, when):
    with Load(ground.tools.target.endpoint()) as load:
        killed = subprocess.run(
            [sys.executable, "-c", KILLED, str(tmp_path), registry_store, tmp_path.name, when],
            capture_output=True,
            text=True,
            check=False,
        )
        assert killed.returncode == -signal.SIGKILL, (killed.stdout, killed.stderr)
        assert open_transition(ground.tools.history.events()) is not None
        event = recover(ground.tools, "daemon")
        assert (event.step, event.outcome) == ("recovery", "pass")
        assert ground.target.serving().model_id == ground.holder("champion") == linear_bundle().model_id
        assert ground.target.serving().weights.keys() == {event.release}
    assert load.failed == []
    assert ground.kinds() == ["rolled_back"]


@needs_cluster
def test_what_the_cluster_would_refuse_is_said_before_anything_is_built(tmp_path, registry_store):
    tools, _ = cluster_tools(tmp_path, registry_store, tmp_path.name, namespace="not-there")
    yard = Yard(settings_for(tmp_path), tools)
    (result,) = yard.ship(linear_bundle(), attempt="a")
    assert (result.step, result.outcome) == ("registered_model", "fail")
    assert "namespace is not there" in result.summary
    assert "kubectl create namespace not-there" in result.summary
    assert yard.holder("challenger") is None


SHIPPED = """
import sys
from pathlib import Path
from health_pipeline_tests.deployment.conftest import Yard, settings_for
from health_pipeline_tests.deployment.test_servers import cluster_tools
from health_pipeline_tests.serving.bundles import linear_bundle

home, store, name, namespace, endpoint = sys.argv[1:]
tools, alerts = cluster_tools(Path(home), store, name, namespace=namespace, endpoint=endpoint)
yard = Yard(settings_for(Path(home)), tools, alerts)
for bundle in (linear_bundle(), linear_bundle(0.01)):
    last = yard.ship(bundle, attempt=bundle.model_id)[-1]
    print(last.step, last.outcome, last.summary)
tools.target.restore(tools.target.releases()[-1])
print(tools.target.serving().model_id)
"""


@needs_cluster
def test_the_rights_that_the_manifests_give_suffice(tmp_path, registry_store):
    """Everything a deployment does, as the service account of the runs and with no other right."""
    space, port = "rights-of-runs", NODE_PORT + 1
    accounts = Path(__file__).parents[2] / "deploy" / "kubernetes" / "base" / "accounts.yaml"
    subprocess.run(["kubectl", "create", "namespace", space], check=False, capture_output=True)
    try:
        kubectl("--namespace", space, "apply", "--filename", str(accounts))
        kubectl(
            *("--namespace", space, "create", "service", "nodeport", NAME, "--tcp=80:8080", f"--node-port={port}"),
        )
        config = json.loads(kubectl("config", "view", "--raw", "--minify", "--flatten", "--output", "json"))
        config["users"] = [{"name": config["users"][0]["name"], "user": {"token": token_of(space, "pipeline-run")}}]
        path = tmp_path / "kubeconfig"
        path.write_text(json.dumps(config))
        arguments = [str(tmp_path), registry_store, tmp_path.name, space, f"http://127.0.0.1:{port}"]
        done = subprocess.run(
            [sys.executable, "-c", SHIPPED, *arguments],
            capture_output=True,
            text=True,
            check=False,
            env={**os.environ, "KUBECONFIG": str(path)},
        )
    finally:
        kubectl("delete", "namespace", space)
    lines = [line for line in done.stdout.splitlines() if "[" not in line]
    assert [line.split()[:2] for line in lines[:2]] == [["promotion", "pass"]] * 2, (done.stdout, done.stderr)
    assert lines[-1] == linear_bundle().model_id, (done.stdout, done.stderr)


def token_of(namespace: str, account: str) -> str:
    made = subprocess.run(
        ["kubectl", "--namespace", namespace, "create", "token", account], check=False, capture_output=True, text=True
    )
    if made.returncode == 0:
        return made.stdout.strip()
    found = ["--namespace", namespace, "get", "serviceaccount", account, "--output", "jsonpath={.secrets[0].name}"]
    secret = kubectl(*found)  # clusters before 1.24 make one for each account
    encoded = kubectl("--namespace", namespace, "get", "secret", secret, "--output", "jsonpath={.data.token}")
    return base64.b64decode(encoded).decode()
