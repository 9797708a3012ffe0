"""The manifests as they reach a cluster: valid by the API's schemas, restricted, and consistent with the code."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
from importlib.resources import files
from pathlib import Path
from typing import Any

import pytest
import yaml

from health_pipeline.deployment.manifests import NAME
from health_pipeline.settings import PREFIX, load_settings

ROOT = Path(__file__).parents[2]
OVERLAYS = ("staging", "production")


def render(overlay: str) -> list[dict[str, Any]]:
    program = next((name for name in ("kubectl", "kustomize") if shutil.which(name)), None)
    if program is None:
        pytest.skip("neither kubectl nor kustomize is here to render the manifests")
    words = ["kubectl", "kustomize"] if program == "kubectl" else ["kustomize", "build"]
    done = subprocess.run(
        [*words, str(ROOT / "deploy/kubernetes/overlays" / overlay)], capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stderr
    return list(yaml.safe_load_all(done.stdout))


@pytest.fixture(scope="module", params=OVERLAYS)
def documents(request) -> list[dict[str, Any]]:
    return render(request.param)


def of_kind(documents: list[dict[str, Any]], kind: str) -> dict[str, dict[str, Any]]:
    return {item["metadata"]["name"]: item for item in documents if item["kind"] == kind}


def schema_errors(documents: list[dict[str, Any]]) -> list[str]:
    validate = pytest.importorskip("kubernetes_validate", reason="kubernetes-validate is not installed")
    found = []
    for item in documents:
        try:
            validate.validate(item, "1.30", strict=True)
        except validate.ValidationError as error:
            found.append(f"{item['kind']}/{item['metadata']['name']}: {error.message}")
    return found


def restriction_errors(pod: dict[str, Any]) -> list[str]:
    """What the pod security standard "restricted" and this project's own rules would refuse."""
    found = []
    security = pod.get("securityContext", {})
    if security.get("runAsNonRoot") is not True:
        found.append("may run as root")
    if security.get("seccompProfile", {}).get("type") != "RuntimeDefault":
        found.append("no seccomp profile")
    for container in pod["containers"]:
        own = container.get("securityContext", {})
        if own.get("allowPrivilegeEscalation") is not False:
            found.append("may escalate")
        if own.get("readOnlyRootFilesystem") is not True:
            found.append("root file system can be written")
        if own.get("capabilities", {}).get("drop") != ["ALL"]:
            found.append("keeps capabilities")
        if not {"cpu", "memory"} <= container.get("resources", {}).get("limits", {}).keys():
            found.append("no limits")
        if "livenessProbe" not in container:
            found.append("no liveness probe")
    return found


def pods(documents: list[dict[str, Any]]) -> dict[str, dict[str, Any]]:
    return {name: item["spec"]["template"]["spec"] for name, item in of_kind(documents, "Deployment").items()}


def test_every_document_is_valid(documents):
    assert schema_errors(documents) == []


def test_the_schema_check_says_no(documents):
    deployment = of_kind(documents, "Deployment")["daemon"]
    deployment = {**deployment, "spec": {**deployment["spec"], "replica": 1}}
    assert len(schema_errors([deployment])) == 1


def test_every_pod_is_restricted(documents):
    found = pods(documents)
    assert set(found) == {"code-location", "webserver", "daemon", "mlflow"}
    assert {name: restriction_errors(pod) for name, pod in found.items()} == {name: [] for name in found}


def test_the_restriction_check_says_no():
    errors = restriction_errors({"containers": [{"name": "x"}]})
    assert len(errors) == 7


def test_the_namespace_enforces_it(documents):
    (namespace,) = of_kind(documents, "Namespace").values()
    assert namespace["metadata"]["labels"]["pod-security.kubernetes.io/enforce"] == "restricted"
    spaces = {item["metadata"].get("namespace") for item in documents if item["kind"] != "Namespace"}
    assert spaces == {namespace["metadata"]["name"]}


