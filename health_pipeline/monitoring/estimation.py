"""Performance without labels: confidence-based performance estimation.

A calibrated probability is the chance of the outcome, so a row counts as ``p`` readmissions and ``1 - p`` others, and
every measure is taken over those weights (CBPE: https://nannyml.readthedocs.io, "How CBPE works"). Where enough
outcomes of earlier months are known the probabilities are recalibrated on them first. What this cannot see is a change
of the relation between features and outcome: that shows only in realised performance.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from health_pipeline.modeling.calibration import Calibration, fit_calibration
from health_pipeline.modeling.metrics import Estimate
from health_pipeline.modeling.weighted import RankedRows, weighted_measure
from health_pipeline.monitoring.scored import Floats, Scored

ESTIMABLE = (
    "roc_auc",
    "average_precision",
    "brier",
    "log_loss",
    "observed_expected",
    "top_decile_precision",
    "top_decile_lift",
)
LABEL_METRICS = ("accuracy", "precision", "recall", "f1")
LEAST_ROWS = 500
LEAST_EVENTS = 50
_CELLS = 2_000_000


def logit(probability: Floats) -> Floats:
    """Log-odds, finite at 0 and 1."""
    clipped = np.clip(probability, 1e-9, 1 - 1e-9)
    return np.asarray(np.log(clipped) - np.log1p(-clipped))


def recalibration(matured: Scored) -> Calibration:
    """Fit on earlier matured rows of the role; the identity when they are too few to teach anything."""
    if len(matured) < LEAST_ROWS or matured.outcome.sum() < LEAST_EVENTS:
        return Calibration()
    return fit_calibration(logit(matured.probability), matured.outcome)


def expected_performance(
    rows: Scored, calibration: Calibration, replicates: int, seed: int, metrics: Sequence[str]
) -> dict[str, Estimate]:
    """Expected measures with an interval of the outcome they predict.

    The interval covers what one month may bring: each replicate draws patients and then outcomes.

    Args:
        rows: scored rows of a month, at least one.
        calibration: applied to the predicted probabilities.
        replicates: draws.
        seed: the same seed gives the same interval.
        metrics: names from ``ESTIMABLE`` and ``LABEL_METRICS``.
    """
    chance = calibration.probabilities(logit(rows.probability))
    estimates: dict[str, Estimate] = {}
    for known, score in ((ESTIMABLE, rows.probability), (LABEL_METRICS, rows.label)):
        names = [name for name in metrics if name in known]
        if names:
            estimates |= _expected(names, score, chance, rows.patient, replicates, seed)
    return estimates


def _expected(
    names: Sequence[str], score: Floats, chance: Floats, patient: NDArray[np.uint64], replicates: int, seed: int
) -> dict[str, Estimate]:
    rows = score.size
    ranked = RankedRows(np.r_[np.ones(rows), np.zeros(rows)], np.r_[score, score], 0.5)
    functions = {name: weighted_measure(name, ranked) for name in names}
    values = {name: function(np.r_[chance, 1 - chance][None, ranked.order]) for name, function in functions.items()}
    random = np.random.default_rng(seed)
    _, cluster = np.unique(patient, return_inverse=True)
    clusters = int(cluster.max()) + 1
    drawn: dict[str, list[Floats]] = {name: [] for name in names}
    chunk = max(1, _CELLS // (2 * rows))
    for start in range(0, replicates, chunk):
        size = min(chunk, replicates - start)
        times = random.multinomial(clusters, np.full(clusters, 1 / clusters), size=size)[:, cluster]
        events = random.binomial(times, chance)
        weights = np.hstack([events, times - events]).astype(np.float64)[:, ranked.order]
        for name, function in functions.items():
            drawn[name].append(function(weights))
    result: dict[str, Estimate] = {}
    for name in names:
        known = np.concatenate(drawn[name])
        known = known[~np.isnan(known)]
        low, high = np.quantile(known, [0.025, 0.975]) if known.size else (np.nan, np.nan)
        result[name] = Estimate(float(values[name][0]), float(low), float(high), rows)
    return result
