"""Where the API of an environment keeps its files, and where it listens."""

from __future__ import annotations

import socket
from dataclasses import dataclass
from pathlib import Path

from health_pipeline.errors import DeploymentError
from health_pipeline.serving.auth import token_file
from health_pipeline.settings import Settings

BACKLOG = 2048


@dataclass(frozen=True)
class Places:
    """Files of one environment's API below the home.

    Attributes:
        releases: release folders, shared by all environments.
        traffic: the manifest that switches.
        predictions: the prediction log.
        token: generated token, where the settings name none.
        output: what the process prints.
        lock: held by the supervisor.
    """

    releases: Path
    traffic: Path
    predictions: Path
    token: Path
    output: Path
    lock: Path

    @classmethod
    def of(cls, home: Path, environment: str) -> Places:
        """Places of an environment."""
        folder = home.resolve() / "serving" / environment
        return cls(
            releases=home.resolve() / "releases",
            traffic=folder / "traffic.json",
            predictions=folder / "predictions",
            token=home.resolve() / "serving" / "token",
            output=folder / "api.log",
            lock=folder / "supervisor.lock",
        )


def resolve_token(settings: Settings, places: Places) -> str | None:
    """The bearer token in force: the setting, the generated one, or none where the API is opened."""
    if settings.serving.token is not None:
        return settings.serving.token.get_secret_value()
    return None if settings.serving.open_on_loopback else token_file(places.token)


def bind(host: str, port: int) -> socket.socket:
    """A listening socket.

    Raises:
        DeploymentError: the address is taken or not ours.
    """
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    sock = socket.socket(family, socket.SOCK_STREAM)
    sock.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
    try:
        sock.bind((host, port))
    except OSError as error:
        sock.close()
        raise DeploymentError(
            f"cannot listen on {host}:{port}: {error.strerror}",
            where="HEALTH_PIPELINE_SERVING__PORT",
            remedy="stop what listens there, or choose another port",
        ) from error
    sock.listen(BACKLOG)
    sock.set_inheritable(True)
    return sock
