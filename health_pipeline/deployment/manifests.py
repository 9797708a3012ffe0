"""Kubernetes objects of the prediction API as plain data: Deployment, Service, Secrets."""

from __future__ import annotations

import base64
import json
from collections.abc import Mapping
from typing import Any

from health_pipeline.deployment.images import PORT
from health_pipeline.deployment.target import Package

NAME = "readmission-api"
CANARY = f"{NAME}-canary"
PULL_SECRET = f"{NAME}-registry"
DRAIN_SECONDS = 10
USER = 10001

RELEASE_NOTE = "health-pipeline/release"
RELEASE_DIGEST_NOTE = "health-pipeline/release-digest"
IMAGE_NOTE = "health-pipeline/digest"


def deployment(
    name: str,
    package: Package,
    *,
    replicas: int,
    progress_seconds: float,
    variables: Mapping[str, str],
    pulls_with_secret: bool = False,
    predictions_claim: str | None = None,
) -> dict[str, Any]:
    """The Deployment that runs a package.

    No request is lost because a new pod gets traffic only when it is ready, and an old one first announces its end: the
    preStop hook makes the API answer with ``Connection: close`` and waits until clients have moved on.

    Args:
        name: of the Deployment; the label ``track`` of its pods.
        package: an image by digest.
        replicas: pods.
        progress_seconds: without progress for so long, the rollout has failed.
        variables: of the API, beside its secrets.
        pulls_with_secret: whether the registry wants the credentials of :func:`pull_secret`.
        predictions_claim: volume claim that keeps the prediction logs; without it they end with the pod.
    """
    notes = {
        RELEASE_NOTE: package.release.release_id,
        RELEASE_DIGEST_NOTE: package.release.digest,
        IMAGE_NOTE: package.digest,
    }
    labels = {"app": NAME, "track": name}
    pod: dict[str, Any] = {
        "containers": [_container(package.reference, variables)],
        "automountServiceAccountToken": False,
        "terminationGracePeriodSeconds": DRAIN_SECONDS + 20,
        "securityContext": {"fsGroup": USER},
        "volumes": [{"name": name, "emptyDir": {}} for name in ("data", "tmp")],
    }
    if predictions_claim is not None:
        pod["volumes"].append({"name": "serving", "persistentVolumeClaim": {"claimName": predictions_claim}})
        pod["containers"][0]["volumeMounts"].append({"name": "serving", "mountPath": "/data/serving"})
    if pulls_with_secret:
        pod["imagePullSecrets"] = [{"name": PULL_SECRET}]
    return {
        "apiVersion": "apps/v1",
        "kind": "Deployment",
        "metadata": {"name": name, "labels": labels, "annotations": notes},
        "spec": {
            "replicas": replicas,
            "revisionHistoryLimit": 10,
            "progressDeadlineSeconds": max(1, int(progress_seconds)),
            "selector": {"matchLabels": labels},
            "strategy": {"type": "RollingUpdate", "rollingUpdate": {"maxUnavailable": 0, "maxSurge": 1}},
            "template": {"metadata": {"labels": labels, "annotations": notes}, "spec": pod},
        },
    }


def _container(image: str, variables: Mapping[str, str]) -> dict[str, Any]:
    return {
        "name": "api",
        "image": image,
        "ports": [{"containerPort": PORT}],
        "env": [
            _from_secret("HEALTH_PIPELINE_SERVING__TOKEN", "token"),
            _from_secret("HEALTH_PIPELINE_PRIVACY__PSEUDONYM_KEY", "pseudonym-key"),
            *({"name": name, "value": value} for name, value in variables.items()),
        ],
        "readinessProbe": {
            "httpGet": {"path": "/health/ready", "port": PORT},
            "periodSeconds": 1,
            "timeoutSeconds": 2,
        },
        "livenessProbe": {
            "httpGet": {"path": "/health/live", "port": PORT},
            "periodSeconds": 10,
            "timeoutSeconds": 5,
            "initialDelaySeconds": 10,
        },
        "resources": {
            "requests": {"cpu": "250m", "memory": "256Mi"},
            "limits": {"cpu": "2", "memory": "512Mi"},
        },
        "lifecycle": {"preStop": {"exec": {"command": ["sh", "-c", f"kill -USR1 1; sleep {DRAIN_SECONDS}"]}}},
        # What the pod security standard "restricted" asks for, and a root file system that cannot be written.
        "securityContext": {
            "allowPrivilegeEscalation": False,
            "capabilities": {"drop": ["ALL"]},
            "readOnlyRootFilesystem": True,
            "runAsNonRoot": True,
            "runAsUser": USER,
            "seccompProfile": {"type": "RuntimeDefault"},
        },
        "volumeMounts": [{"name": name, "mountPath": f"/{name}"} for name in ("data", "tmp")],
    }


def _from_secret(variable: str, key: str) -> dict[str, Any]:
    return {"name": variable, "valueFrom": {"secretKeyRef": {"name": NAME, "key": key}}}


def service() -> dict[str, Any]:
    """The Service before all pods, the canary's too."""
    return {
        "apiVersion": "v1",
        "kind": "Service",
        "metadata": {"name": NAME},
        "spec": {"selector": {"app": NAME}, "ports": [{"port": 80, "targetPort": PORT}]},
    }


def secret(token: str, pseudonym_key: bytes) -> dict[str, Any]:
    """Token and key of the pseudonyms."""
    return {
        "apiVersion": "v1",
        "kind": "Secret",
        "metadata": {"name": NAME},
        "stringData": {"token": token, "pseudonym-key": pseudonym_key.decode()},
    }


def pull_secret(host: str, user: str, password: str) -> dict[str, Any]:
    """Credentials with which the nodes pull the image."""
    auth = base64.b64encode(f"{user}:{password}".encode()).decode()
    content = {"auths": {host: {"username": user, "password": password, "auth": auth}}}
    return {
        "apiVersion": "v1",
        "kind": "Secret",
        "metadata": {"name": PULL_SECRET},
        "type": "kubernetes.io/dockerconfigjson",
        "stringData": {".dockerconfigjson": json.dumps(content)},
    }