def test_runs_are_restricted_and_take_the_image_of_the_code_location(documents):
    instance = yaml.safe_load(of_kind(documents, "ConfigMap")["dagster-instance"]["data"]["dagster.yaml"])
    launcher = instance["run_launcher"]["config"]
    run = launcher["run_k8s_config"]
    pod = {**run["pod_spec_config"], "containers": [{**run["container_config"], "livenessProbe": "jobs have none"}]}
    assert restriction_errors(pod) == []
    (container,) = pods(documents)["code-location"]["containers"]
    images = [item["value"] for item in container["env"] if item["name"] == "DAGSTER_CURRENT_IMAGE"]
    assert images == [container["image"]]
    assert launcher["service_account_name"] in of_kind(documents, "ServiceAccount")
    assert launcher["instance_config_map"] in of_kind(documents, "ConfigMap")
    assert set(launcher["env_config_maps"]) <= of_kind(documents, "ConfigMap").keys()
    claims = {volume["persistentVolumeClaim"]["claimName"] for volume in launcher["volumes"] if len(volume) == 2
              and "persistentVolumeClaim" in volume}  # fmt: skip
    assert claims <= of_kind(documents, "PersistentVolumeClaim").keys()


def test_dagster_accepts_the_launcher(documents, monkeypatch):
    dagster_k8s = pytest.importorskip("dagster_k8s", reason="the extra kubernetes is not installed")
    from dagster._config import process_config

    instance = yaml.safe_load(of_kind(documents, "ConfigMap")["dagster-instance"]["data"]["dagster.yaml"])
    monkeypatch.setenv("DAGSTER_K8S_NAMESPACE", "somewhere")
    config = dict(instance["run_launcher"]["config"])
    outcome = process_config(dagster_k8s.K8sRunLauncher.config_type(), config)
    assert outcome.success, outcome.errors
    assert not process_config(dagster_k8s.K8sRunLauncher.config_type(), {**config, "job_imag": "x"}).success


def test_the_settings_are_settings(documents, monkeypatch, tmp_path):
    given = of_kind(documents, "ConfigMap")["pipeline-settings"]["data"]
    for name, value in given.items():
        monkeypatch.setenv(name, value)
    monkeypatch.setenv(f"{PREFIX}HOME", str(tmp_path))
    settings = load_settings()
    assert settings.warehouse.backend == "ducklake"
    assert str(settings.warehouse.data_path).startswith("s3://")
    assert settings.deployment.target == "kubernetes"
    (namespace,) = of_kind(documents, "Namespace")
    assert settings.deployment.namespace == namespace


def test_everything_is_denied_that_is_not_allowed(documents):
    policies = of_kind(documents, "NetworkPolicy")
    assert policies["default-deny"]["spec"] == {"podSelector": {}, "policyTypes": ["Ingress", "Egress"]}
    for name, policy in policies.items():
        for rule in policy["spec"].get("ingress", []):
            assert rule.get("from"), f"{name} lets everybody in"
            assert rule.get("ports"), f"{name} opens every port"


def test_no_secret_is_written_down(documents):
    assert of_kind(documents, "Secret") == {}


def missing_secret_keys(documents: list[dict[str, Any]], example: str) -> set[str]:
    """Keys of ``pipeline-secrets`` that pods ask for, and that the example does not have: such a pod never starts."""
    given = {line.partition("=")[0] for line in example.splitlines() if "=" in line and not line.startswith("#")}
    instance = yaml.safe_load(of_kind(documents, "ConfigMap")["dagster-instance"]["data"]["dagster.yaml"])
    asked = {
        variable["valueFrom"]["secretKeyRef"]["key"]
        for pod in pods(documents).values()
        for container in pod["containers"]
        for variable in container.get("env", [])
        if "secretKeyRef" in variable.get("valueFrom", {})
    }
    asked |= {source["env"] for source in instance["storage"]["postgres"]["postgres_db"].values() if "env" in source}
    if "postgres_password_secret" in instance["run_launcher"]["config"]:
        asked.add("postgresql-password")  # dagster-k8s takes the password from this key and from no other
    return asked - given


