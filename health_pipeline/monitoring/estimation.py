"""Performance without labels: confidence-based performance estimation.

A calibrated probability is the chance of the outcome, so a row counts as ``p`` readmissions and ``1 - p`` others, and
every measure is taken over those weights (CBPE: https://nannyml.readthedocs.io, "How CBPE works"). Where enough
outcomes of earlier months are known the probabilities are recalibrated on them first. What this cannot see is a change
of the relation between features and outcome: that shows only in realised performance.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from health_pipeline.modeling.calibration import Calibration, fit_calibration
from health_pipeline.modeling.metrics import Estimate, cluster_codes, draw_clusters, interval
from health_pipeline.modeling.weighted import RankedRows, Weights, weighted_measure
from health_pipeline.monitoring.patient_sample import narrowed, patient_sample
from health_pipeline.monitoring.scored import Floats, Scored

ESTIMABLE = (
    "roc_auc",
    "average_precision",
    "brier",
    "log_loss",
    "observed_expected",
    "top_decile_precision",
    "top_decile_lift",
    "accuracy",
    "precision",
    "recall",
    "f1",
)
"""Measures that need no outcome, only its chance."""

LEAST_ROWS = 500
LEAST_EVENTS = 50


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
        metrics: names from ``ESTIMABLE``.
    """
    chance = calibration.probabilities(logit(rows.probability))
    whole = _Expectation(rows, chance, metrics)
    sample = patient_sample(rows.patient, rarer=min(chance.sum(), len(rows) - chance.sum()))
    if sample is None:
        return whole.estimates(replicates, seed)
    part = _Expectation(rows.where(sample), chance[sample], metrics).estimates(replicates, seed)
    return {name: narrowed(value, part[name], len(rows)) for name, value in whole.values().items()}


class _Expectation:
    """Measures of rows that count twice, once with either outcome."""

    def __init__(self, rows: Scored, chance: Floats, metrics: Sequence[str]) -> None:
        order = np.argsort(-rows.probability, kind="stable")
        self.patient, self.chance = rows.patient[order], chance[order]
        score, threshold = (np.repeat(values[order], 2) for values in (rows.probability, rows.threshold))
        ranked = RankedRows(np.tile([1.0, 0.0], len(rows)), score, threshold)
        self.functions = {name: weighted_measure(name, ranked) for name in metrics}

    def values(self) -> dict[str, float]:
        """The expected measures."""
        weights = _weights(self.chance[None], 1 - self.chance[None])
        return {name: float(function(weights)[0]) for name, function in self.functions.items()}

    def estimates(self, replicates: int, seed: int) -> dict[str, Estimate]:
        """The expected measures with the interval of what draws of patients, and then of outcomes, bring."""
        codes, clusters = cluster_codes(self.patient, self.patient.size)
        random = np.random.default_rng([seed, 1])
        drawn: dict[str, list[Floats]] = {name: [] for name in self.functions}
        for times_of_cluster in draw_clusters(clusters, replicates, 2 * self.patient.size, seed):
            times = times_of_cluster[:, codes]
            events = self._events(times, random)
            weights = _weights(events, times - events)
            for name, function in self.functions.items():
                drawn[name].append(function(weights))
        return {
            name: Estimate(value, *interval(np.concatenate(drawn[name]), 0.95), self.patient.size)
            for name, value in self.values().items()
        }

    def _events(self, times: Weights, random: np.random.Generator) -> Weights:
        """How many of a row's draws have the outcome, shape of ``times``: a binomial of few tries, one by one."""
        chance = self.chance.astype(np.float32)
        events = ((random.random(times.shape, np.float32) < chance) & (times >= 1)).astype(times.dtype)
        flat, tries = events.reshape(-1), times.reshape(-1)
        drawn, again = 2, np.flatnonzero(tries >= 2)
        while again.size:
            flat[again] += random.random(again.size, np.float32) < chance[again % chance.size]
            drawn += 1
            again = again[tries[again] >= drawn]
        return events


def _weights(events: Weights, others: Weights) -> Weights:
    """Weights of both outcomes, row by row, from those of each, shape (replicates, rows)."""
    return np.stack([events, others], axis=-1).reshape(events.shape[0], -1)
