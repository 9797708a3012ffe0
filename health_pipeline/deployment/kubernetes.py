"""The Kubernetes target: one Deployment and one Service per environment, changed by rolling updates.

No request is lost because a new pod gets traffic only when it is ready, and an old one first announces its end: the
preStop hook makes the API answer with ``Connection: close`` and waits until clients have moved on.
"""

from __future__ import annotations

import contextlib
import time
from collections.abc import Mapping, Sequence
from typing import Any

from health_pipeline.deployment.client import ApiClient
from health_pipeline.deployment.images import PORT, ImageTool
from health_pipeline.deployment.target import Endpoint, Package, Serving
from health_pipeline.errors import DeploymentError
from health_pipeline.serving.release import Release
from health_pipeline.settings import Settings

NAME = "readmission-api"
DRAIN_SECONDS = 10
RELEASE_NOTE = "health-pipeline/release"
DIGEST_NOTE = "health-pipeline/digest"
POLL_SECONDS = 0.5


class KubernetesTarget:
    """Ships images to a cluster.

    Args:
        settings: repository, namespace, replicas, time-outs.
        environment: production lives in the namespace of the settings, others in ``<namespace>-<environment>``.
        endpoint: where the Service answers from here, when that is not its cluster address.
    """

    name = "kubernetes"

    def __init__(self, settings: Settings, environment: str = "production", endpoint: Endpoint | None = None) -> None:
        self.environment = environment
        self.build_root = settings.home.resolve() / "builds"
        self._settings, self._limits = settings, settings.deployment
        production = environment == settings.deployment.environments[-1]
        self._namespace = self._limits.namespace + ("" if production else f"-{environment}")
        self._images = ImageTool(self._limits, self.build_root)
        self._endpoint = endpoint
        self._apis: tuple[Any, Any] | None = None

    # What the steps use ------------------------------------------------------------------------------------------

    def check(self) -> None:
        """Client, cluster, namespace, token, image tool and repository are there."""
        self._images.check()
        self._token()
        self._call("the cluster", lambda apps, _core: apps.list_namespaced_deployment(self._namespace, limit=1))

    def build(self, release: Release) -> Package:
        """Build the image of the release."""
        return self._images.build(release)

    def trial(self, package: Package) -> contextlib.AbstractContextManager[Endpoint]:
        """Run the image on this machine."""
        return self._images.trial(package, self._limits.start_timeout_seconds)

    def publish(self, package: Package) -> Package:
        """Push the image."""
        return self._images.publish(package)

    def shift(self, package: Package, weight: float) -> None:
        """Below 1, run as many canary pods beside the others as the share asks for; at 1, roll everything."""
        if weight < 1 and self._read(NAME) is not None:
            pods = max(1, round(self._limits.replicas * weight / (1 - weight)))
            self._roll(f"{NAME}-canary", package, pods)
            return
        self._roll(NAME, package, self._limits.replicas)
        self._remove_canary()

    def settle(self, package: Package) -> None:
        """Nothing is left to end but a canary: the former pods went with the rolling update."""
        del package
        self._remove_canary()

    def restore(self, release_id: str | None) -> None:
        """Undo the rollout: apply the pod template of the revision that held the release."""
        self._remove_canary()
        if release_id is None:
            if self._read(NAME) is not None:
                self._call("removing", lambda apps, _core: apps.delete_namespaced_deployment(NAME, self._namespace))
            return
        held = [
            revision.spec.template
            for revision in self._revisions()
            if (revision.spec.template.metadata.annotations or {}).get(RELEASE_NOTE) == release_id
        ]
        current = self._read(NAME)
        if not held or current is None:
            raise DeploymentError(
                f"the cluster has no revision of release {release_id}",
                where=self._where(NAME),
                remedy="deploy it again",
            )
        (held[0].metadata.labels or {}).pop("pod-template-hash", None)
        current.spec.template = held[0]
        current.spec.replicas = self._limits.replicas
        self._call("undoing", lambda apps, _core: apps.replace_namespaced_deployment(NAME, self._namespace, current))
        self._wait(NAME)

    def serving(self) -> Serving | None:
        """What the endpoint says; shares by pods."""
        main = self._read(NAME)
        if main is None:
            return None
        canary = self._read(f"{NAME}-canary")
        notes = main.spec.template.metadata.annotations or {}
        weights = {str(notes.get(RELEASE_NOTE)): float(main.spec.replicas)}
        if canary is not None:
            other = (canary.spec.template.metadata.annotations or {}).get(RELEASE_NOTE)
            weights[str(other)] = weights.get(str(other), 0.0) + float(canary.spec.replicas)
        end = time.monotonic() + self._limits.start_timeout_seconds
        while True:  # the service's rules may follow the rollout by a second
            with ApiClient(self.endpoint()) as client:
                try:
                    found = client.serving()
                except DeploymentError:
                    found = None
            if found is not None and (len(weights) > 1 or found.release in weights or time.monotonic() > end):
                return Serving(
                    str(notes.get(RELEASE_NOTE)) if len(weights) > 1 else found.release,
                    str(notes.get("health-pipeline/release-digest")) if len(weights) > 1 else found.digest,
                    found.model_id,
                    weights,
                )
            if time.monotonic() > end:
                raise DeploymentError("the service does not answer", where=self._where(NAME))
            time.sleep(POLL_SECONDS)

    def releases(self) -> Sequence[str]:
        """Releases of the kept revisions, newest first."""
        found = [(item.spec.template.metadata.annotations or {}).get(RELEASE_NOTE) for item in self._revisions()]
        return [str(item) for item in dict.fromkeys(found) if item is not None]

    def endpoint(self) -> Endpoint:
        """The Service."""
        if self._endpoint is not None:
            return Endpoint(self._endpoint.url, self._token())
        return Endpoint(f"http://{NAME}.{self._namespace}.svc:80", self._token())

    def counters(self) -> Mapping[str, Any] | None:
        """None: each pod counts for itself; Prometheus adds them up."""
        return None

    # The cluster -------------------------------------------------------------------------------------------------

    def _roll(self, name: str, package: Package, replicas: int) -> None:
        self._apply_secret()
        manifest = self._deployment(name, package, replicas)
        if self._read(name) is None:
            self._call("creating", lambda apps, _core: apps.create_namespaced_deployment(self._namespace, manifest))
        else:
            self._call(
                "updating", lambda apps, _core: apps.patch_namespaced_deployment(name, self._namespace, manifest)
            )
        self._apply_service()
        self._wait(name)

    def _wait(self, name: str) -> None:
        """Wait for a rollout: the controller must have seen this generation before any condition counts."""
        end = time.monotonic() + self._limits.rollout_timeout_seconds
        while time.monotonic() < end:
            found = self._read(name)
            if found is None:
                raise DeploymentError("the deployment has gone", where=self._where(name))
            status = found.status
            if (status.observed_generation or 0) >= found.metadata.generation:
                for condition in status.conditions or ():
                    if condition.type == "Progressing" and condition.reason == "ProgressDeadlineExceeded":
                        raise DeploymentError(
                            f"the rollout made no progress: {condition.message}",
                            where=self._where(name),
                            remedy=f"kubectl --namespace {self._namespace} describe pods",
                        )
                wanted = found.spec.replicas
                if status.updated_replicas == status.available_replicas == status.replicas == wanted:
                    return
            time.sleep(POLL_SECONDS)
        raise DeploymentError("the rollout did not end in time", where=self._where(name))

    def _deployment(self, name: str, package: Package, replicas: int) -> dict[str, Any]:
        notes = {
            RELEASE_NOTE: package.release.release_id,
            DIGEST_NOTE: package.digest,
            "health-pipeline/release-digest": package.release.digest,
        }
        labels = {"app": NAME, "track": name}
        container = {
            "name": "api",
            "image": package.reference,
            "ports": [{"containerPort": PORT}],
            "env": [
                _secret("HEALTH_PIPELINE_SERVING__TOKEN", "token"),
                _secret("HEALTH_PIPELINE_PRIVACY__PSEUDONYM_KEY", "pseudonym-key"),
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
                "runAsUser": 10001,
                "seccompProfile": {"type": "RuntimeDefault"},
            },
            "volumeMounts": [{"name": name, "mountPath": f"/{name}"} for name in ("data", "tmp")],
        }
        return {
            "apiVersion": "apps/v1",
            "kind": "Deployment",
            "metadata": {"name": name, "labels": labels, "annotations": notes},
            "spec": {
                "replicas": replicas,
                "revisionHistoryLimit": 10,
                "progressDeadlineSeconds": int(self._limits.rollout_timeout_seconds * 0.9) or 1,
                "selector": {"matchLabels": labels},
                "strategy": {"type": "RollingUpdate", "rollingUpdate": {"maxUnavailable": 0, "maxSurge": 1}},
                "template": {
                    "metadata": {"labels": labels, "annotations": notes},
                    "spec": {
                        "containers": [container],
                        "automountServiceAccountToken": False,
                        "terminationGracePeriodSeconds": DRAIN_SECONDS + 20,
                        "volumes": [{"name": name, "emptyDir": {}} for name in ("data", "tmp")],
                    },
                },
            },
        }  # fmt: skip

    def _apply_service(self) -> None:
        service = {
            "apiVersion": "v1",
            "kind": "Service",
            "metadata": {"name": NAME},
            "spec": {"selector": {"app": NAME}, "ports": [{"port": 80, "targetPort": PORT}]},
        }
        with contextlib.suppress(_ExistsError):
            self._call("the service", lambda _apps, core: core.create_namespaced_service(self._namespace, service))

    def _apply_secret(self) -> None:
        from health_pipeline.privacy.pseudonym import load_key

        secret = {
            "apiVersion": "v1",
            "kind": "Secret",
            "metadata": {"name": NAME},
            "stringData": {"token": self._token(), "pseudonym-key": load_key(self._settings).decode()},
        }
        try:
            self._call("the secret", lambda _apps, core: core.create_namespaced_secret(self._namespace, secret))
        except _ExistsError:
            self._call("the secret", lambda _apps, core: core.patch_namespaced_secret(NAME, self._namespace, secret))

    def _remove_canary(self) -> None:
        name = f"{NAME}-canary"
        if self._read(name) is not None:
            self._call("the canary", lambda apps, _core: apps.delete_namespaced_deployment(name, self._namespace))

    def _read(self, name: str) -> Any:
        try:
            return self._call("reading", lambda apps, _core: apps.read_namespaced_deployment(name, self._namespace))
        except _MissingError:
            return None

    def _revisions(self) -> list[Any]:
        found = self._call(
            "revisions",
            lambda apps, _core: apps.list_namespaced_replica_set(self._namespace, label_selector=f"track={NAME}"),
        )
        number = "deployment.kubernetes.io/revision"
        return sorted(found.items, key=lambda item: -int((item.metadata.annotations or {}).get(number, 0)))

    def _token(self) -> str:
        from health_pipeline.serving.places import Places, resolve_token

        token = resolve_token(self._settings, Places.of(self._settings.home, self.environment))
        if token is None:
            raise DeploymentError(
                "an API on Kubernetes must not be open",
                where="HEALTH_PIPELINE_SERVING__OPEN_ON_LOOPBACK",
                remedy="leave it off, or set HEALTH_PIPELINE_SERVING__TOKEN",
            )
        return token

    def _where(self, name: str) -> str:
        return f"{self._namespace}/{name}"

    def _call(self, what: str, action: Any) -> Any:
        apps, core = self._connect()
        from kubernetes.client.exceptions import ApiException
        from urllib3.exceptions import HTTPError

        try:
            return action(apps, core)
        except ApiException as error:
            kind = {404: _MissingError, 409: _ExistsError}.get(error.status, DeploymentError)
            raise kind(
                f"Kubernetes refused {what}: {error.status} {error.reason}",
                where=self._namespace,
                remedy="check the rights of the identity in use",
            ) from error
        except HTTPError as error:
            raise DeploymentError(
                f"the cluster does not answer: {type(error).__name__}", where=self._namespace, remedy="check kubeconfig"
            ) from error

    def _connect(self) -> tuple[Any, Any]:
        if self._apis is None:
            try:
                from kubernetes import client, config
            except ImportError:
                raise DeploymentError(
                    "target kubernetes needs its client", remedy="pip install 'health-pipeline[kubernetes]'"
                ) from None
            try:
                config.load_config(context=self._limits.kube_context)
            except config.ConfigException as error:
                raise DeploymentError(f"no cluster is configured: {error}", remedy="set KUBECONFIG") from error
            self._apis = client.AppsV1Api(), client.CoreV1Api()
        return self._apis


class _MissingError(DeploymentError):
    """The object is not there."""


class _ExistsError(DeploymentError):
    """The object is there already, or was changed meanwhile."""


def _secret(variable: str, key: str) -> dict[str, Any]:
    return {"name": variable, "valueFrom": {"secretKeyRef": {"name": NAME, "key": key}}}
