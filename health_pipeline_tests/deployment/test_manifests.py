"""What the pipeline sends to a cluster."""

from __future__ import annotations

import base64
import json

import pytest

from health_pipeline.deployment import manifests
from health_pipeline.deployment.container_settings import container_settings
from health_pipeline.deployment.manifests import NAME, PULL_SECRET
from health_pipeline.deployment.target import Package
from health_pipeline.settings import ServingSettings, load_settings
from health_pipeline_tests.serving.bundles import linear_bundle, pack

VARIABLES = container_settings(ServingSettings(max_records=20, token="a token for tests only"))


@pytest.fixture
def package(tmp_path) -> Package:
    digest = f"sha256:{'ab' * 32}"
    return Package(pack(linear_bundle(), tmp_path), f"registry.example/team/api@{digest}", digest)


def made(package: Package, **more):
    return manifests.deployment(NAME, package, replicas=3, progress_seconds=90, variables=VARIABLES, **more)


def test_the_image_goes_by_digest_and_the_notes_say_what_it_is(package):
    spec = made(package)["spec"]
    (container,) = spec["template"]["spec"]["containers"]
    assert container["image"] == package.reference
    notes = spec["template"]["metadata"]["annotations"]
    assert notes[manifests.IMAGE_NOTE] == package.digest
    assert notes[manifests.RELEASE_DIGEST_NOTE] == package.release.digest
    assert (spec["replicas"], spec["progressDeadlineSeconds"]) == (3, 90)


def test_no_pod_goes_before_another_has_come_and_clients_are_told_first(package):
    spec = made(package)["spec"]
    assert spec["strategy"]["rollingUpdate"] == {"maxUnavailable": 0, "maxSurge": 1}
    pod = spec["template"]["spec"]
    (container,) = pod["containers"]
    assert "kill -USR1 1; sleep" in container["lifecycle"]["preStop"]["exec"]["command"][-1]
    assert pod["terminationGracePeriodSeconds"] > manifests.DRAIN_SECONDS
    assert {"readinessProbe", "livenessProbe", "resources"} <= set(container)


def test_no_secret_stands_in_a_pod(package):
    (container,) = made(package)["spec"]["template"]["spec"]["containers"]
    by_reference = {item["name"] for item in container["env"] if "secretKeyRef" in item.get("valueFrom", {})}
    assert by_reference == {"HEALTH_PIPELINE_SERVING__TOKEN", "HEALTH_PIPELINE_PRIVACY__PSEUDONYM_KEY"}
    assert "a token for tests only" not in json.dumps(container)


def test_pods_refuse_what_the_settings_refuse(package, monkeypatch):
    (container,) = made(package)["spec"]["template"]["spec"]["containers"]
    for item in container["env"]:
        if "value" in item:
            monkeypatch.setenv(item["name"], item["value"])
    serving = load_settings().serving
    assert serving.max_records == 20
    assert container_settings(serving) == VARIABLES


def test_every_limit_of_the_api_reaches_its_container():
    of_the_host = {"host", "port", "token", "open_on_loopback"}
    named = {name.removeprefix("HEALTH_PIPELINE_SERVING__").lower() for name in VARIABLES}
    assert named == ServingSettings.model_fields.keys() - of_the_host


def test_pods_pull_with_the_credentials_of_the_registry(package):
    assert "imagePullSecrets" not in made(package)["spec"]["template"]["spec"]
    pod = made(package, pulls_with_secret=True)["spec"]["template"]["spec"]
    assert pod["imagePullSecrets"] == [{"name": PULL_SECRET}]
    content = json.loads(manifests.pull_secret("registry.example", "me", "word")["stringData"][".dockerconfigjson"])
    assert base64.b64decode(content["auths"]["registry.example"]["auth"]) == b"me:word"


def test_prediction_logs_outlive_their_pod_where_a_claim_is_named(package):
    pod = made(package, predictions_claim="predictions")["spec"]["template"]["spec"]
    (container,) = pod["containers"]
    mounts = {mount["name"]: mount["mountPath"] for mount in container["volumeMounts"]}
    volumes = {volume["name"]: volume for volume in pod["volumes"]}
    assert mounts == {"data": "/data", "tmp": "/tmp", "serving": "/data/serving"}
    assert volumes["serving"]["persistentVolumeClaim"] == {"claimName": "predictions"}
    assert pod["securityContext"]["fsGroup"] == container["securityContext"]["runAsUser"]
    assert "serving" not in {volume["name"] for volume in made(package)["spec"]["template"]["spec"]["volumes"]}
