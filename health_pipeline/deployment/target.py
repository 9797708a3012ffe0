"""The target: where a release is built, tried, published and put into traffic; the one interface to infrastructure."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from contextlib import AbstractContextManager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Protocol

from health_pipeline.serving.release import Release


@dataclass(frozen=True)
class Package:
    """A release in the form a target ships.

    Attributes:
        release: what it holds.
        reference: what the target calls it: a folder, or an image with its tag.
        digest: of that form; it is this digest that verification asks for.
    """

    release: Release
    reference: str
    digest: str


@dataclass(frozen=True)
class Endpoint:
    """Where an API answers.

    Attributes:
        url: ``http`` or ``https``; what the API's paths are appended to.
        token: bearer token, or ``None`` when the API is open.
    """

    url: str
    token: str | None = field(default=None, repr=False)


@dataclass(frozen=True)
class Serving:
    """What an endpoint really serves, as it says itself.

    Attributes:
        release: release id that answers by default.
        digest: its digest.
        model_id: its model.
        weights: share by release id.
    """

    release: str
    digest: str
    model_id: str
    weights: Mapping[str, float]


class Target(Protocol):
    """An infrastructure that serves releases in one environment.

    Every method either does what it says or raises :class:`DeploymentError`; what served before still serves then.
    """

    name: str
    environment: str
    build_root: Path

    def check(self) -> None:
        """Tools, credentials and servers are there; changes nothing."""
        ...

    def build(self, release: Release) -> Package:
        """Make the form that is shipped; the same release gives the same package."""
        ...

    def trial(self, package: Package) -> AbstractContextManager[Endpoint]:
        """Run a package by itself, away from all traffic."""
        ...

    def publish(self, package: Package) -> Package:
        """Put the package where the environment takes it from, and confirm its digest there."""
        ...

    def shift(self, package: Package, weight: float) -> None:
        """Give the package this share of the traffic (1.0: all), and return when it has it.

        The release that served before stays ready to answer until :meth:`settle`.
        """
        ...

    def settle(self, package: Package) -> None:
        """End the transition: the package serves alone."""
        ...

    def restore(self, release_id: str | None) -> None:
        """Give all traffic to a release that served before, and return when it has it; ``None``: nothing serves."""
        ...

    def serving(self) -> Serving | None:
        """What serves, asked of the endpoint itself; ``None`` when nothing was ever shipped."""
        ...

    def releases(self) -> Sequence[str]:
        """Release ids that :meth:`restore` can go back to, newest first."""
        ...

    def endpoint(self) -> Endpoint:
        """Where this environment answers."""
        ...

    def watched(self, package: Package) -> Sequence[Endpoint]:
        """Where requests pinned to the package are answered by it, also while another release has most traffic."""
        ...

    def digests(self) -> frozenset[str] | None:
        """Digests of the packages that run, as the infrastructure says; ``None`` where only the API can say it."""
        ...

    def counters(self) -> Mapping[str, Any] | None:
        """Requests and errors by release id since the processes started; ``None`` where the target has none."""
        ...
