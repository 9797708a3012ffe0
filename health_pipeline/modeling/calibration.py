"""Recalibration of a fitted model on later rows, and only as much of it as the rows call for."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import ArrayLike, NDArray

Floats = NDArray[np.float64]

_CHI2_95 = {1: 3.841458820694124, 2: 5.991464547107979}


@dataclass(frozen=True, slots=True)
class Calibration:
    """Final logit = ``intercept + slope * margin``; ``method`` says what was fitted."""

    slope: float = 1.0
    intercept: float = 0.0
    method: str = "none"

    def probabilities(self, margin: Floats) -> Floats:
        """Probabilities of margins (log-odds before calibration)."""
        return np.asarray(1 / (1 + np.exp(-np.clip(self.intercept + self.slope * margin, -35, 35))))


def fit_logistic(x: Floats, y: Floats, weights: Floats | None = None, offset: Floats | None = None) -> Floats:
    """Maximum-likelihood logistic regression of few columns by Newton's method.

    Args:
        x: design, shape (rows, k); add a column of ones for an intercept.
        y: outcome, 0 or 1.
        weights: row weights.
        offset: fixed part of the logit.

    Returns:
        Coefficients, shape (k,); NaN where they are not determined (one class only, or perfect separation).
    """
    weight = np.ones_like(y) if weights is None else weights
    fixed = np.zeros_like(y) if offset is None else offset
    beta = np.zeros(x.shape[1])
    for _ in range(50):
        mean = 1 / (1 + np.exp(-np.clip(x @ beta + fixed, -35, 35)))
        hessian = (x * (weight * mean * (1 - mean))[:, None]).T @ x
        if np.linalg.cond(hessian) > 1e12:
            return np.full(x.shape[1], np.nan)
        step = np.linalg.solve(hessian, x.T @ (weight * (y - mean)))
        beta = beta + np.clip(step, -5, 5)
        if np.abs(step).max() < 1e-10:
            return np.asarray(beta)
    return np.full(x.shape[1], np.nan)


def _log_likelihood(logit: Floats, y: Floats) -> float:
    return float(np.sum(y * logit - np.logaddexp(0, logit)))


def fit_calibration(margin: ArrayLike, y: ArrayLike) -> Calibration:
    """Choose between no change, a new intercept, and intercept with slope (Platt scaling) by a closed test.

    Every parameter fitted on a few hundred events adds noise, so a model that is already calibrated is left alone:
    the largest update is taken only if it beats the smaller ones by a likelihood-ratio test at 5 %
    (Vergouwe et al., Statistics in Medicine 2017, "A closed testing procedure to select an appropriate method for
    updating prediction models").

    Args:
        margin: log-odds on the validation rows, shape (rows,).
        y: outcome, 0 or 1, shape (rows,).
    """
    logit, outcome = np.asarray(margin, dtype=np.float64), np.asarray(y, dtype=np.float64)
    one = np.ones((outcome.size, 1))
    shifted = fit_logistic(one, outcome, offset=logit)
    scaled = fit_logistic(np.column_stack([one[:, 0], logit]), outcome)
    if np.isnan(shifted).any() or np.isnan(scaled).any() or scaled[1] <= 0:
        return Calibration()
    unchanged = _log_likelihood(logit, outcome)
    with_intercept = _log_likelihood(shifted[0] + logit, outcome)
    with_slope = _log_likelihood(scaled[0] + scaled[1] * logit, outcome)
    if 2 * (with_slope - unchanged) <= _CHI2_95[2]:
        return Calibration()
    if 2 * (with_slope - with_intercept) <= _CHI2_95[1]:
        return Calibration(1.0, float(shifted[0]), "intercept")
    return Calibration(float(scaled[1]), float(scaled[0]), "platt")


def best_f1_threshold(probability: ArrayLike, y: ArrayLike) -> float:
    """Probability from which labelling gives the largest F1 on these rows.

    Returns:
        The middle between the last probability inside and the first outside, so that rounding moves no label.
    """
    p, outcome = np.asarray(probability, dtype=np.float64), np.asarray(y, dtype=np.float64)
    order = np.argsort(-p, kind="stable")
    p, outcome = p[order], outcome[order]
    last_of_tie = np.r_[p[1:] != p[:-1], True]
    f1 = 2 * np.cumsum(outcome) / (np.arange(1, p.size + 1) + outcome.sum())
    best = int(np.argmax(np.where(last_of_tie, f1, -1.0)))
    return float(p[best] if best + 1 == p.size else (p[best] + p[best + 1]) / 2)
