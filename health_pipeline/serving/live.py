"""What is loaded: releases in memory and the immutable state that requests read."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Protocol

from health_pipeline.serving.counters import ReleaseCounters
from health_pipeline.serving.release import Release
from health_pipeline.serving.schema import Feature, RequestSchema, Values
from health_pipeline.serving.traffic import Router, Traffic


class Scorer(Protocol):
    """Turns feature values (in the order of ``features``) into probabilities."""

    @property
    def features(self) -> Sequence[Feature]:
        """Inputs, in the order of the values."""
        ...

    @property
    def is_explainable(self) -> bool:
        """Whether contributions can be given."""
        ...

    def probability(self, values: Values) -> float:
        """Probability of one record."""
        ...

    def probabilities(self, rows: Sequence[Values]) -> Sequence[float]:
        """Probabilities of many records."""
        ...

    def contributions(self, values: Values) -> Mapping[str, float]:
        """Additive contributions in log-odds per feature, and ``bias``."""
        ...


@dataclass(slots=True)
class Loaded:
    """A release in memory.

    Attributes:
        columns: positions of its features in the request schema; None: all, in that order.
        asked: features of the request schema, which its rows consist of.
    """

    release: Release
    scorer: Scorer
    counters: ReleaseCounters
    columns: tuple[int, ...] | None = None
    asked: tuple[Feature, ...] = ()

    def wanted(self, rows: Sequence[Values]) -> Sequence[Values]:
        """The values this release wants, out of those of the request schema."""
        columns = self.columns
        return rows if columns is None else [tuple(values[column] for column in columns) for values in rows]

    def probabilities(self, rows: Sequence[Values]) -> Sequence[float]:
        """Probabilities of rows of the request schema.

        Raises:
            Exception: whatever the model does wrong; ``ArithmeticError`` when what it gives is no probability.
        """
        rows = self.wanted(rows)
        if len(rows) == 1:
            return (checked(self.scorer.probability(rows[0])),)
        probabilities = [checked(probability) for probability in self.scorer.probabilities(rows)]
        if len(probabilities) != len(rows):
            raise ArithmeticError("number of probabilities")
        return probabilities


@dataclass(frozen=True, slots=True)
class Live:
    """Everything a request needs; never changed after it was made."""

    traffic: Traffic
    router: Router
    schema: RequestSchema
    loaded: Mapping[str, Loaded]
    only: Loaded | None
    fallback: Loaded | None
    shadow: Loaded | None


def checked(probability: float) -> float:
    """The probability, if it is one."""
    if not 0.0 <= probability <= 1.0:
        raise ArithmeticError("probability outside [0, 1]" if math.isfinite(probability) else "probability not finite")
    return probability
