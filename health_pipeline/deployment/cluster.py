"""A namespace of a cluster, through the official client: what is read, written and waited for there."""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from health_pipeline.errors import DeploymentError

POLL_SECONDS = 0.5
REVISION = "deployment.kubernetes.io/revision"
PROBE = "health-pipeline-probe"


class MissingError(DeploymentError):
    """The object is not there."""


class ExistsError(DeploymentError):
    """The object is there already, or was changed meanwhile."""


@dataclass(frozen=True)
class Pod:
    """A pod that is ready for traffic.

    Attributes:
        name: of the pod.
        address: its IP.
        image_digest: digest of the image it runs, as the node reports it.
    """

    name: str
    address: str
    image_digest: str


class Namespace:
    """Objects of one namespace.

    Args:
        name: of the namespace.
        context: of the kubeconfig; ``None`` takes the current one, or the service account inside a cluster.
    """

    def __init__(self, name: str, context: str | None = None) -> None:
        self.name, self._context = name, context
        self._apis: tuple[Any, Any] | None = None

    def check(self, deployment: Mapping[str, Any]) -> None:
        """The namespace is there and takes such a Deployment from us: the cluster is asked, nothing is created.

        Raises:
            DeploymentError: no client, no cluster, no namespace, or not the rights.
        """
        trial = {**deployment, "metadata": {**deployment["metadata"], "name": PROBE}}
        try:
            self._call(
                "a Deployment (dry run)",
                lambda apps, _core: apps.create_namespaced_deployment(self.name, trial, dry_run="All"),
            )
        except MissingError as error:
            raise DeploymentError(
                "the namespace is not there", where=self.name, remedy=f"kubectl create namespace {self.name}"
            ) from error

    def deployment(self, name: str) -> Any:
        """A Deployment, or ``None``."""
        try:
            return self._call("reading", lambda apps, _core: apps.read_namespaced_deployment(name, self.name))
        except MissingError:
            return None

    def apply_deployment(self, manifest: Mapping[str, Any]) -> None:
        """Create or change a Deployment."""
        name = manifest["metadata"]["name"]
        if self.deployment(name) is None:
            self._call("creating", lambda apps, _core: apps.create_namespaced_deployment(self.name, manifest))
        else:
            self._call("updating", lambda apps, _core: apps.patch_namespaced_deployment(name, self.name, manifest))

    def replace_deployment(self, name: str, changed: Any) -> None:
        """Write back a Deployment that was read and changed."""
        self._call("undoing", lambda apps, _core: apps.replace_namespaced_deployment(name, self.name, changed))

    def delete_deployment(self, name: str) -> None:
        """Delete a Deployment, if it is there."""
        if self.deployment(name) is not None:
            self._call("removing", lambda apps, _core: apps.delete_namespaced_deployment(name, self.name))

    def ensure_service(self, manifest: Mapping[str, Any]) -> None:
        """Create a Service; one that is there is left as people have set it up."""
        try:
            self._call("the service", lambda _apps, core: core.create_namespaced_service(self.name, manifest))
        except ExistsError:
            return

    def apply_secret(self, manifest: Mapping[str, Any]) -> None:
        """Create or change a Secret."""
        name = manifest["metadata"]["name"]
        try:
            self._call("the secret", lambda _apps, core: core.create_namespaced_secret(self.name, manifest))
        except ExistsError:
            self._call("the secret", lambda _apps, core: core.patch_namespaced_secret(name, self.name, manifest))

    def revisions(self, track: str) -> list[Any]:
        """ReplicaSets of a Deployment, newest first."""
        found = self._call(
            "revisions",
            lambda apps, _core: apps.list_namespaced_replica_set(self.name, label_selector=f"track={track}"),
        )
        return sorted(found.items, key=lambda item: -int((item.metadata.annotations or {}).get(REVISION, 0)))

    def ready_pods(self, selector: str) -> Sequence[Pod]:
        """Pods that get traffic."""
        found = self._call("pods", lambda _apps, core: core.list_namespaced_pod(self.name, label_selector=selector))
        return [
            Pod(item.metadata.name, item.status.pod_ip, item.status.container_statuses[0].image_id.rpartition("@")[2])
            for item in found.items
            if item.metadata.deletion_timestamp is None
            and any(
                condition.type == "Ready" and condition.status == "True" for condition in item.status.conditions or ()
            )
        ]

    def wait(self, name: str, seconds: float) -> None:
        """Wait for a rollout: the controller must have seen this generation before any condition counts.

        Raises:
            DeploymentError: no progress, gone, or not done in time.
        """
        where = f"{self.name}/{name}"
        end = time.monotonic() + seconds
        while time.monotonic() < end:
            found = self.deployment(name)
            if found is None:
                raise DeploymentError("the deployment has gone", where=where)
            status = found.status
            if (status.observed_generation or 0) >= found.metadata.generation:
                for condition in status.conditions or ():
                    if condition.type == "Progressing" and condition.reason == "ProgressDeadlineExceeded":
                        raise DeploymentError(
                            f"the rollout made no progress: {self._why(name) or condition.message}",
                            where=where,
                            remedy=f"kubectl --namespace {self.name} describe pods",
                        )
                wanted = found.spec.replicas
                if status.updated_replicas == status.available_replicas == status.replicas == wanted:
                    return
            time.sleep(POLL_SECONDS)
        raise DeploymentError(f"the rollout did not end in time: {self._why(name)}", where=where)

    def _why(self, track: str) -> str:
        """What keeps containers from running, in the words of their nodes."""
        pods = self._call(
            "pods", lambda _apps, core: core.list_namespaced_pod(self.name, label_selector=f"track={track}")
        )
        reasons = set()
        for pod in pods.items:
            for status in pod.status.container_statuses or ():
                if status.ready:
                    continue
                state = status.state.waiting or status.state.terminated
                reasons.add(state.reason if state is not None else "not ready")
        return ", ".join(sorted(reasons))

    def _call(self, what: str, action: Callable[[Any, Any], Any]) -> Any:
        apps, core = self._connect()
        from kubernetes.client.exceptions import ApiException
        from urllib3.exceptions import HTTPError

        try:
            return action(apps, core)
        except ApiException as error:
            kind = {404: MissingError, 409: ExistsError}.get(error.status, DeploymentError)
            raise kind(
                f"Kubernetes refused {what}: {error.status} {error.reason}",
                where=self.name,
                remedy="check the rights of the identity in use",
            ) from error
        except HTTPError as error:
            raise DeploymentError(
                f"the cluster does not answer: {type(error).__name__}", where=self.name, remedy="check kubeconfig"
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
                config.load_config(context=self._context)
            except config.ConfigException as error:
                raise DeploymentError(f"no cluster is configured: {error}", remedy="set KUBECONFIG") from error
            self._apis = client.AppsV1Api(), client.CoreV1Api()
        return self._apis
