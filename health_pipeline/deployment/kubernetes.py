"""The Kubernetes target: one Deployment and one Service per environment, changed by rolling updates."""

from __future__ import annotations

import contextlib
import time
from collections import Counter
from collections.abc import Mapping, Sequence
from typing import Any

import structlog

from health_pipeline.deployment import manifests
from health_pipeline.deployment.client import ApiClient, wants_another_token
from health_pipeline.deployment.cluster import POLL_SECONDS, Namespace
from health_pipeline.deployment.container_settings import container_settings
from health_pipeline.deployment.images import PORT, ImageTool
from health_pipeline.deployment.manifests import CANARY, NAME, RELEASE_DIGEST_NOTE, RELEASE_NOTE
from health_pipeline.deployment.target import Endpoint, Package, Serving
from health_pipeline.errors import DeploymentError
from health_pipeline.serving.release import Release, ReleaseFacts
from health_pipeline.settings import Settings

AGREED_SECONDS = 2.0

_log = structlog.get_logger(__name__)


class KubernetesTarget:
    """Ships images to a cluster.

    Args:
        settings: repository, namespace, replicas, time-outs.
        environment: production lives in the namespace of the settings, others in ``<namespace>-<environment>``.
    """

    name = "kubernetes"

    def __init__(self, settings: Settings, environment: str = "production") -> None:
        self.environment = environment
        self.build_root = settings.home.resolve() / "builds"
        self._settings, self._limits = settings, settings.deployment
        production = environment == settings.deployment.environments[-1]
        namespace = self._limits.namespace + ("" if production else f"-{environment}")
        self._cluster = Namespace(namespace, self._limits.kube_context)
        self._variables = container_settings(settings.serving)
        self._images = ImageTool(self._limits, self.build_root, variables=self._variables)

    # What the steps use ------------------------------------------------------------------------------------------

    def check(self) -> None:
        """Client, cluster, namespace, rights, token, image tools and repository are there."""
        self._images.check()
        self._token()
        self._cluster.check(self._deployment(NAME, _no_package(), 1))
        if self._cluster.deployment(NAME) is not None and wants_another_token(self.endpoint()):
            raise DeploymentError(
                "the pods were started with another token",
                where=f"HEALTH_PIPELINE_SERVING__TOKEN, Secret {self._cluster.name}/{NAME}",
                remedy="put the token of the settings into the Secret and restart the Deployment "
                "(docs/operations/keys.md), or set the former one back",
            )

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
        if weight < 1 and self._cluster.deployment(NAME) is not None:
            pods = max(1, round(self._limits.replicas * weight / (1 - weight)))
            self._roll(CANARY, package, pods)
            return
        self._roll(NAME, package, self._limits.replicas)
        self._remove_canary()
        self._wait_for_service(package.release.digest)

    def settle(self, package: Package) -> None:
        """Nothing is left to end but a canary: the former pods went with the rolling update."""
        del package
        self._remove_canary()

    def restore(self, release_id: str | None) -> None:
        """Undo the rollout: apply the pod template of the revision that held the release."""
        self._remove_canary()
        if release_id is None:
            self._cluster.delete_deployment(NAME)
            return
        held = [
            revision.spec.template
            for revision in self._cluster.revisions(NAME)
            if (revision.spec.template.metadata.annotations or {}).get(RELEASE_NOTE) == release_id
        ]
        current = self._cluster.deployment(NAME)
        if not held or current is None:
            raise DeploymentError(
                f"the cluster has no revision of release {release_id}", where=self._where, remedy="deploy it again"
            )
        (held[0].metadata.labels or {}).pop("pod-template-hash", None)
        current.spec.template = held[0]
        current.spec.replicas = self._limits.replicas
        self._cluster.replace_deployment(NAME, current)
        self._cluster.wait(NAME, self._limits.rollout_timeout_seconds)
        self._wait_for_service((held[0].metadata.annotations or {}).get(RELEASE_DIGEST_NOTE))

    def serving(self) -> Serving | None:
        """What the endpoint says; shares by pods."""
        main = self._cluster.deployment(NAME)
        if main is None:
            return None
        notes = main.spec.template.metadata.annotations or {}
        weights = {str(notes.get(RELEASE_NOTE)): float(main.spec.replicas)}
        canary = self._cluster.deployment(CANARY)
        if canary is not None:
            other = str((canary.spec.template.metadata.annotations or {}).get(RELEASE_NOTE))
            weights[other] = weights.get(other, 0.0) + float(canary.spec.replicas)
        end = time.monotonic() + self._limits.start_timeout_seconds
        while True:  # the service's rules may follow the rollout by a second
            found = None
            with ApiClient(self.endpoint()) as client, contextlib.suppress(DeploymentError):
                found = client.serving()
            if found is not None and (len(weights) > 1 or found.release in weights or time.monotonic() > end):
                return Serving(
                    str(notes.get(RELEASE_NOTE)) if len(weights) > 1 else found.release,
                    str(notes.get(RELEASE_DIGEST_NOTE)) if len(weights) > 1 else found.digest,
                    found.model_id,
                    weights,
                )
            if time.monotonic() > end:
                raise DeploymentError("the service does not answer", where=self.endpoint().url)
            time.sleep(POLL_SECONDS)

    def releases(self) -> Sequence[str]:
        """Releases of the kept revisions, newest first."""
        revisions = self._cluster.revisions(NAME)
        found = [(item.spec.template.metadata.annotations or {}).get(RELEASE_NOTE) for item in revisions]
        return [str(item) for item in dict.fromkeys(found) if item is not None]

    def endpoint(self) -> Endpoint:
        """The Service."""
        inside = f"http://{NAME}.{self._cluster.name}.svc:80"
        url = (self._limits.endpoint or inside).replace("{namespace}", self._cluster.name)
        return Endpoint(url, self._token())

    def watched(self, package: Package) -> Sequence[Endpoint]:
        """The canary's pods while there are any: behind the Service, other releases would answer too.

        Raises:
            DeploymentError: no pod of the canary is ready, or pods are not reachable from here.
        """
        del package
        if self._cluster.deployment(CANARY) is None:
            return [self.endpoint()]
        endpoints = [self._pod_endpoint(pod.address) for pod in self._cluster.ready_pods(f"track={CANARY}")]
        if not endpoints:
            raise DeploymentError("no pod of the canary is ready", where=f"{self._cluster.name}/{CANARY}")
        for endpoint in endpoints:
            with ApiClient(endpoint, timeout=2.0) as client:
                if not client.ask("GET", "/health/live").status:
                    raise DeploymentError(
                        "the canary's pods cannot be reached from here",
                        where=endpoint.url,
                        remedy="run deployments inside the cluster, or set deployment.canary_weights to []",
                    )
        return endpoints

    def counters(self) -> Mapping[str, Any] | None:
        """Sum over the pods; ``None`` from where pods cannot be reached."""
        total: dict[str, Counter[str]] = {}
        for pod in self._cluster.ready_pods(f"app={NAME}"):
            with ApiClient(self._pod_endpoint(pod.address), timeout=2.0) as client:
                reply = client.ask("GET", "/v1/traffic")
            if not reply.is_ok:
                _log.warning("pod_shows_no_counters", pod=pod.name, status=reply.status)
                return None
            for release, counted in reply.body["counters"].items():
                numbers = {name: counted[name] for name in ("requests", "rows", "errors", "shadow_rows")}
                total.setdefault(release, Counter()).update(numbers)
        return total

    def digests(self) -> frozenset[str] | None:
        """Digests of the images that the ready pods run, as their nodes report them."""
        return frozenset(pod.image_digest for pod in self._cluster.ready_pods(f"app={NAME}"))

    # The cluster -------------------------------------------------------------------------------------------------

    def _roll(self, name: str, package: Package, replicas: int) -> None:
        self._apply_secrets()
        self._cluster.apply_deployment(self._deployment(name, package, replicas))
        self._cluster.ensure_service(manifests.service())
        self._cluster.wait(name, self._limits.rollout_timeout_seconds)

    def _remove_canary(self) -> None:
        """Take the canary away, and wait until its pods have been told to go."""
        self._cluster.delete_deployment(CANARY)
        end = time.monotonic() + self._limits.start_timeout_seconds
        while self._cluster.ready_pods(f"track={CANARY}"):
            if time.monotonic() > end:
                raise DeploymentError("the canary's pods do not go", where=f"{self._cluster.name}/{CANARY}")
            time.sleep(POLL_SECONDS)

    def _wait_for_service(self, digest: str | None) -> None:
        """Wait until every new connection meets the release: the Service's rules follow a rollout by a second or so.

        Raises:
            DeploymentError: they do not in time; another release answers, or none.
        """
        end = time.monotonic() + self._limits.start_timeout_seconds
        agreed_since: float | None = None
        while time.monotonic() < end:
            with ApiClient(self.endpoint(), timeout=2.0) as client:
                ready, model = client.ask("GET", "/health/ready"), client.ask("GET", "/v1/model")
            if not (ready.is_ok and model.is_ok and model.body["digest"] == digest):
                agreed_since = None
            elif agreed_since is None:
                agreed_since = time.monotonic()
            elif time.monotonic() - agreed_since >= AGREED_SECONDS:
                return
            time.sleep(0.1)
        raise DeploymentError("the Service does not answer from the rolled out release alone", where=self._where)

    def _deployment(self, name: str, package: Package, replicas: int) -> dict[str, Any]:
        return manifests.deployment(
            name,
            package,
            replicas=replicas,
            variables=self._variables,
            progress_seconds=self._limits.rollout_timeout_seconds * 0.9,
            pulls_with_secret=self._images.password is not None,
            predictions_claim=self._limits.predictions_claim,
        )

    def _apply_secrets(self) -> None:
        from health_pipeline.privacy.pseudonym import load_key

        self._cluster.apply_secret(manifests.secret(self._token(), load_key(self._settings)))
        password = self._images.password
        if password is not None:
            self._cluster.apply_secret(manifests.pull_secret(self._images.host, *password))

    def _pod_endpoint(self, address: str) -> Endpoint:
        shown = f"[{address}]" if ":" in address else address
        return Endpoint(f"http://{shown}:{PORT}", self._token())

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

    @property
    def _where(self) -> str:
        return f"{self._cluster.name}/{NAME}"


def _no_package() -> Package:
    """Stands for the package in the question whether the cluster would take a Deployment; never created."""
    facts = ReleaseFacts(model_id="probe", family="probe", month="2000-01-01", threshold=0.5, bundle_hash="")
    release = Release(format=1, release_id="probe", digest="", facts=facts, files={})
    return Package(release, "probe", "")
