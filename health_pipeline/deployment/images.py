"""API images: built by buildah, podman or docker, pushed to any OCI registry; the digest is what travels."""

from __future__ import annotations

import contextlib
import json
import os
import re
import secrets
import shutil
import socket
import subprocess
import tempfile
import time
from collections.abc import Callable, Iterator, Mapping
from importlib.resources import files
from pathlib import Path
from types import MappingProxyType

from health_pipeline.deployment.client import wait_ready
from health_pipeline.deployment.commands import CommandError, find_program, run_program
from health_pipeline.deployment.ecr import ecr_login, is_ecr
from health_pipeline.deployment.target import Endpoint, Package
from health_pipeline.errors import DeploymentError
from health_pipeline.serving.release import Release
from health_pipeline.settings import DeploymentSettings

TOOLS = ("buildah", "podman", "docker")
RUNNERS = ("podman", "docker")
BUILD_SECONDS = 1800
PUSH_SECONDS = 600
PORT = 8080

# What registries and networks say when another try may help, and when none will. Statuses stand alone: digits of a
# digest or of a month (xgb-202403-...) are none.
PASSING = re.compile(r"timeout|timed out|connection re|no such host|temporary|\b50[23]\b|\beof\b|unreachable")
DENIED = re.compile(r"unauthorized|authentication required|denied|forbidden|\b40[13]\b")


