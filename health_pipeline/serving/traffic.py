"""Traffic manifest: which releases answer, with what weight, which one is scored in the shadow.

One JSON file, replaced atomically: it is the switch. The API watches it, loads what is new, and then takes it over
between two requests, so a switch or a rollback loses none.
"""

from __future__ import annotations

import hashlib
from pathlib import Path

import msgspec

from health_pipeline.durable import write_atomically
from health_pipeline.errors import DeploymentError


class Route(msgspec.Struct, frozen=True):
    """A release and its share of the traffic."""

    release_id: str
    digest: str
    weight: float


class Traffic(msgspec.Struct, frozen=True, kw_only=True):
    """Content of the traffic manifest.

    Attributes:
        generation: grows with every change; the API reports the one it has taken over.
        routes: releases that answer; the first is the control. Weights need not sum to one.
        fallback: release that answers when the chosen one fails on a request.
        shadow: release that is scored and logged, but never answers.
    """

    generation: int
    routes: tuple[Route, ...]
    fallback: Route | None = None
    shadow: Route | None = None

    def __post_init__(self) -> None:
        if not self.routes:
            raise ValueError("traffic needs at least one route")
        if any(not route.weight >= 0 for route in self.routes) or sum(route.weight for route in self.routes) <= 0:
            raise ValueError("weights must not be negative, nor all zero")
        if len({route.release_id for route in self.routes}) != len(self.routes):
            raise ValueError("a release has two routes")

    @property
    def releases(self) -> dict[str, str]:
        """Every release named here: id to digest."""
        extra = [route for route in (self.fallback, self.shadow) if route is not None]
        return {route.release_id: route.digest for route in (*self.routes, *extra)}


class Router:
    """Picks a release for a patient: the same patient always meets the same release while weights stand.

    A patient keeps the release also when a canary's weight grows: its share grows at one end of the hash range.
    """

    def __init__(self, traffic: Traffic) -> None:
        total = sum(route.weight for route in traffic.routes)
        # Challengers fill the range from its low end, the control takes the rest.
        self._bounds: list[tuple[float, str]] = []
        reached = 0.0
        for route in traffic.routes[1:]:
            reached += route.weight / total
            self._bounds.append((reached, route.release_id))
        self._control = traffic.routes[0].release_id

    @property
    def only(self) -> str | None:
        """The release that answers everything, when there is just one."""
        return None if self._bounds else self._control

    def pick(self, sticky: bytes) -> str:
        """Release for a sticky key (patient id, or the features when there is none)."""
        point = int.from_bytes(hashlib.blake2b(sticky, digest_size=8, person=b"traffic").digest(), "big") / 2**64
        for bound, release_id in self._bounds:
            if point < bound:
                return release_id
        return self._control


def read_traffic(path: Path) -> Traffic | None:
    """The manifest, or ``None`` when nothing was ever released.

    Raises:
        DeploymentError: the file is damaged.
    """
    try:
        return msgspec.json.decode(path.read_bytes(), type=Traffic)
    except FileNotFoundError:
        return None
    except (msgspec.MsgspecError, OSError) as error:
        raise DeploymentError(
            f"the traffic manifest cannot be read: {error}", where=str(path), remedy="roll back to a release by name"
        ) from error


def write_traffic(path: Path, traffic: Traffic) -> None:
    """Replace the manifest atomically.

    Raises:
        DeploymentError: the disk refuses; the manifest is as it was.
    """
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        write_atomically(path, msgspec.json.format(msgspec.json.encode(traffic), indent=2))
    except OSError as error:
        raise DeploymentError(
            f"the traffic manifest cannot be written: {error.strerror}",
            where=str(path),
            remedy="make room, or mend permissions",
        ) from error
