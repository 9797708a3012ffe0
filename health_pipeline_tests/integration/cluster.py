"""The manifests of ``deploy/kubernetes`` as pods of a real node, with PostgreSQL and S3 beside them.

What differs from the rendered overlay ``staging``, and why: images come from ``IMAGE_REGISTRY``; requests of
processor and memory are those of a small node (limits stay); the volume is a folder of this machine; names of services
are written into the pods' host files, since such a node may have no name service; versions of the API that an old
server lacks.
"""

from __future__ import annotations

import json
import shutil
import subprocess
import time
from collections.abc import Iterable
from dataclasses import dataclass
from importlib.resources import files
from pathlib import Path
from typing import Any

import pytest
import yaml

from health_pipeline_tests.integration.home import KEY

ROOT = Path(__file__).parents[2]
OVERLAY = ROOT / "deploy" / "kubernetes" / "overlays" / "staging"
SPACE = "readmission-staging"
SERVICES = ("code-location", "webserver", "daemon", "mlflow")
STAND_INS = ("postgres", "s3")
API = "readmission-api"
PASSWORD, TOKEN = "only-for-this-test", "token-of-this-test"
BUCKET = "s3://hospital-staging"
LITTLE = {"cpu": "50m", "memory": "64Mi"}
ROLLOUT_SECONDS = 300
S3_IMAGE = """
FROM python:3.11-slim
RUN python -m venv /opt/venv && /opt/venv/bin/pip install --quiet --no-cache-dir 'moto[server]>=5.1,<6'
USER 10001
CMD ["/opt/venv/bin/moto_server", "-H", "0.0.0.0", "-p", "5000"]
"""


def kubectl(*words: str, given: str | None = None) -> str:
    done = subprocess.run(["kubectl", *words], input=given, capture_output=True, text=True, check=False)
    assert done.returncode == 0, f"kubectl {' '.join(words)}\n{done.stderr}"
    return done.stdout


def push_images(registry: str) -> dict[str, str]:
    """Build what the manifests and the stand-ins name, and push it; name in the manifest to name in the registry."""
    tool = next((name for name in ("podman", "docker") if shutil.which(name)), None)
    if tool is None:
        pytest.skip("neither podman nor docker is here to build the images")
    build = [tool, "build", "--quiet", *(["--format", "docker"] if tool == "podman" else [])]
    recipes: dict[str, tuple[list[str], str | None]] = {
        "health-pipeline": (["--target", "pipeline", str(ROOT)], None),
        "health-pipeline-postgres": ([str(ROOT / "deploy/compose/postgres")], None),
        "health-pipeline-s3": (["-"], S3_IMAGE),
    }
    names = {}
    for name, (place, recipe) in recipes.items():
        words = [*build, *place]
        made = subprocess.run(words, input=recipe, text=True, check=True, stdout=subprocess.PIPE).stdout.strip()
        # A tag of its own for each content: a node does not look again for a tag that it has.
        names[name] = f"{registry}/{name}:{made.removeprefix('sha256:')[:12]}"
        subprocess.run([tool, "tag", made, names[name]], check=True)
        subprocess.run([tool, "push", "--quiet", names[name]], check=True)
    return names


@dataclass(frozen=True)
class Placed:
    """Where the stack was put on this node."""

    images: dict[str, str]
    home: Path
    settings: dict[str, str]


