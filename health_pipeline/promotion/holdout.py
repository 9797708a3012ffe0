"""The rows a decision rests on: discharges with known outcome on which no model in question was fitted."""

from __future__ import annotations

import datetime as dt
import math
import re
from collections.abc import Iterable
from typing import TYPE_CHECKING

import numpy as np

from health_pipeline.modeling.windows import OUTCOME_LAG_MONTHS
from health_pipeline.months import Month, MonthRange, shift
from health_pipeline.promotion.measure import Holdout

if TYPE_CHECKING:
    import pyarrow as pa

    from health_pipeline.modeling.dataset import Dataset
    from health_pipeline.settings import Settings

ATTRIBUTES = ("sex", "race", "payer")
AGE = "age_years"
LACE = re.compile(r"(^|_)lace(_|$)")
_AGE_BANDS = ((18, "0-17"), (45, "18-44"), (65, "45-64"), (80, "65-79"))
_OLDEST = "80+"
_UNKNOWN = "unknown"


def holdout_months(month: Month, fitted: Iterable[dt.date], settings: Settings) -> MonthRange | None:
    """Months the models in question are judged on in ``month``.

    All months of the holdout window that come after everything any of them was fitted on are pooled: the more rows, the
    surer the decision. ``windows.holdout_months`` is what to raise when they are too few.

    Returns:
        None when no month is left.
    """
    last = shift(month, -OUTCOME_LAG_MONTHS)
    first = shift(last, 1 - settings.windows.holdout_months)
    free = max((shift(day.replace(day=1), 1) for day in fitted), default=first)
    first = max(first, free)
    return MonthRange(first, last) if first <= last else None


def holdout_of(dataset: Dataset) -> Holdout:
    """What measuring needs of the rows: outcome, patient, LACE index, groups."""
    import pyarrow.compute as pc

    rows = dataset.rows
    lace = next((name for name in rows.column_names if LACE.search(name)), None)
    return Holdout(
        y=dataset.y,
        patients=dataset.patients.astype(np.intp),
        lace=None if lace is None else np.asarray(pc.cast(rows[lace], "float64").to_numpy(), dtype=np.float64),
        groups=_groups(rows),
    )


def _groups(rows: pa.Table) -> dict[str, np.ndarray[tuple[int], np.dtype[np.object_]]]:
    groups = {
        name: np.asarray([_UNKNOWN if value is None else str(value) for value in rows[name].to_pylist()], dtype=object)
        for name in ATTRIBUTES
        if name in rows.column_names
    }
    if AGE in rows.column_names:
        groups["age_band"] = np.asarray([age_band(value) for value in rows[AGE].to_pylist()], dtype=object)
    return groups


def age_band(age: float | None) -> str:
    """``0-17``, ``18-44``, ``45-64``, ``65-79``, ``80+`` or ``unknown``."""
    if age is None or math.isnan(age):
        return _UNKNOWN
    return next((name for end, name in _AGE_BANDS if age < end), _OLDEST)
