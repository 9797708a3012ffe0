"""Measures of a risk model as functions of row weights: many weight vectors are measured in one pass.

Rows are sorted once by score; after that every measure is a few sums over memory, which is what makes bootstrap
intervals affordable. The public functions are in :mod:`health_pipeline.modeling.metrics`.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import cached_property
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

from health_pipeline.modeling.calibration import fit_logistic

Floats = NDArray[np.float64]
Weights = NDArray[Any]
"""Single or double precision, shape (replicates, rows), rows in the order of :class:`RankedRows`."""

METRICS = (
    "accuracy",
    "precision",
    "recall",
    "f1",
    "roc_auc",
    "average_precision",
    "brier",
    "log_loss",
    "calibration_slope",
    "calibration_intercept",
    "ece",
    "observed_expected",
    "top_decile_precision",
    "top_decile_lift",
)
"""Names of all measures. ``ece`` uses ten groups of equal size; ``observed_expected`` is the ratio of counts."""

LOWER_IS_BETTER = frozenset({"brier", "log_loss", "ece"})
"""Measures of which a smaller value is better; of the others a larger one, or one near a target."""

_EPSILON = 1e-15
_CALIBRATION_BINS = 10
_TOP_SHARE = 0.1


class RankedRows:
    """Rows sorted by descending score with everything measures need, ready to be weighted.

    Args:
        y: outcome, 0 or 1, shape (rows,).
        p: score, shape (rows,).
        threshold: score from which a row is called positive; one for all rows, or shape (rows,).

    Raises:
        ValueError: no rows, or vectors of different lengths.
    """

    def __init__(self, y: ArrayLike, p: ArrayLike, threshold: ArrayLike) -> None:
        outcome = np.asarray(y, dtype=np.float64)
        score = np.asarray(p, dtype=np.float64)
        if outcome.shape != score.shape or outcome.ndim != 1:
            raise ValueError("y and p must be vectors of the same length")
        if outcome.size == 0:
            raise ValueError("no rows to measure")
        self.order = np.argsort(-score, kind="stable")
        self.y, self.p = outcome[self.order], score[self.order]
        self.threshold = np.broadcast_to(np.asarray(threshold, dtype=np.float64), score.shape)[self.order]
        starts = np.flatnonzero(np.r_[True, self.p[1:] != self.p[:-1]])
        self.tie_starts: NDArray[np.intp] | None = starts if starts.size < self.p.size else None

    @cached_property
    def _clipped(self) -> Floats:
        return np.clip(self.p, _EPSILON, 1 - _EPSILON)

    @cached_property
    def logit(self) -> Floats:
        """Log-odds of the score."""
        return np.asarray(np.log(self._clipped / (1 - self._clipped)))

    @cached_property
    def log_loss(self) -> Floats:
        """Loss of each row."""
        return np.asarray(-(self.y * np.log(self._clipped) + (1 - self.y) * np.log1p(-self._clipped)))

    @cached_property
    def predicted(self) -> Floats:
        """1.0 where the score calls a positive."""
        return (self.p >= self.threshold).astype(np.float64)

    @cached_property
    def positive(self) -> NDArray[np.float32]:
        """The outcome in single precision."""
        return self.y.astype(np.float32)

    @property
    def size(self) -> int:
        """Number of rows."""
        return int(self.y.size)


def _one(rows: RankedRows) -> Floats:
    return np.ones_like(rows.y)


_RATIOS: dict[str, tuple[Callable[[RankedRows], Floats], Callable[[RankedRows], Floats]]] = {
    "accuracy": (lambda rows: rows.predicted * rows.y + (1 - rows.predicted) * (1 - rows.y), _one),
    "precision": (lambda rows: rows.predicted * rows.y, lambda rows: rows.predicted),
    "recall": (lambda rows: rows.predicted * rows.y, lambda rows: rows.y),
    "f1": (lambda rows: 2 * rows.predicted * rows.y, lambda rows: rows.predicted + rows.y),
    "brier": (lambda rows: (rows.p - rows.y) ** 2, _one),
    "log_loss": (lambda rows: rows.log_loss, _one),
    "observed_expected": (lambda rows: rows.y, lambda rows: rows.p),
}
"""Measures that are a ratio of two weighted sums: numerator and denominator of each row."""


def _sums(weights: Weights, columns: Floats) -> Floats:
    """Weighted sums of columns, shape (replicates, k), in the precision of the weights."""
    return np.asarray(weights @ columns.astype(weights.dtype, copy=False), dtype=np.float64)


def _ratio(top: Floats, bottom: Floats) -> Floats:
    with np.errstate(invalid="ignore", divide="ignore"):
        return np.where(bottom > 0, top / bottom, np.nan)


def _roc_auc(weights: Weights, rows: RankedRows) -> Floats:
    """Probability that a positive ranks above a negative, ties counting half (Mann-Whitney)."""
    positives = weights * rows.positive
    negatives = weights - positives
    if rows.tie_starts is not None:
        positives = np.add.reduceat(positives, rows.tie_starts, axis=1)
        negatives = np.add.reduceat(negatives, rows.tie_starts, axis=1)
    above = np.cumsum(positives, axis=1)
    wins = np.einsum("ij,ij->i", above - positives / 2, negatives, dtype=np.float64)
    total = positives.sum(axis=1, dtype=np.float64) * negatives.sum(axis=1, dtype=np.float64)
    return _ratio(wins, total)


def _average_precision(weights: Weights, rows: RankedRows) -> Floats:
    """Mean of the precision at each rank, weighted by the positives found there."""
    positives = weights * rows.positive
    drawn = weights
    if rows.tie_starts is not None:
        positives = np.add.reduceat(positives, rows.tie_starts, axis=1)
        drawn = np.add.reduceat(drawn, rows.tie_starts, axis=1)
    found = np.cumsum(positives, axis=1)
    seen = np.maximum(np.cumsum(drawn, axis=1), 1)
    total = np.einsum("ij,ij->i", positives, found / seen, dtype=np.float64)
    return _ratio(total, positives.sum(axis=1, dtype=np.float64))


def _top_decile(weights: Weights, rows: RankedRows, *, lift: bool) -> Floats:
    """Share of positives among the tenth of the rows that rank highest; rows of one score count alike at the cut."""
    positives, drawn = weights * rows.positive, weights
    if rows.tie_starts is not None:
        positives = np.add.reduceat(positives, rows.tie_starts, axis=1)
        drawn = np.add.reduceat(drawn, rows.tie_starts, axis=1)
    seen = np.cumsum(drawn, axis=1)
    wanted = seen[:, -1:] * weights.dtype.type(_TOP_SHARE)
    taken = np.clip(wanted - (seen - drawn), 0, drawn)
    share = np.divide(positives, drawn, out=np.zeros_like(positives), where=drawn > 0)
    precision = _ratio(np.einsum("ij,ij->i", taken, share, dtype=np.float64), taken.sum(axis=1, dtype=np.float64))
    if not lift:
        return precision
    return _ratio(precision, positives.sum(axis=1, dtype=np.float64) / seen[:, -1].astype(np.float64))


def _expected_calibration_error(weights: Weights, rows: RankedRows) -> Floats:
    """Weighted mean distance of observed and predicted rates over groups of equal size."""
    starts = np.unique(np.linspace(0, rows.size, _CALIBRATION_BINS, endpoint=False).astype(np.intp))
    gaps = np.add.reduceat(weights * (rows.y - rows.p).astype(weights.dtype), starts, axis=1, dtype=np.float64)
    return _ratio(np.abs(gaps).sum(axis=1), weights.sum(axis=1, dtype=np.float64))


class _Recalibration:
    """Slope (or intercept at slope one) of the outcome on the logit.

    Replicates take one Newton step from the estimate on all rows, the one-step bootstrap (Moulton and Zeger,
    Computational Statistics & Data Analysis 1991), whose sums are linear in the weights.
    """

    def __init__(self, rows: RankedRows, *, slope: bool) -> None:
        one = np.ones_like(rows.y)
        design = np.column_stack([one, rows.logit]) if slope else one[:, None]
        offset = np.zeros_like(rows.y) if slope else rows.logit
        self.slope = slope
        self.beta = fit_logistic(design, rows.y, offset=offset)
        mean = 1 / (1 + np.exp(-(design @ np.nan_to_num(self.beta) + offset)))
        variance = mean * (1 - mean)
        gradient = design * (rows.y - mean)[:, None]
        products = [variance, variance * rows.logit, variance * rows.logit**2] if slope else [variance]
        self.columns = np.column_stack([gradient, *products])

    def __call__(self, sums: Floats) -> Floats:
        if np.isnan(self.beta).any():
            return np.full(sums.shape[0], np.nan)
        if not self.slope:
            return np.asarray(self.beta[0] + _ratio(sums[:, 0], sums[:, 1]))
        g0, g1, h00, h01, h11 = sums.T
        return np.asarray(self.beta[1] + _ratio(h00 * g1 - h01 * g0, h00 * h11 - h01**2))


WeightedMeasure = Callable[[Weights], Floats]


def weighted_measure(name: str, rows: RankedRows) -> WeightedMeasure:
    """The measure as a function of weights, shape (replicates, rows) -> (replicates,)."""
    if name in _RATIOS:
        columns = np.column_stack([part(rows) for part in _RATIOS[name]])
        return lambda weights: _ratio(*_sums(weights, columns).T)
    if name in {"calibration_slope", "calibration_intercept"}:
        recalibration = _Recalibration(rows, slope=name == "calibration_slope")
        return lambda weights: recalibration(_sums(weights, recalibration.columns))
    functions: dict[str, WeightedMeasure] = {
        "roc_auc": lambda weights: _roc_auc(weights, rows),
        "average_precision": lambda weights: _average_precision(weights, rows),
        "top_decile_precision": lambda weights: _top_decile(weights, rows, lift=False),
        "top_decile_lift": lambda weights: _top_decile(weights, rows, lift=True),
        "ece": lambda weights: _expected_calibration_error(weights, rows),
    }
    if name not in functions:
        raise ValueError(f"unknown metric {name!r}; known: {', '.join(METRICS)}")
    return functions[name]