class Cluster:
    """The namespace of the overlay, from nothing; gone after ``close``."""

    def __init__(self, placed: Placed) -> None:
        self._placed = placed
        kubectl("delete", "namespace", SPACE, "--ignore-not-found")
        kubectl("delete", "persistentvolume", SPACE, "--ignore-not-found")

    def start(self) -> None:
        """Stand-ins first, then everything that the overlay holds; returns when every pod is ready."""
        documents = list(yaml.safe_load_all(kubectl("kustomize", str(OVERLAY))))
        stand_ins = list(yaml.safe_load_all(files(__package__).joinpath("stand_ins.yaml").read_text()))
        self._apply(item for item in documents if item["kind"] == "Namespace")
        self._secrets()
        made = (ROOT / "deploy/compose/postgres/databases.sql").read_text() + "CREATE DATABASE ducklake;\n"
        self.do("create", "configmap", "databases", f"--from-literal=databases.sql={made}")
        # The pipeline makes this Service with its first deployment; made before, its address is known.
        self.do("create", "service", "clusterip", API, "--tcp=80:8080")
        self._apply(item for item in (*documents, *stand_ins) if item["kind"] == "Service")
        aliases = [
            {"ip": self.address(name), "hostnames": [name, f"{name}.{SPACE}.svc"]}
            for name in (*STAND_INS, "code-location", "mlflow", API)
        ]
        self._apply([self._volume(), *(self._fitted(item, aliases) for item in stand_ins)])
        self._ready(STAND_INS)
        self._apply(self._fitted(item, aliases) for item in documents)
        self._ready(SERVICES)

    def close(self) -> None:
        kubectl("delete", "namespace", SPACE, "--ignore-not-found")
        kubectl("delete", "persistentvolume", SPACE, "--ignore-not-found")

    def do(self, *words: str) -> str:
        """Run kubectl in the namespace."""
        return kubectl("--namespace", SPACE, *words)

    def address(self, service: str) -> str:
        """At which the service answers, on this machine too."""
        return self.do("get", "service", service, "--output", "jsonpath={.spec.clusterIP}")

    def pods(self, selector: str) -> list[dict[str, Any]]:
        return json.loads(self.do("get", "pods", "--selector", selector, "--output", "json"))["items"]

    def trouble(self) -> str:
        """What a person would look at first."""
        shown = [self.do("get", "pods,jobs", "--output", "wide"), self.do("get", "events", "--sort-by=.lastTimestamp")]
        for name in SERVICES:
            words = ["kubectl", "--namespace", SPACE, "logs", f"deployment/{name}", "--tail=15"]
            shown.append(subprocess.run(words, capture_output=True, text=True, check=False).stdout)
        return "\n".join(shown)[-12000:]

    # ------------------------------------------------------------------------------------------------------------------

    def _apply(self, documents: Iterable[dict[str, Any]]) -> None:
        text = yaml.safe_dump_all(
            {**item, "metadata": {**item["metadata"], "namespace": SPACE}}
            if item["kind"] not in {"Namespace", "PersistentVolume"}
            else item
            for item in documents
        )
        kubectl("apply", "--filename=-", given=text)

    def _secrets(self) -> None:
        storage = {
            "AWS_ENDPOINT_URL": "http://s3:5000",
            "AWS_ACCESS_KEY_ID": "test",
            "AWS_SECRET_ACCESS_KEY": "test",
            "AWS_REGION": "us-east-1",
        }
        database = f"pipeline:{PASSWORD}@postgres"
        secrets = {
            "pipeline-secrets": {
                "DAGSTER_POSTGRES_HOST": "postgres",
                "DAGSTER_POSTGRES_USER": "pipeline",
                "DAGSTER_POSTGRES_PASSWORD": PASSWORD,
                "DAGSTER_POSTGRES_DB": "dagster",
                "HEALTH_PIPELINE_WAREHOUSE__CATALOG": f"postgresql://{database}/ducklake",
                "HEALTH_PIPELINE_TRAINING__STUDY_STORAGE": f"postgresql+psycopg2://{database}/optuna",
                "HEALTH_PIPELINE_SERVING__TOKEN": TOKEN,
                "HEALTH_PIPELINE_PRIVACY__PSEUDONYM_KEY": KEY,
                **storage,
            },
            "mlflow-secrets": {
                "MLFLOW_BACKEND_STORE_URI": f"postgresql+psycopg2://{database}/mlflow",
                "MLFLOW_ARTIFACTS_DESTINATION": f"{BUCKET}/mlflow",
                **storage,
            },
        }
        for name, values in secrets.items():
            self.do(
                "create", "secret", "generic", name, *(f"--from-literal={key}={given}" for key, given in values.items())
            )

    def _volume(self) -> dict[str, Any]:
        (node,) = json.loads(kubectl("get", "nodes", "--output", "json"))["items"]
        here = {"key": "kubernetes.io/hostname", "operator": "In", "values": [node["metadata"]["name"]]}
        return {
            "apiVersion": "v1",
            "kind": "PersistentVolume",
            "metadata": {"name": SPACE},
            "spec": {
                "capacity": {"storage": "50Gi"},
                "accessModes": ["ReadWriteMany"],
                "local": {"path": str(self._placed.home)},
                "claimRef": {"namespace": SPACE, "name": "pipeline-home"},
                "nodeAffinity": {"required": {"nodeSelectorTerms": [{"matchExpressions": [here]}]}},
            },
        }

    def _fitted(self, item: dict[str, Any], aliases: list[dict[str, Any]]) -> dict[str, Any]:
        """The document as this node can take it."""
        item = json.loads(json.dumps(item))
        kind, name = item["kind"], item["metadata"]["name"]
        if kind == "Deployment":
            pod = item["spec"]["template"]["spec"]
            pod["hostAliases"] = aliases
            for container in pod["containers"]:
                container.setdefault("resources", {})["requests"] = LITTLE
                container["image"] = self._image(container["image"])
                for variable in container.get("env", []):
                    if variable["name"] == "DAGSTER_CURRENT_IMAGE":
                        variable["value"] = container["image"]
                    if variable["name"] == "MLFLOW_SERVER_ALLOWED_HOSTS":  # this machine asks by address
                        variable["value"] += f",{self.address('mlflow')}:5000"
        elif kind == "PersistentVolumeClaim":
            item["spec"] |= {"storageClassName": "", "volumeName": SPACE}
        elif kind == "ConfigMap" and name == "dagster-instance":
            instance = yaml.safe_load(item["data"]["dagster.yaml"])
            run = instance["run_launcher"]["config"]["run_k8s_config"]
            run["pod_spec_config"]["hostAliases"] = aliases
            run["container_config"]["resources"]["requests"] = LITTLE
            item["data"]["dagster.yaml"] = yaml.safe_dump(instance)
        elif kind == "ConfigMap" and name == "pipeline-settings":
            item["data"] |= self._placed.settings
        elif kind == "PodDisruptionBudget" and "policy/v1\n" not in kubectl("api-versions"):
            item["apiVersion"] = "policy/v1beta1"
        return item

    def _image(self, name: str) -> str:
        return self._placed.images[name.rsplit("/", 1)[-1].partition(":")[0]]

    def _ready(self, names: Iterable[str]) -> None:
        deadline = time.monotonic() + ROLLOUT_SECONDS
        for name in names:
            left = f"--timeout={max(1, deadline - time.monotonic()):.0f}s"
            words = ["kubectl", "--namespace", SPACE, "rollout", "status", f"deployment/{name}", left]
            done = subprocess.run(words, capture_output=True, text=True, check=False)
            assert done.returncode == 0, f"{done.stderr}\n{self.trouble()}"
