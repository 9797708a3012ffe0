"""Number of discharges of a month against the months before it."""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import TYPE_CHECKING

import numpy as np

from health_pipeline.monitoring.comparison import Row, status_of
from health_pipeline.months import Month, MonthRange, shift
from health_pipeline.settings import Settings
from health_pipeline.warehouse.slices import Slice

if TYPE_CHECKING:
    from duckdb import DuckDBPyConnection

VOLUME_MONTHS = 12
LEAST_MONTHS = 3


def volume_rows(
    connection: DuckDBPyConnection, features: Slice, models: Mapping[Month, str], settings: Settings
) -> list[Row]:
    """One row per month: discharges, and how far they may lie from the mean of the twelve months before.

    The limit is a prediction interval of Student's t on the spread between those months, never narrower than Poisson.
    """
    if not models:
        return []
    from scipy.special import stdtrit

    span = MonthRange(shift(min(models), -VOLUME_MONTHS), max(models))
    counts = dict(connection.execute(f"SELECT month, count(*) FROM {features.only(span)} GROUP BY month").fetchall())
    rows: list[Row] = []
    for month, model_id in models.items():
        past = [shift(month, -back) for back in range(1, VOLUME_MONTHS + 1)]
        before = np.array([counts.get(m, 0) for m in past if m >= settings.start_month], dtype=float)
        row: Row = {
            "month": month,
            "model_id": model_id,
            "subject_kind": "volume",
            "subject": "discharges",
            "metric": "change",
            "n": counts.get(month, 0),
            "reference": "previous_year",
            "reference_n": int(before.sum()),
            "status": "no_data",
        }
        if before.size >= LEAST_MONTHS and before.mean() > 0:
            mean, error = before.mean(), max(before.std(ddof=1), math.sqrt(before.mean()))
            spread = error / mean * math.sqrt(1 + 1 / before.size)
            warning, alarm = (float(stdtrit(before.size - 1, q) * spread) for q in (0.995, 0.9995))
            value = float(row["n"] / mean - 1)
            row |= {
                "value": value,
                "threshold": warning,
                "alarm_threshold": alarm,
                "chance_level": warning,
                "reference_value": float(mean),
                "status": status_of(abs(value), warning, alarm),
            }
        rows.append(row)
    return rows