class ImageTool:
    """One container tool, used for building, trying and pushing.

    Args:
        settings: repository, credentials, base image.
        build_root: release folders.
        sleep: waits between tries.
        variables: of the API in an image that is tried.
    """

    def __init__(
        self,
        settings: DeploymentSettings,
        build_root: Path,
        sleep: Callable[[float], None] = time.sleep,
        variables: Mapping[str, str] = MappingProxyType({}),
    ) -> None:
        self._settings, self._build_root, self._sleep, self._variables = settings, build_root, sleep, variables

    @property
    def repository(self) -> str:
        """Repository of the images.

        Raises:
            DeploymentError: none is set.
        """
        if self._settings.registry is None:
            raise DeploymentError(
                "no image repository is set",
                where="HEALTH_PIPELINE_DEPLOYMENT__REGISTRY",
                remedy="for example registry.example/team/readmission-api",
            )
        return self._settings.registry

    @property
    def host(self) -> str:
        """Host of the registry."""
        return self.repository.partition("/")[0]

    @property
    def password(self) -> tuple[str, str] | None:
        """User and password of the settings; ``None`` for an open registry, and for ECR, whose tokens do not last."""
        user, secret = self._settings.registry_user, self._settings.registry_password
        return (user, secret.get_secret_value()) if user and secret and not self._is_ecr else None

    @property
    def _is_ecr(self) -> bool:
        return is_ecr(self.host) or self._settings.aws_endpoint is not None

    def check(self) -> None:
        """Everything is there that the steps will need; nothing is built.

        Raises:
            DeploymentError: no tool that builds, none that runs, or no repository.
        """
        self._builder()
        find_program(RUNNERS, "running an image for its tests")

    def _builder(self) -> str:
        _ = self.repository
        return find_program(TOOLS, "building images")

    def tag_of(self, release: Release) -> str:
        """Unique tag: model, month and release digest; what a registry allows in a tag."""
        return f"{self.repository}:{release.release_id}"[: len(self.repository) + 128]

    def build(self, release: Release) -> Package:
        """Build the image of a release, or find it built.

        Raises:
            DeploymentError: the tool is missing or the build fails.
        """
        tool, tag = self._builder(), self.tag_of(release)
        found = self._local_digest(tool, tag, release)
        if found is None:
            with tempfile.TemporaryDirectory(prefix="image-") as scratch:
                context = Path(scratch)
                self._write_context(context, release)
                build = [tool, "build", "--file", str(context / "Dockerfile"), "--target", "release", "--tag", tag]
                build += ["--build-arg", f"BASE={self._settings.base_image}"]
                if tool != "docker":
                    build += ["--format", "docker"]  # OCI images lose HEALTHCHECK
                for key, value in _labels(release).items():
                    build += ["--label", f"{key}={value}"]
                run_program([*build, str(context)], timeout=BUILD_SECONDS)
            found = self._local_digest(tool, tag, release)
        if found is None:
            raise DeploymentError("the built image is not the one asked for", where=tag, remedy="build it again")
        return Package(release, tag, found)

    def _write_context(self, context: Path, release: Release) -> None:
        recipe = files("health_pipeline.deployment").joinpath("Dockerfile").read_text()
        (context / "Dockerfile").write_text(recipe)
        source = Path(str(files("health_pipeline")))
        shutil.copytree(source, context / "health_pipeline", ignore=shutil.ignore_patterns("__pycache__"))
        shutil.copytree(self._build_root / release.release_id, context / "release" / release.release_id)

    def _local_digest(self, tool: str, tag: str, release: Release) -> str | None:
        """Id of the local image, when it is there and holds this very release."""
        kind = ["inspect", "--type", "image"] if tool == "buildah" else ["image", "inspect"]
        try:
            described = json.loads(run_program([tool, *kind, tag], timeout=60))
        except CommandError:
            return None
        item = described[0] if isinstance(described, list) else described
        config = item.get("Config") or item.get("Docker", {}).get("config") or {}
        if isinstance(config, str):
            config = item.get("Docker", {}).get("config", {})
        labels = config.get("Labels") or {}
        if labels.get("health-pipeline.release-digest") != release.digest:
            return None
        image_id = item.get("Id") or item.get("FromImageID") or ""
        return image_id if image_id.startswith("sha256:") else f"sha256:{image_id}"

    @contextlib.contextmanager
    def trial(self, package: Package, seconds: float) -> Iterator[Endpoint]:
        """Run the image by itself on a free port of this machine."""
        runner = find_program(RUNNERS, "running an image for its tests")
        token, name = secrets.token_urlsafe(32), f"trial-{secrets.token_hex(6)}"
        with socket.socket() as sock:
            sock.bind(("127.0.0.1", 0))
            port = sock.getsockname()[1]
        given = {**self._variables, "HEALTH_PIPELINE_SERVING__TOKEN": token}
        publish = ["--publish", f"127.0.0.1:{port}:{PORT}"]
        named = [word for variable in given for word in ("--env", variable)]  # the list of processes shows no value
        run_program(
            [runner, "run", "--detach", "--rm", "--name", name, *publish, *named, package.reference],
            timeout=120,
            env={**os.environ, **given},
        )
        endpoint = Endpoint(f"http://127.0.0.1:{port}", token)
        try:
            wait_ready(endpoint, seconds, lambda: _is_running(runner, name))
            yield endpoint
        finally:
            subprocess.run([runner, "rm", "--force", name], capture_output=True, timeout=60, check=False)

    def publish(self, package: Package) -> Package:
        """Push, trying again when the network fails, and give the digest that the registry has.

        Raises:
            DeploymentError: refused (at once), or not reachable after all tries.
        """
        tool = self._builder()
        with self._login(tool) as environment:
            digest = self._push_patiently(tool, package.reference, environment)
        return Package(package.release, f"{self.repository}@{digest}", digest)

    def _push_patiently(self, tool: str, tag: str, environment: Mapping[str, str]) -> str:
        for attempt in range(1, self._settings.push_attempts + 1):
            try:
                return self._push(tool, tag, environment)
            except CommandError as error:
                said = error.output.lower()
                if DENIED.search(said):
                    raise DeploymentError(
                        f"the registry refused the push: {error.output}",
                        where=self.repository,
                        remedy="check user, password and rights",
                    ) from error
                if attempt == self._settings.push_attempts or not PASSING.search(said):
                    raise DeploymentError(
                        f"the push failed after {attempt} tries: {error.output}",
                        where=self.repository,
                        remedy="see whether the registry answers, then run deployment/published_image again",
                    ) from error
                self._sleep(2.0 ** (attempt - 1))
        raise AssertionError("push_attempts is at least one")

    def _push(self, tool: str, tag: str, environment: Mapping[str, str]) -> str:
        if tool == "docker":
            run_program([tool, "push", tag], timeout=PUSH_SECONDS, env=environment)
            digests = json.loads(run_program([tool, "image", "inspect", tag], timeout=60))[0]["RepoDigests"]
            mine = [item for item in digests if item.startswith(f"{self.repository}@")]
            if not mine:
                raise DeploymentError("the registry confirmed no digest", where=tag)
            return str(mine[0]).partition("@")[2]
        with tempfile.TemporaryDirectory(prefix="push-") as scratch:
            file = Path(scratch) / "digest"
            run_program(
                [tool, "push", *self._insecure(tool), "--digestfile", str(file), tag],
                timeout=PUSH_SECONDS,
                env=environment,
            )
            return file.read_text().strip()

    @contextlib.contextmanager
    def _login(self, tool: str) -> Iterator[Mapping[str, str]]:
        """Environment of the push. buildah and podman keep the login in a file that is gone afterwards."""
        if self._is_ecr:
            user, password = ecr_login(self.host, self._settings.aws_endpoint)
        elif self.password is not None:
            user, password = self.password
        else:
            yield dict(os.environ)
            return
        with tempfile.TemporaryDirectory(prefix="login-") as scratch:
            environment = {**os.environ, "REGISTRY_AUTH_FILE": str(Path(scratch) / "auth.json")}
            try:
                run_program(
                    [tool, "login", *self._insecure(tool), "--username", user, "--password-stdin", self.host],
                    timeout=60,
                    stdin=password,
                    env=environment,
                )
            except CommandError as error:
                raise DeploymentError(
                    f"the registry refused the login: {error.output}", where=self.host, remedy="check user and password"
                ) from error
            yield environment

    def _insecure(self, tool: str) -> list[str]:
        return ["--tls-verify=false"] if self._settings.registry_insecure and tool != "docker" else []


def _labels(release: Release) -> dict[str, str]:
    return {
        "health-pipeline.release": release.release_id,
        "health-pipeline.release-digest": release.digest,
        "health-pipeline.model-id": release.facts.model_id,
        "health-pipeline.month": release.facts.month,
    }


def _is_running(runner: str, name: str) -> bool:
    try:
        return run_program([runner, "inspect", "--format", "{{.State.Running}}", name], timeout=30).strip() == "true"
    except CommandError:
        return False
