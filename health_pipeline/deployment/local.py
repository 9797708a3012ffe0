"""The local target: a supervised API process on this machine; releases are folders, the switch is a manifest."""

from __future__ import annotations

import contextlib
import fcntl
import json
import os
import secrets
import shutil
import signal
import socket
import subprocess
import tempfile
import time
import uuid
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

from health_pipeline.deployment.client import ApiClient, wait_ready, wants_another_token
from health_pipeline.deployment.target import Endpoint, Package, Serving
from health_pipeline.durable import sync, sync_tree
from health_pipeline.errors import DeploymentError
from health_pipeline.serving.places import Places, bind, resolve_token
from health_pipeline.serving.release import MANIFEST, Release, read_release
from health_pipeline.serving.supervisor import python_command
from health_pipeline.serving.traffic import Route, Traffic, read_traffic, write_traffic
from health_pipeline.settings import PREFIX, Settings

SWITCH_SECONDS = 10.0
"""Longest wait until the running API has taken a manifest over; it looks every 50 ms."""


class LocalTarget:
    """Ships releases to an API process on this machine.

    Args:
        settings: home, port, limits.
        environment: one of ``settings.deployment.environments``; production listens on the configured port, the
            stages before it on the ports after that.
        command: how the API is started; tests start one that misbehaves.
    """

    name = "local"

    def __init__(
        self, settings: Settings, environment: str = "production", command: Sequence[str] | None = None
    ) -> None:
        self.environment = environment
        self.build_root = settings.home.resolve() / "builds"
        self._settings = settings
        self._places = Places.of(settings.home, environment)
        stages = [name for name in settings.deployment.environments if name != settings.deployment.environments[-1]]
        offset = stages.index(environment) + 1 if environment in stages else 0
        self._port = settings.serving.port + offset
        self._command = list(command or python_command())

    # What the steps use ------------------------------------------------------------------------------------------

    def check(self) -> None:
        """The home can be written, the port is ours or free, and an API that runs knows our token.

        Raises:
            DeploymentError: another program listens on the port, our API listens on another one or wants another
                token, or the home cannot be written.
        """
        try:
            for folder in (self.build_root, self._places.releases, self._places.traffic.parent):
                folder.mkdir(parents=True, exist_ok=True)
                with tempfile.TemporaryFile(dir=folder):
                    pass
        except OSError as error:
            raise DeploymentError(
                f"the home cannot be written: {error.strerror}",
                where=str(self._settings.home),
                remedy="mend permissions",
            ) from error
        running = self._supervisor()
        if running is None:
            bind(self._settings.serving.host, self._port).close()
            return
        try:  # the supervisor holds the socket as long as it runs, whatever becomes of its workers
            socket.create_connection((self._shown_host.strip("[]"), self._port), timeout=10).close()
        except ConnectionRefusedError as error:
            raise DeploymentError(
                f"the API that runs (process {running}) listens on another address than {self.endpoint().url}",
                where="HEALTH_PIPELINE_SERVING__PORT, HEALTH_PIPELINE_SERVING__HOST",
                remedy=f"changed while it ran? Set them back, or end it (kill {running}): deploying starts it again",
            ) from error
        if wants_another_token(self.endpoint()):
            raise DeploymentError(
                f"the API that runs (process {running}) was started with another token",
                where=f"HEALTH_PIPELINE_SERVING__TOKEN or {self._places.token}",
                remedy=f"changed while it ran? Set it back, or end it (kill {running}): deploying starts it again",
            )

    def build(self, release: Release) -> Package:
        """The packed folder is the package."""
        folder = self.build_root / release.release_id
        found = read_release(folder)
        if found.digest != release.digest:
            raise DeploymentError("the packed release is not the one asked for", where=str(folder))
        return Package(found, str(folder), found.digest)

    @contextlib.contextmanager
    def trial(self, package: Package) -> Iterator[Endpoint]:
        """A process of its own, on a free port, with a home of its own."""
        with tempfile.TemporaryDirectory(prefix="trial-") as scratch, bind("127.0.0.1", 0) as sock:
            token = secrets.token_urlsafe(32)
            output = Path(scratch) / "api.log"
            with output.open("wb") as log:
                number, parent = str(sock.fileno()), str(os.getpid())
                words = ["--worker", "--release", package.reference, "--fd", number, "--parent", parent]
                process = subprocess.Popen(
                    [*self._command, *words],
                    pass_fds=[sock.fileno()],
                    env=self._environment(Path(scratch), token),
                    stdin=subprocess.DEVNULL,
                    stdout=log,
                    stderr=log,
                )
            endpoint = Endpoint(f"http://127.0.0.1:{sock.getsockname()[1]}", token)
            try:
                self._wait_for_trial(endpoint, process, output)
                yield endpoint
            finally:
                _end(process)

    def _wait_for_trial(self, endpoint: Endpoint, process: subprocess.Popen[bytes], output: Path) -> None:
        seconds = self._settings.deployment.start_timeout_seconds
        try:
            wait_ready(endpoint, seconds, lambda: process.poll() is None)
        except DeploymentError as error:
            raise DeploymentError(f"{error.what}; it printed: {_tail(output)}", where=error.where) from error

    def publish(self, package: Package) -> Package:
        """Copy the folder to the releases of the home, under its final name only when it is whole."""
        release = package.release
        destination = self._places.releases / release.release_id
        if destination.is_dir():
            with contextlib.suppress(DeploymentError):
                if read_release(destination).digest == release.digest:
                    return Package(release, str(destination), release.digest)
            shutil.rmtree(destination)
        draft = self._places.releases / f".{release.release_id}.{uuid.uuid4().hex}"
        try:
            shutil.copytree(package.reference, draft)
            if read_release(draft).digest != release.digest:
                raise DeploymentError("the published release has another digest", where=str(draft))
            sync_tree(draft)
            draft.rename(destination)
            sync(destination.parent)
        except OSError as error:
            raise DeploymentError(
                f"the release cannot be published: {error.strerror}", where=str(destination), remedy="mend the disk"
            ) from error
        finally:
            shutil.rmtree(draft, ignore_errors=True)
        return Package(release, str(destination), release.digest)

    def shift(self, package: Package, weight: float) -> None:
        """Write the manifest and wait until the API has taken it over; a package that cannot start never gets there."""
        traffic = self._traffic()
        new = Route(package.release.release_id, package.release.digest, weight)
        control = None
        if traffic is not None:
            control = traffic.fallback or traffic.routes[0]
            if control.release_id == new.release_id:
                control = None
        if traffic is None or new.release_id not in traffic.releases:
            with self.trial(package):  # a model that kills its process must do so here
                pass
        if control is None:
            self._switch((Route(new.release_id, new.digest, 1.0),))
        elif weight >= 1:
            self._switch((new,), fallback=Route(control.release_id, control.digest, 1.0))
        else:
            old = Route(control.release_id, control.digest, 1.0)
            self._switch((Route(old.release_id, old.digest, 1.0 - weight), new), fallback=old)

    def settle(self, package: Package) -> None:
        """Drop the fallback."""
        self._switch((Route(package.release.release_id, package.release.digest, 1.0),))

    def restore(self, release_id: str | None) -> None:
        """Give all traffic to a release folder of the home; ``None`` takes the manifest away."""
        if release_id is None:
            self._places.traffic.unlink(missing_ok=True)
            return
        release = read_release(self._places.releases / release_id)
        self._switch((Route(release.release_id, release.digest, 1.0),))

    def serving(self) -> Serving | None:
        """What the API says; it is started when it should run and does not."""
        if self._traffic() is None:
            return None
        self.start()
        with ApiClient(self.endpoint()) as client:
            return client.serving()

    def releases(self) -> Sequence[str]:
        """Release folders, newest first."""
        if not self._places.releases.is_dir():
            return []
        folders = [path for path in self._places.releases.iterdir() if (path / MANIFEST).is_file()]
        folders = [path for path in folders if not path.name.startswith(".")]
        return [path.name for path in sorted(folders, key=lambda path: path.stat().st_mtime_ns, reverse=True)]

    def endpoint(self) -> Endpoint:
        """Address and token of this environment's API."""
        return Endpoint(f"http://{self._shown_host}:{self._port}", resolve_token(self._settings, self._places))

    @property
    def _shown_host(self) -> str:
        host = self._settings.serving.host
        shown = {"0.0.0.0": "127.0.0.1", "::": "::1"}.get(host, host)
        return f"[{shown}]" if ":" in shown else shown

    def watched(self, package: Package) -> Sequence[Endpoint]:
        """The one process: it holds all releases, and answers from the one that a request is pinned to."""
        del package
        return [self.endpoint()]

    def digests(self) -> frozenset[str] | None:
        """None: the release's own digest, which the API reports, is the package's."""
        return None

    def counters(self) -> Mapping[str, Any] | None:
        """Counters of the API by release id."""
        with ApiClient(self.endpoint()) as client:
            reply = client.ask("GET", "/v1/traffic")
        if not reply.is_ok:
            raise DeploymentError(f"the API does not show its counters (status {reply.status})")
        counters: Mapping[str, Any] = reply.body["counters"]
        return counters

    # The process -------------------------------------------------------------------------------------------------

    def start(self) -> None:
        """Start the supervised API unless it runs; return when it is ready.

        Raises:
            DeploymentError: it does not start, or is not ready in time.
        """
        if self._supervisor() is None:
            self._places.output.parent.mkdir(parents=True, exist_ok=True)
            with self._places.output.open("ab") as output:
                started = subprocess.run(
                    [*self._command, "--daemon", "--environment", self.environment, "--port", str(self._port)],
                    env=self._environment(self._settings.home, resolve_token(self._settings, self._places)),
                    stdin=subprocess.DEVNULL,
                    stdout=output,
                    stderr=output,
                    check=False,
                )
            if started.returncode != 0 and self._supervisor() is None:
                raise DeploymentError(
                    f"the API did not start: {_tail(self._places.output)}",
                    where=str(self._places.output),
                    remedy="see the log, then deploy again",
                )
        wait_ready(self.endpoint(), self._settings.deployment.start_timeout_seconds)

    def stop(self) -> None:
        """Stop the API of this environment, after its open requests."""
        pid = self._supervisor()
        if pid is None:
            return
        os.kill(pid, signal.SIGTERM)
        end = time.monotonic() + self._settings.serving.timeout_seconds + 10
        while self._supervisor() is not None:
            if time.monotonic() > end:
                raise DeploymentError("the API did not stop in time", where=f"process {pid}")
            time.sleep(0.05)

    def _supervisor(self) -> int | None:
        """Process id of the running supervisor: whoever holds the lock."""
        try:
            with self._places.lock.open("r+") as lock:
                try:
                    # Shared: two who look at once must not take each other for the supervisor.
                    fcntl.flock(lock, fcntl.LOCK_SH | fcntl.LOCK_NB)
                except OSError:
                    content = lock.read().strip()
                    return int(content) if content.isdigit() else 0
        except FileNotFoundError:
            pass
        return None

    def _traffic(self) -> Traffic | None:
        return read_traffic(self._places.traffic)

    def _switch(self, routes: tuple[Route, ...], fallback: Route | None = None) -> None:
        try:
            before = self._traffic()
        except DeploymentError:
            before = None  # a damaged manifest is replaced
        generation = max(before.generation if before is not None else 0, self._generation()) + 1
        write_traffic(self._places.traffic, Traffic(generation=generation, routes=routes, fallback=fallback))
        try:
            self.start()
            self._wait_for(generation)
        except DeploymentError:
            if before is not None:
                write_traffic(
                    self._places.traffic,
                    Traffic(
                        generation=generation + 1,
                        routes=before.routes,
                        fallback=before.fallback,
                        shadow=before.shadow,
                    ),
                )
            else:
                self._places.traffic.unlink(missing_ok=True)
            raise

    def _generation(self) -> int:
        if self._supervisor() is None:
            return 0
        with ApiClient(self.endpoint(), timeout=2.0) as client:
            reply = client.ask("GET", "/v1/traffic")
        return int(reply.body["generation"]) if reply.is_ok else 0

    def _wait_for(self, generation: int) -> None:
        end = time.monotonic() + SWITCH_SECONDS
        reached: Any = None
        with ApiClient(self.endpoint()) as client:
            while time.monotonic() < end:
                reply = client.ask("GET", "/v1/traffic")
                if reply.status:
                    reached = reply.body.get("generation") if isinstance(reply.body, dict) else None
                    if reached == generation:
                        return
                    rejected = reply.body.get("rejected") if isinstance(reply.body, dict) else None
                    if rejected is not None and rejected["generation"] == generation:
                        raise DeploymentError(f"the API refused the release: {rejected['reason']}")
                time.sleep(0.02)
        raise DeploymentError(
            f"the API serves generation {reached} of its traffic, not {generation}", where=str(self._places.traffic)
        )

    def _environment(self, home: Path, token: str | None) -> dict[str, str]:
        """Environment of the API process: these settings, whatever the caller's environment says."""
        kept = {name: value for name, value in os.environ.items() if not name.startswith(f"{PREFIX}SERVING")}
        serving = self._settings.serving.model_dump(mode="json", exclude={"token"})
        key = self._settings.privacy.pseudonym_key
        if key is not None:
            kept[f"{PREFIX}PRIVACY__PSEUDONYM_KEY"] = key.get_secret_value()
        return {
            **kept,
            f"{PREFIX}HOME": str(home.resolve()),
            f"{PREFIX}SERVING": json.dumps({**serving, "token": token}),
        }


def _tail(path: Path, characters: int = 400) -> str:
    text = path.read_text(errors="replace").strip() if path.is_file() else ""
    return text[-characters:] or "nothing"


def _end(process: subprocess.Popen[bytes]) -> None:
    process.terminate()
    try:
        process.wait(timeout=15)
    except subprocess.TimeoutExpired:
        process.kill()
        process.wait()
