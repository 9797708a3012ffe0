"""Measures of a binary risk model, each a function of row weights, with patient-clustered bootstrap intervals.

Every measure is computed for many weight vectors at once: a row's weight is how often its patient was drawn, and
weights of one give the estimate itself.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import ArrayLike, NDArray

from health_pipeline.modeling.weighted import METRICS, Floats, RankedRows, Weights, weighted_measure

__all__ = ["METRICS", "Estimate", "PairedDifference", "measure", "measure_with_intervals", "paired_bootstrap"]

_CHUNK_CELLS = 1_000_000
_EXACT_IN_SINGLE = 2**24


@dataclass(frozen=True, slots=True)
class Estimate:
    """A measure with its interval; ``n`` counts rows. A measure that is undefined on the rows is NaN."""

    value: float
    ci_low: float
    ci_high: float
    n: int


@dataclass(frozen=True, slots=True)
class PairedDifference:
    """Difference of a measure, ``b`` minus ``a``, on the same rows and the same resampled patients.

    Attributes:
        value_a: measure of the first model.
        value_b: measure of the second model.
        difference: ``value_b - value_a``.
        ci_low: lower end of the two-sided percentile interval of the difference.
        ci_high: upper end of it.
        p_value: two-sided bootstrap p-value of "no difference" (twice the smaller tail, add-one corrected).
        n: rows.
        clusters: patients.
        replicates: differences of the single replicates, for other levels and tests.
    """

    value_a: float
    value_b: float
    difference: float
    ci_low: float
    ci_high: float
    p_value: float
    n: int
    clusters: int
    replicates: Floats


def _cluster_codes(clusters: ArrayLike | None, rows: int) -> tuple[NDArray[np.intp], int]:
    if clusters is None:
        return np.arange(rows), rows
    names, codes = np.unique(np.asarray(clusters), return_inverse=True)
    if codes.size != rows:
        raise ValueError("clusters must have one entry for each row")
    return codes.astype(np.intp), int(names.size)


def _draws(count: int, replicates: int, rows: int, seed: int) -> Iterator[Weights]:
    """Chunks of cluster weights, shape (<= chunk, clusters): how often each cluster was drawn."""
    random = np.random.default_rng(seed)
    precision = np.float32 if rows < _EXACT_IN_SINGLE else np.float64
    chunk = max(1, min(replicates, _CHUNK_CELLS // max(rows, 1)))
    for start in range(0, replicates, chunk):
        size = min(chunk, replicates - start)
        drawn = random.integers(0, count, size=(size, count)) + np.arange(size)[:, None] * count
        yield np.bincount(drawn.ravel(), minlength=size * count).reshape(size, count).astype(precision)


def measure(y: ArrayLike, p: ArrayLike, threshold: float = 0.5, metrics: Sequence[str] = METRICS) -> dict[str, float]:
    """Values of the measures.

    Args:
        y: outcome, 0 or 1, shape (rows,).
        p: probability, shape (rows,).
        threshold: probability from which a row is called positive.
        metrics: names from :data:`METRICS`.

    Returns:
        Value by name; NaN where a measure is undefined (one class only, nothing called positive).
    """
    rows = RankedRows(y, p, threshold)
    ones = np.ones((1, rows.size))
    return {name: float(weighted_measure(name, rows)(ones)[0]) for name in metrics}


def measure_with_intervals(
    y: ArrayLike,
    p: ArrayLike,
    *,
    threshold: float = 0.5,
    clusters: ArrayLike | None = None,
    metrics: Sequence[str] = METRICS,
    replicates: int = 1000,
    seed: int = 0,
    level: float = 0.95,
) -> dict[str, Estimate]:
    """Values with percentile intervals from resampling whole patients.

    Args:
        y: outcome, 0 or 1, shape (rows,).
        p: probability, shape (rows,).
        threshold: probability from which a row is called positive.
        clusters: patient of each row; None takes every row for a patient of its own.
        metrics: names from :data:`METRICS`.
        replicates: resamples.
        seed: the same seed gives the same interval.
        level: coverage of the interval.
    """
    rows = RankedRows(y, p, threshold)
    codes, count = _cluster_codes(clusters, rows.size)
    functions = {name: weighted_measure(name, rows) for name in metrics}
    ones = np.ones((1, rows.size))
    values = {name: float(function(ones)[0]) for name, function in functions.items()}
    resampled: dict[str, list[Floats]] = {name: [] for name in metrics}
    sorted_codes = codes[rows.order]
    for drawn in _draws(count, replicates, rows.size, seed):
        weights = drawn[:, sorted_codes]
        for name, function in functions.items():
            resampled[name].append(function(weights))
    estimates = {}
    for name in metrics:
        low, high = _interval(np.concatenate(resampled[name]), level)
        estimates[name] = Estimate(values[name], low, high, rows.size)
    return estimates


def _interval(replicates: Floats, level: float) -> tuple[float, float]:
    known = replicates[~np.isnan(replicates)]
    if known.size == 0:
        return float("nan"), float("nan")
    low, high = np.quantile(known, [(1 - level) / 2, (1 + level) / 2])
    return float(low), float(high)


def paired_bootstrap(
    metric: str,
    y: ArrayLike,
    p_a: ArrayLike,
    p_b: ArrayLike,
    clusters: ArrayLike | None = None,
    *,
    replicates: int = 1000,
    seed: int = 0,
    level: float = 0.95,
    threshold_a: float = 0.5,
    threshold_b: float = 0.5,
) -> PairedDifference:
    """Difference of two models on the same rows, resampling patients for both at once.

    Args:
        metric: a name from :data:`METRICS`.
        y: outcome, 0 or 1, shape (rows,).
        p_a: probabilities of the first model (the incumbent).
        p_b: probabilities of the second model (the challenger).
        clusters: patient of each row; None takes every row for a patient of its own.
        replicates: resamples.
        seed: the same seed gives the same interval.
        level: coverage of the two-sided interval.
        threshold_a: label threshold of the first model, for measures of labels.
        threshold_b: label threshold of the second model.
    """
    rows_a, rows_b = RankedRows(y, p_a, threshold_a), RankedRows(y, p_b, threshold_b)
    codes, count = _cluster_codes(clusters, rows_a.size)
    of_a, of_b = weighted_measure(metric, rows_a), weighted_measure(metric, rows_b)
    ones = np.ones((1, rows_a.size))
    value_a, value_b = float(of_a(ones)[0]), float(of_b(ones)[0])
    codes_a, codes_b = codes[rows_a.order], codes[rows_b.order]
    parts = [
        of_b(drawn[:, codes_b]) - of_a(drawn[:, codes_a]) for drawn in _draws(count, replicates, rows_a.size, seed)
    ]
    differences = np.concatenate(parts)
    low, high = _interval(differences, level)
    known = differences[~np.isnan(differences)]
    below, above = int((known <= 0).sum()), int((known >= 0).sum())
    p_value = min(1.0, 2 * (min(below, above) + 1) / (known.size + 1)) if known.size else float("nan")
    return PairedDifference(
        value_a=value_a,
        value_b=value_b,
        difference=value_b - value_a,
        ci_low=low,
        ci_high=high,
        p_value=p_value,
        n=rows_a.size,
        clusters=count,
        replicates=differences,
    )
