"""Real components: container tool and registry (``IMAGE_REGISTRY``), cluster (``KUBECONFIG``); else skipped."""

from __future__ import annotations

import dataclasses
import os
import shutil
import subprocess

import pytest

from health_pipeline.clock import system_clock
from health_pipeline.deployment import History, Options, Tools, rollback, ship
from health_pipeline.deployment.client import ApiClient
from health_pipeline.deployment.images import ImageTool
from health_pipeline.deployment.kubernetes import NAME, KubernetesTarget
from health_pipeline.deployment.registry import MLflowRegistry
from health_pipeline.deployment.target import Endpoint
from health_pipeline.errors import DeploymentError
from health_pipeline.serving.release import Release
from health_pipeline_tests.deployment.conftest import Load, Yard, settings_for
from health_pipeline_tests.serving.bundles import linear_bundle, pack

pytestmark = pytest.mark.servers

REGISTRY = os.environ.get("IMAGE_REGISTRY")
NODE_PORT = 30_080

needs_registry = pytest.mark.skipif(
    REGISTRY is None or not any(map(shutil.which, ("buildah", "podman", "docker"))),
    reason="needs a container tool, and a registry at IMAGE_REGISTRY",
)
needs_cluster = pytest.mark.skipif(
    "KUBECONFIG" not in os.environ or REGISTRY is None, reason="needs a cluster at KUBECONFIG and IMAGE_REGISTRY"
)


def deployment(**more):
    return {"registry": f"{REGISTRY}/team/readmission-api", "registry_insecure": True, **more}


@needs_registry
def test_an_image_is_built_tried_and_pushed(tmp_path):
    settings = settings_for(tmp_path, **deployment())
    release: Release = pack(linear_bundle(), tmp_path)
    images = ImageTool(settings.deployment, tmp_path / "releases")
    package = images.build(release)
    assert images.build(release) == package
    with images.trial(package, 60) as endpoint, ApiClient(endpoint) as client:
        assert client.serving().digest == release.digest
    published = images.publish(package)
    assert published.digest.startswith("sha256:")
    assert images.publish(package) == published


@needs_registry
def test_a_registry_that_is_not_there(tmp_path):
    settings = settings_for(tmp_path, **deployment(registry="127.0.0.1:1/team/api", push_attempts=2))
    release = pack(linear_bundle(), tmp_path)
    images = ImageTool(settings.deployment, tmp_path / "releases", sleep=lambda _seconds: None)
    with pytest.raises(DeploymentError, match="failed after 2 tries"):
        images.publish(images.build(release))


@needs_cluster
def test_rollout_failed_rollout_and_rollback_lose_no_request(tmp_path, registry_store):
    settings = settings_for(tmp_path, **deployment(target="kubernetes", canary_weights=(), rollout_timeout_seconds=120))
    endpoint = Endpoint(f"http://127.0.0.1:{NODE_PORT}")
    target = KubernetesTarget(settings, endpoint=endpoint)
    alerts: list = []
    tools = Tools(
        target=target,
        registry=MLflowRegistry(registry_store, tmp_path.name),
        history=History(tmp_path / "deployment" / "history.ndjson", system_clock),
        limits=settings.deployment,
        alert=alerts.append,
        clock=system_clock,
    )
    yard = Yard(settings, tools, alerts)
    subprocess.run(["kubectl", "delete", "deployment,service", NAME, "--ignore-not-found"], check=True)
    service = ["kubectl", "create", "service", "nodeport", NAME, "--tcp=80:8080", f"--node-port={NODE_PORT}"]
    subprocess.run(service, check=True)
    first, second, third = linear_bundle(), linear_bundle(0.01), linear_bundle(0.02)
    assert ship(yard.plan(first), Options(actor="test"), tools, "first")[-1].outcome == "pass"
    with Load(target.endpoint()) as load:
        assert ship(yard.plan(second), Options(actor="test"), tools, "second")[-1].outcome == "pass"

        class Broken(KubernetesTarget):
            def publish(self, package):
                return dataclasses.replace(
                    super().publish(package), reference=f"{self._images.repository}@sha256:{'0' * 64}"
                )

        impatient = settings.model_copy(
            update={"deployment": settings.deployment.model_copy(update={"rollout_timeout_seconds": 30.0})}
        )
        broken = dataclasses.replace(tools, target=Broken(impatient, endpoint=endpoint))
        assert ship(yard.plan(third), Options(actor="test"), broken, "third")[-1].outcome == "fail"
        assert target.serving().model_id == second.model_id
        event = rollback(tools, actor="test", reason="try")
        assert event.model_id == first.model_id
        assert event.seconds < 300
    assert load.failed == []
