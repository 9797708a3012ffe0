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

__all__ = [
    "METRICS",
    "Estimate",
    "PairedDifference",
    "Resampled",
    "cluster_codes",
    "draw_clusters",
    "interval",
    "measure",
    "measure_with_intervals",
    "paired_bootstrap",
    "resample",
]

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
class Resampled:
    """A measure, and what it is on each resample."""

    value: float
    replicates: Floats


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


def cluster_codes(clusters: ArrayLike | None, rows: int) -> tuple[NDArray[np.intp], int]:
    """Number of each row's cluster, shape (rows,), and how many clusters there are.

    Raises:
        ValueError: not one cluster for each row.
    """
    if clusters is None:
        return np.arange(rows), rows
    names, codes = np.unique(np.asarray(clusters), return_inverse=True)
    if codes.size != rows:
        raise ValueError("clusters must have one entry for each row")
    return codes.astype(np.intp), int(names.size)


def draw_clusters(count: int, replicates: int, rows: int, seed: int) -> Iterator[Weights]:
    """Chunks of cluster weights, shape (<= chunk, clusters): how often each cluster was drawn.

    Args:
        count: clusters.
        replicates: resamples, in all chunks together.
        rows: weights a resample needs in the end; a chunk is as many resamples as keep memory small.
        seed: the same seed draws the same clusters.
    """
    random = np.random.default_rng(seed)
    precision = np.float32 if rows < _EXACT_IN_SINGLE else np.float64
    chunk = max(1, min(replicates, _CHUNK_CELLS // max(rows, 1)))
    for start in range(0, replicates, chunk):
        size = min(chunk, replicates - start)
        drawn = random.integers(0, count, size=(size, count)) + np.arange(size)[:, None] * count
        yield np.bincount(drawn.ravel(), minlength=size * count).reshape(size, count).astype(precision)


def measure(
    y: ArrayLike, p: ArrayLike, threshold: ArrayLike = 0.5, metrics: Sequence[str] = METRICS
) -> dict[str, float]:
    """Values of the measures.

    Args:
        y: outcome, 0 or 1, shape (rows,).
        p: probability, shape (rows,).
        threshold: probability from which a row is called positive; one for all rows, or shape (rows,).
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
    threshold: ArrayLike = 0.5,
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
        threshold: probability from which a row is called positive; one for all rows, or shape (rows,).
        clusters: patient of each row; None takes every row for a patient of its own.
        metrics: names from :data:`METRICS`.
        replicates: resamples.
        seed: the same seed gives the same interval.
        level: coverage of the interval.
    """
    (found,) = resample(y, [(p, threshold)], clusters=clusters, metrics=metrics, replicates=replicates, seed=seed)
    rows = int(np.size(y))
    return {name: Estimate(drawn.value, *interval(drawn.replicates, level), rows) for name, drawn in found.items()}


def resample(
    y: ArrayLike,
    models: Sequence[tuple[ArrayLike, ArrayLike]],
    *,
    clusters: ArrayLike | None,
    metrics: Sequence[str],
    replicates: int,
    seed: int,
) -> list[dict[str, Resampled]]:
    """Measures of several models on the same rows and the same resampled patients, drawn once for all of them.

    Args:
        y: outcome, 0 or 1, shape (rows,).
        models: probabilities, shape (rows,), and label threshold of each model, one or shape (rows,).
        clusters: patient of each row; None takes every row for a patient of its own.
        metrics: names from :data:`METRICS`.
        replicates: resamples.
        seed: the same seed draws the same patients.

    Returns:
        For each model its measures by name.
    """
    ranked = [RankedRows(y, p, threshold) for p, threshold in models]
    codes, count = cluster_codes(clusters, ranked[0].size)
    functions = [{name: weighted_measure(name, rows) for name in metrics} for rows in ranked]
    resampled: list[dict[str, list[Floats]]] = [{name: [] for name in metrics} for _ in ranked]
    for drawn in draw_clusters(count, replicates, ranked[0].size, seed):
        for rows, of_model, parts in zip(ranked, functions, resampled, strict=True):
            weights = drawn[:, codes[rows.order]]
            for name, function in of_model.items():
                parts[name].append(function(weights))
    ones = np.ones((1, ranked[0].size))
    return [
        {name: Resampled(float(function(ones)[0]), np.concatenate(parts[name])) for name, function in of_model.items()}
        for of_model, parts in zip(functions, resampled, strict=True)
    ]


def interval(replicates: Floats, level: float) -> tuple[float, float]:
    """Percentile interval; replicates on which the measure is undefined are left out."""
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
    drawn_a, drawn_b = (
        drawn[metric]
        for drawn in resample(
            y,
            [(p_a, threshold_a), (p_b, threshold_b)],
            clusters=clusters,
            metrics=(metric,),
            replicates=replicates,
            seed=seed,
        )
    )
    differences = drawn_b.replicates - drawn_a.replicates
    low, high = interval(differences, level)
    known = differences[~np.isnan(differences)]
    below, above = int((known <= 0).sum()), int((known >= 0).sum())
    p_value = min(1.0, 2 * (min(below, above) + 1) / (known.size + 1)) if known.size else float("nan")
    rows = int(np.size(y))
    return PairedDifference(
        value_a=drawn_a.value,
        value_b=drawn_b.value,
        difference=drawn_b.value - drawn_a.value,
        ci_low=low,
        ci_high=high,
        p_value=p_value,
        n=rows,
        clusters=rows if clusters is None else int(np.unique(np.asarray(clusters)).size),
        replicates=differences,
    )
