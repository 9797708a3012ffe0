"""Scorers: a bundle compiled for the request path, one record at a time in microseconds.

They give what :class:`health_pipeline.modeling.bundle.Bundle` gives (a test holds them together): the same encodings
and the same ONNX graph, without building Arrow tables. Explanations of trees need XGBoost's library, which is
loaded on the first request for them.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from health_pipeline.modeling.bundle import Bundle, Linear, Member, Trees, load_bundle
from health_pipeline.modeling.encoding import Encoding
from health_pipeline.serving.boosters import Booster
from health_pipeline.serving.release import BUNDLE, Release
from health_pipeline.serving.schema import Feature, Value, Values

_KINDS: dict[str, Any] = {"numeric": "number", "boolean": "boolean", "categorical": "category"}
_NAN = math.nan

Encoder = Callable[[Any], Sequence[float]]


def load_scorer(folder: Path, release: Release) -> BundleScorer:
    """The scorer of a release folder.

    Raises:
        ModelError: the bundle is missing, damaged, or not the one training recorded.
    """
    return BundleScorer(load_bundle(folder / BUNDLE, release.facts.bundle_hash))


def compile_encoding(encoding: Encoding) -> Encoder:
    """A function from one value to the columns of ``encoding``."""
    if encoding.kind == "categorical":
        return _compile_categories(encoding)
    low, high = encoding.low, encoding.high
    impute = _NAN if encoding.impute is None else encoding.impute
    knots, logarithm, missing_column = encoding.knots, encoding.logarithm, encoding.missing_column
    missing = [impute, *(max(0.0, impute - knot) if impute == impute else _NAN for knot in knots)]  # noqa: PLR0124
    on_missing = tuple([*missing, 1.0] if missing_column else missing)
    if low is None and high is None and not logarithm and not knots and not missing_column:
        return lambda value: on_missing if value is None else (value,)

    def numeric(value: float | None) -> Sequence[float]:
        if value is None:
            return on_missing
        if low is not None and value < low:
            value = low
        if high is not None and value > high:
            value = high
        if logarithm:
            value = math.log1p(value) if value > 0 else 0.0
        columns = [value]
        for knot in knots:
            columns.append(value - knot if value > knot else 0.0)
        if missing_column:
            columns.append(0.0)
        return columns

    return numeric


def _compile_categories(encoding: Encoding) -> Encoder:
    width = len(encoding.columns)
    rare = len(encoding.categories) if encoding.rare_column else None
    missing = width - 1 if encoding.missing_column else rare

    def one_hot(position: int | None) -> tuple[float, ...]:
        return tuple(1.0 if index == position else 0.0 for index in range(width))

    table: dict[str | None, tuple[float, ...]] = {
        category: one_hot(index) for index, category in enumerate(encoding.categories)
    }
    table[None] = one_hot(missing)
    unseen = one_hot(rare)
    get = table.get
    return lambda value: get(value, unseen)


class _LinearMember:
    """Contribution of each feature to the margin, by a function of its value."""

    def __init__(self, member: Member, predictor: Linear, positions: Mapping[str, int]) -> None:
        self.intercept = predictor.intercept
        self.terms: list[tuple[int, Callable[[Any], float]]] = []
        start = 0
        for encoding in member.encodings:
            width = len(encoding.columns)
            weights = predictor.coefficients[start : start + width]
            self.terms.append((positions[encoding.feature], _term(encoding, weights)))
            start += width

    def margin(self, values: Values) -> float:
        total = self.intercept
        for position, term in self.terms:
            total += term(values[position])
        return total

    def margins(self, rows: Sequence[Values]) -> Sequence[float]:
        return [self.margin(values) for values in rows]

    def contributions(self, values: Values) -> tuple[float, dict[int, float]]:
        parts: dict[int, float] = {}
        for position, term in self.terms:
            parts[position] = parts.get(position, 0.0) + term(values[position])
        return self.intercept, parts


def _term(encoding: Encoding, weights: Sequence[float]) -> Callable[[Any], float]:
    encode = compile_encoding(encoding)
    if encoding.kind == "categorical":
        table: dict[Value, float] = {
            category: math.fsum(map(float.__mul__, encode(category), weights))
            for category in (*encoding.categories, None)
        }
        unseen = math.fsum(map(float.__mul__, encode(object()), weights))
        get = table.get
        return lambda value: get(value, unseen)
    if encoding.kind == "boolean":
        truth = {value: math.fsum(map(float.__mul__, map(float, encode(value)), weights)) for value in (0.0, 1.0, None)}
        return truth.__getitem__
    if len(weights) == 1:
        (weight,) = weights
        return lambda value: encode(value)[0] * weight

    def numeric(value: float | None) -> float:
        total = 0.0
        for column, weight in zip(encode(value), weights, strict=True):
            total += column * weight
        return total

    return numeric


class _TreeMember:
    """An ONNX session, fed with one row or many."""

    def __init__(self, member: Member, predictor: Trees, positions: Mapping[str, int]) -> None:
        self.encoders: list[tuple[int, Encoder]] = [
            (positions[encoding.feature], compile_encoding(encoding)) for encoding in member.encodings
        ]
        self.owners = [positions[encoding.feature] for encoding in member.encodings for _ in encoding.columns]
        self.predictor = predictor
        self._boosters: list[Booster] | None = None

    def row(self, values: Values) -> list[float]:
        columns: list[float] = []
        extend = columns.extend
        for position, encode in self.encoders:
            extend(encode(values[position]))
        return columns

    def matrix(self, rows: Sequence[Values]) -> NDArray[np.float32]:
        return np.array([self.row(values) for values in rows], dtype=np.float32)

    def margin(self, values: Values) -> float:
        return float(self.predictor.margins(np.array([self.row(values)], dtype=np.float32))[0])

    def margins(self, rows: Sequence[Values]) -> Sequence[float]:
        result: list[float] = self.predictor.margins(self.matrix(rows)).tolist()
        return result

    def contributions(self, values: Values) -> tuple[float, dict[int, float]]:
        if self._boosters is None:
            self._boosters = [Booster(content) for content in self.predictor.boosters]
        row = self.matrix([values])
        parts: dict[int, float] = {}
        bias = 0.0
        for booster in self._boosters:
            shap = booster.contributions(row)[0] / len(self._boosters)
            bias += float(shap[-1])
            for position, part in zip(self.owners, shap[:-1].tolist(), strict=True):
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