def test_the_example_of_secrets_has_every_key_that_a_pod_asks_for(documents):
    example = (ROOT / "deploy/kubernetes/secrets.env.example").read_text()
    assert missing_secret_keys(documents, example) == set()
    assert missing_secret_keys(documents, example.replace("DAGSTER_POSTGRES_USER=", "")) == {"DAGSTER_POSTGRES_USER"}


def test_rights_stay_inside_the_namespace(documents):
    assert not {"ClusterRole", "ClusterRoleBinding"} & {item["kind"] for item in documents}
    for role in of_kind(documents, "Role").values():
        for rule in role["rules"]:
            assert "*" not in rule["verbs"] + rule["resources"] + rule["apiGroups"]
            if "secrets" in rule["resources"] and rule["verbs"] != ["create"]:
                assert set(rule["resourceNames"]) <= {NAME, f"{NAME}-registry"}


def test_a_node_with_a_pod_of_the_api_can_be_drained(documents):
    """With one pod, as in staging, a budget of one that must stay is one that may never go: the drain never ends."""
    spec = of_kind(documents, "PodDisruptionBudget")[NAME]["spec"]
    settings = of_kind(documents, "ConfigMap")["pipeline-settings"]["data"]
    pods = int(settings["HEALTH_PIPELINE_DEPLOYMENT__REPLICAS"])
    assert spec.get("maxUnavailable", pods - spec.get("minAvailable", 0)) == 1


@pytest.mark.parametrize("place", ["compose", "kubernetes/base"])
def test_an_instance_differs_only_in_where_things_lie(place):
    own = yaml.safe_load((ROOT / "deploy" / place / "dagster.yaml").read_text())
    stock = yaml.safe_load(files("health_pipeline.defs").joinpath("dagster.yaml").read_text())
    placed = {"storage", "run_launcher", "local_artifact_storage", "compute_logs"}
    assert {key: value for key, value in own.items() if key not in placed} == {
        key: value for key, value in stock.items() if key not in placed
    }
    assert "postgres" in own["storage"]
    # Each notices a run whose process went down with its container: Dagster's default launcher does not.
    assert own["run_launcher"]["class"] in {"WatchedRunLauncher", "K8sRunLauncher"}


def dry_run(text: str) -> list[str]:
    """Objects that the API server of KUBECONFIG would make of the manifests, after every admission but the storing."""
    words = ["kubectl", "apply", "--dry-run=server", "--output=name", "--filename=-"]
    done = subprocess.run(words, input=text, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    return done.stdout.split()


def served_versions() -> set[str]:
    done = subprocess.run(["kubectl", "api-versions"], capture_output=True, text=True, check=True)
    return set(done.stdout.split())


@pytest.mark.servers
@pytest.mark.skipif("KUBECONFIG" not in os.environ, reason="needs a cluster at KUBECONFIG")
def test_a_real_api_server_takes_every_document(documents):
    (namespace,) = of_kind(documents, "Namespace")
    exists = (
        subprocess.run(["kubectl", "get", "namespace", namespace], capture_output=True, check=False).returncode == 0
    )
    served = served_versions()
    # Clusters before 1.21 know disruption budgets as v1beta1 only; the fields used here are the same.
    text = yaml.safe_dump_all(
        {**item, "apiVersion": "policy/v1beta1"}
        if item["apiVersion"] == "policy/v1" and "policy/v1" not in served
        else item
        for item in documents
    )
    if not exists:
        subprocess.run(["kubectl", "create", "namespace", namespace], capture_output=True, check=True)
    try:
        assert len(dry_run(text)) == len(documents)
        refused = json.loads(json.dumps(of_kind(documents, "Deployment")["daemon"]))
        refused["spec"]["selector"]["matchLabels"] = {"app.kubernetes.io/component": "another"}
        words = ["kubectl", "apply", "--dry-run=server", "--filename=-"]
        done = subprocess.run(words, input=json.dumps(refused), capture_output=True, text=True, check=False)
        assert done.returncode != 0, "a selector that fits no pod is refused"
    finally:
        if not exists:
            subprocess.run(
                ["kubectl", "delete", "namespace", namespace, "--wait=false"], capture_output=True, check=True
            )
