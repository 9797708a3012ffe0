"""Scorers: a bundle compiled for the request path, one record at a time in microseconds.

They give what :class:`health_pipeline.modeling.bundle.Bundle` gives (a test holds them together): the same encodings
and the same ONNX graph, without building Arrow tables. Explanations of trees need XGBoost's library, which is
loaded on the first request for them.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from health_pipeline.modeling.boosters import Booster
from health_pipeline.modeling.bundle import Bundle, Linear, Member, Trees, load_bundle
from health_pipeline.serving.compiled import compile_encoding, compile_margin, compile_row
from health_pipeline.serving.release import BUNDLE, Release
from health_pipeline.serving.schema import Feature, Values

_KINDS: dict[str, Any] = {"numeric": "number", "boolean": "boolean", "categorical": "category"}


def load_scorer(folder: Path, release: Release) -> BundleScorer:
    """The scorer of a release folder.

    Raises:
        ModelError: the bundle is missing, damaged, or not the one training recorded.
    """
    return BundleScorer(load_bundle(folder / BUNDLE, release.facts.bundle_hash))


class _LinearMember:
    """A linear model: its margin by one written out function, contributions feature by feature."""

    def __init__(self, member: Member, predictor: Linear, positions: Mapping[str, int]) -> None:
        self.margin = compile_margin(member.encodings, positions, predictor.coefficients, predictor.intercept)
        self._intercept, self._coefficients = predictor.intercept, predictor.coefficients
        self._encoders = [(positions[item.feature], compile_encoding(item)) for item in member.encodings]

    def margins(self, rows: Sequence[Values]) -> Sequence[float]:
        return list(map(self.margin, rows))

    def contributions(self, values: Values) -> tuple[float, dict[int, float]]:
        parts: dict[int, float] = {}
        coefficients = iter(self._coefficients)
        for position, encode in self._encoders:
            share = math.fsum(column * next(coefficients) for column in encode(values[position]))
            parts[position] = parts.get(position, 0.0) + share
        return self._intercept, parts


class _TreeMember:
    """An ONNX session, fed with one row or many."""

    def __init__(self, member: Member, predictor: Trees, positions: Mapping[str, int]) -> None:
        self._row = compile_row(member.encodings, positions)
        self._owners = [positions[encoding.feature] for encoding in member.encodings for _ in encoding.columns]
        self._shape = (-1, len(self._owners))
        self._predictor = predictor
        self._boosters: list[Booster] | None = None

    def matrix(self, rows: Sequence[Values]) -> NDArray[np.float32]:
        return np.frombuffer(b"".join(map(self._row, rows)), dtype=np.float32).reshape(self._shape)

    def margin(self, values: Values) -> float:
        return self._predictor.margin(np.frombuffer(self._row(values), dtype=np.float32).reshape(self._shape))

    def margins(self, rows: Sequence[Values]) -> Sequence[float]:
        result: list[float] = self._predictor.margins(self.matrix(rows)).tolist()
        return result

    def contributions(self, values: Values) -> tuple[float, dict[int, float]]:
        if self._boosters is None:
            self._boosters = [Booster(content) for content in self._predictor.boosters]
        row = self.matrix([values])
        parts: dict[int, float] = {}
        bias = 0.0
        for booster in self._boosters:
            shap = booster.contributions(row)[0] / len(self._boosters)
            bias += float(shap[-1])
            for position, part in zip(self._owners, shap[:-1].tolist(), strict=True):
                parts[position] = parts.get(position, 0.0) + part
        return bias, parts


class BundleScorer:
    """Scores and explains with every member of a bundle.

    Args:
        bundle: loaded from its folder.
    """

    def __init__(self, bundle: Bundle) -> None:
        self.features = tuple(
            Feature(feature.name, _KINDS[feature.kind], feature.categories) for feature in bundle.features
        )
        positions = {feature.name: index for index, feature in enumerate(bundle.features)}
        self._members = [(member.weight, _member(member, positions)) for member in bundle.members]
        self._slope, self._intercept = bundle.calibration.slope, bundle.calibration.intercept
        self.is_explainable = all(
            not isinstance(member.predictor, Trees) or bool(member.predictor.boosters) for member in bundle.members
        )

    def _probability(self, margin: float) -> float:
        logit = self._intercept + self._slope * margin
        if logit != logit:  # noqa: PLR0124  (NaN)
            return logit
        return 1.0 / (1.0 + math.exp(-min(max(logit, -35.0), 35.0)))

    def probability(self, values: Values) -> float:
        """Calibrated probability of one record."""
        margin = 0.0
        for weight, member in self._members:
            margin += weight * member.margin(values)
        return self._probability(margin)

    def probabilities(self, rows: Sequence[Values]) -> Sequence[float]:
        """Calibrated probabilities of many records."""
        totals = [0.0] * len(rows)
        for weight, member in self._members:
            for index, margin in enumerate(member.margins(rows)):
                totals[index] += weight * margin
        return [self._probability(total) for total in totals]

    def contributions(self, values: Values) -> Mapping[str, float]:
        """Contributions to the calibrated log-odds; with ``bias`` they add up to it."""
        bias = 0.0
        parts = [0.0] * len(self.features)
        for weight, member in self._members:
            member_bias, member_parts = member.contributions(values)
            bias += weight * member_bias
            for position, part in member_parts.items():
                parts[position] += weight * part
        named = {feature.name: self._slope * part for feature, part in zip(self.features, parts, strict=True)}
        return {"bias": self._intercept + self._slope * bias, **named}


def _member(member: Member, positions: Mapping[str, int]) -> _LinearMember | _TreeMember:
    if isinstance(member.predictor, Linear):
        return _LinearMember(member, member.predictor, positions)
    if isinstance(member.predictor, Trees):
        return _TreeMember(member, member.predictor, positions)
    raise TypeError(f"no scorer for predictor {type(member.predictor).__name__}")
