"""A sample of the patients of many rows, from which the spread of a measure is learnt: resampling all takes too long.

The interval of a measure narrows with the square root of the rows, whatever the measure, so resampling m of n rows and
narrowing what was found by sqrt(m / n) tells the interval of all of them (the m out of n bootstrap: Bickel, Götze and
van Zwet, Statistica Sinica 1997). The measure itself is that of all rows.
"""

from __future__ import annotations

import math

import numpy as np
from numpy.typing import NDArray

from health_pipeline.modeling.metrics import Estimate

MOST_ROWS = 5_000
"""Rows beyond which intervals come from a sample: the spread of 5,000 is known to some percent, and is what counts."""

LEAST_RARER = 500
"""The sample holds about as many rows of the rarer outcome, if there are as many: what the spread depends on most."""

_GOLDEN = np.uint64(0x9E3779B97F4A7C15)


def patient_sample(
    patient: NDArray[np.uint64], *, most_rows: int = MOST_ROWS, rarer: float = math.inf
) -> NDArray[np.bool_] | None:
    """Rows of a sample of whole patients, the same patients whenever it is asked; None when all rows are few enough.

    Args:
        patient: number of the patient of each row, shape ``(rows,)``.
        most_rows: rows wanted.
        rarer: rows of the rarer outcome among all rows; where it is rare the sample is larger.
    """
    rows = patient.size
    wanted = max(most_rows, math.ceil(LEAST_RARER / max(rarer, 1.0) * rows))
    if rows <= wanted:
        return None
    order = patient * _GOLDEN  # Fibonacci hashing: numbers given in order of arrival are spread as well
    return np.asarray(order <= np.partition(order, wanted - 1)[wanted - 1])


def narrowed(whole: float, sample: Estimate, rows: int) -> Estimate:
    """The measure of all rows with the interval that a sample of them tells.

    Args:
        whole: the measure of all rows.
        sample: measure and interval of the sample.
        rows: how many all rows are.
    """
    factor = math.sqrt(sample.n / rows)
    low, high = (whole + factor * (end - sample.value) for end in (sample.ci_low, sample.ci_high))
    return Estimate(whole, low, high, rows)
