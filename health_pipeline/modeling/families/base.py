"""What a model family must offer."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Protocol

import numpy as np
from numpy.typing import NDArray

from health_pipeline.modeling.bundle import Member
from health_pipeline.modeling.encoding import Feature, Inputs
from health_pipeline.modeling.profiles import Effort

Floats = NDArray[np.float64]
Parameters = Mapping[str, Any]

Observer = Callable[[int, float], None]
"""Told the validation loss after some rounds; may raise to end a hopeless trial."""


@dataclass(frozen=True)
class Sample:
    """Typed inputs with their outcome."""

    inputs: Inputs
    y: Floats


@dataclass(frozen=True)
class Fit:
    """A fitted family.

    Attributes:
        members: what goes into the bundle.
        margins: uncalibrated log-odds of the validation rows.
        loss: log loss of these margins.
        facts: JSON-able numbers about the fit, such as the rounds that early stopping kept.
        loss_curve: validation loss by round, where the family has rounds.
    """

    members: tuple[Member, ...]
    margins: Floats
    loss: float
    facts: Mapping[str, Any] = field(default_factory=dict)
    loss_curve: Sequence[float] = ()


class Prepared(Protocol):
    """A family with its data in place: many parameter sets are tried on it."""

    def fit(self, parameters: Parameters, seed: int, observer: Observer | None = None) -> Fit:
        """Fit on the training rows; the validation rows serve early stopping."""
        ...


class Family(Protocol):
    """A kind of model.

    Attributes:
        name: as in the settings and in ``models.<name>``.
        short: first part of its model ids.
        role: ``model_role`` of its predictions.
        defaults: parameters that serve without tuning.
    """

    @property
    def name(self) -> str: ...  # noqa: D102

    @property
    def short(self) -> str: ...  # noqa: D102

    @property
    def role(self) -> str: ...  # noqa: D102

    @property
    def defaults(self) -> Parameters: ...  # noqa: D102

    def suggest(self, trial: Any) -> dict[str, Any]:
        """Draw parameters from an Optuna trial."""
        ...

    def prepare(
        self, training: Sample, validation: Sample, features: Sequence[Feature], effort: Effort, threads: int
    ) -> Prepared:
        """Put the data in place."""
        ...


def log_loss_of(margins: Floats, y: Floats) -> float:
    """Mean log loss of log-odds."""
    return float(np.mean(np.logaddexp(0, margins) - y * margins))
