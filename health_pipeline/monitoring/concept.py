"""Whether the relation between risk and outcome has changed: score tests on matured outcomes, few and fixed beforehand.

The champion's log-odds are compared with the outcomes of a window, and with those of the months before it as the
reference, so that a constant misfit is no change. Two tests look at the window: the calibration line (intercept and
slope; Cox, Biometrika 1958) and the strata (``strata.py``), jointly. Months of a real hospital differ by more than
chance: the spread of the same scores between the reference months widens the tests (Rao and Scott 1984). The
tests of all windows become one p-value by the Cauchy combination, which holds under dependence (Liu and Xie, JASA
2020), so that a month is judged once.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from health_pipeline.modeling.calibration import fit_logistic

if TYPE_CHECKING:
    import pandas as pd

Floats = NDArray[np.float64]

LEAST_REFERENCE_MONTHS = 3
LEAST_SHARE = 0.05
"""A category with a smaller share of the reference is left out: it would cost a degree of freedom and show nothing."""

LEAST_OWN_SHARE = 0.1
"""A category of which less than this is its own, not told by the ones before it (the same stays lack disposition and
payer), is left out: what is left of it is a handful of stays, or none, and a test on none is no number at all."""

_Z95 = 1.959963984540054


@dataclass(frozen=True)
class Outcomes:
    """Matured rows of one role; all arrays have the shape ``(rows,)``.

    Attributes:
        month: month of each row.
        logit: log-odds as predicted.
        outcome: 1.0 or 0.0.
        strata: value of each stratum.
    """

    month: NDArray[Any]
    logit: Floats
    outcome: Floats
    strata: Mapping[str, pd.Categorical]

    def where(self, chosen: NDArray[np.bool_]) -> Outcomes:
        """The rows for which ``chosen`` is true."""
        strata = {name: values[chosen] for name, values in self.strata.items()}
        return Outcomes(self.month[chosen], self.logit[chosen], self.outcome[chosen], strata)


@dataclass(frozen=True)
class Shift:
    """Change of the log-odds of the outcome in one direction, against the reference.

    Attributes:
        name: ``intercept``, ``slope`` or ``<stratum>=<category>``.
        value: one-step estimate; for ``slope`` per unit of predicted log-odds.
        error: its standard error, widened by the spread between months.
        n: rows of the window behind it.
    """

    name: str
    value: float
    error: float
    n: int

    @property
    def interval(self) -> tuple[float, float]:
        """95 % interval."""
        return self.value - _Z95 * self.error, self.value + _Z95 * self.error


@dataclass(frozen=True)
class Change:
    """Tests of a window against its reference.

    Attributes:
        p_calibration: of intercept and slope.
        p_strata: of all strata together; NaN when no stratum is large enough.
        shifts: each direction, the calibration line first.
        n: rows of the window.
        reference_n: rows of the reference.
    """

    p_calibration: float
    p_strata: float
    shifts: tuple[Shift, ...]
    n: int
    reference_n: int


def compare_outcomes(window: Outcomes, reference: Outcomes, least_events: int) -> Change | None:
    """Test a window against earlier months.

    Args:
        window: the month or months in question.
        reference: months before them.
        least_events: fewer events or non-events than this in a category of the window leave it out (privacy, and the
            normal approximation).

    Returns:
        None when the reference is shorter than ``LEAST_REFERENCE_MONTHS``, there are too few events, or all scores are
        the same.
    """
    events = window.outcome.sum()
    if np.unique(reference.month).size < LEAST_REFERENCE_MONTHS or min(events, window.outcome.size - events) < max(
        least_events, 10
    ):
        return None
    names, design = _design(window, reference, least_events)
    if names[:2] != ["intercept", "slope"]:
        return None
    logit = np.r_[reference.logit, window.logit]
    outcome = np.r_[reference.outcome, window.outcome]
    beta = fit_logistic(design, outcome, offset=logit)
    if np.isnan(beta).any():  # not determined by the outcomes
        names, design = names[:2], design[:, :2]
        beta = fit_logistic(design, outcome, offset=logit)
        if np.isnan(beta).any():
            return None
    fitted = 1 / (1 + np.exp(-np.clip(logit + design @ beta, -35, 35)))
    residual, weight = outcome - fitted, fitted * (1 - fitted)
    is_window = np.arange(outcome.size) >= reference.outcome.size
    score = design[is_window].T @ residual[is_window]
    own = _information(design[is_window], weight[is_window])
    total = _information(design, weight)
    variance = own - own @ np.linalg.solve(total, own)
    strata = list(range(2, len(names)))
    spread = np.sqrt(_spread(reference, design[~is_window]))
    shifts = _shifts(names, score, variance, spread, design[is_window], window.outcome.size)
    widened = variance * np.outer(spread, spread)
    return Change(
        _p_value(score[:2], widened[:2, :2]),
        _p_value(score[strata], widened[np.ix_(strata, strata)]) if strata else math.nan,
        shifts,
        window.outcome.size,
        reference.outcome.size,
    )


def combine(p_values: Sequence[float]) -> float:
    """One p-value of several dependent tests by the Cauchy combination; NaN of none."""
    known = [p for p in p_values if not math.isnan(p)]
    if not known:
        return math.nan
    mean = sum(math.tan((0.5 - min(max(p, 1e-15), 1 - 1e-15)) * math.pi) for p in known) / len(known)
    return 0.5 - math.atan(mean) / math.pi


def _design(window: Outcomes, reference: Outcomes, least_events: int) -> tuple[list[str], Floats]:
    """Columns: one, centred log-odds, then each category but the commonest, if it is large enough and tells its own."""
    logit, before_rows = np.r_[reference.logit, window.logit], reference.logit.size
    names, columns = ["intercept", "slope"], [np.ones(logit.size), logit - reference.logit.mean()]
    for name, values in window.strata.items():
        before = reference.strata[name]
        counts = before.value_counts()
        for category in sorted(set(before.categories) - {counts.idxmax()}):
            inside = np.asarray(values == category)
            events = window.outcome[inside].sum()
            if counts[category] < LEAST_SHARE * len(before):
                continue
            if min(events, inside.sum() - events) < least_events:
                continue
            names.append(f"{name}={category}")
            columns.append(np.r_[before == category, inside].astype(np.float64))
    design = np.column_stack(columns)
    kept = _independent(design[:before_rows], design[before_rows:])
    return [names[index] for index in kept], design[:, kept]


def _independent(*parts: Floats) -> list[int]:
    """Columns that keep something of their own beside the kept ones before them, in every part of the rows."""
    products = [part.T @ part for part in parts]
    kept: list[int] = [0]
    for index in range(1, products[0].shape[0]):
        if all(_own_share(product, kept, index) >= LEAST_OWN_SHARE for product in products):
            kept.append(index)
    return kept


def _own_share(product: Floats, kept: list[int], index: int) -> float:
    """Share of a column's variance that the kept columns (the first one is constant) do not explain."""
    centred = product[index, index] - product[0, index] ** 2 / product[0, 0]
    if centred <= 1e-12 * product[index, index]:
        return 0.0
    explained = product[kept, index] @ np.linalg.solve(product[np.ix_(kept, kept)], product[kept, index])
    return float((product[index, index] - explained) / centred)


def _information(design: Floats, weight: Floats) -> Floats:
    return np.asarray((design * weight[:, None]).T @ design)


def _spread(reference: Outcomes, design: Floats) -> Floats:
    """How much more the scores of single reference months vary than chance says, per direction (never less than 1)."""
    beta = fit_logistic(design, reference.outcome, offset=reference.logit)
    fitted = 1 / (1 + np.exp(-np.clip(reference.logit + design @ beta, -35, 35)))
    residual, weight = reference.outcome - fitted, fitted * (1 - fitted)
    whole, months = _information(design, weight), np.unique(reference.month)
    total = np.zeros(design.shape[1])
    for month in months:
        rows = reference.month == month
        score, own = design[rows].T @ residual[rows], _information(design[rows], weight[rows])
        variance = np.diag(own - own @ np.linalg.solve(whole, own))
        total += np.where(variance > 1e-9, score**2 / np.maximum(variance, 1e-9), 1.0)
    return np.maximum(1.0, total / months.size)


def _p_value(score: Floats, variance: Floats) -> float:
    from scipy.special import chdtrc

    return float(chdtrc(score.size, float(score @ np.linalg.solve(variance, score))))


def _shifts(
    names: Sequence[str], score: Floats, variance: Floats, spread: Floats, rows: Floats, n: int
) -> tuple[Shift, ...]:
    found = []
    for index, name in enumerate(names):
        inside = n if index < 2 else int(rows[:, index].sum())
        own = variance[index, index]
        found.append(Shift(name, float(score[index] / own), float(spread[index]) / math.sqrt(own), inside))
    return tuple(found)
