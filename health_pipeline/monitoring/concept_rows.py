"""Rows of ``monitoring.performance`` with ``kind = 'concept'``: did the meaning of the risk change?"""

from __future__ import annotations

import math
from collections.abc import Iterator
from typing import TYPE_CHECKING

from health_pipeline.monitoring.comparison import Row
from health_pipeline.monitoring.concept import Change, Outcomes, combine, compare_outcomes
from health_pipeline.monitoring.estimation import logit
from health_pipeline.monitoring.patient_sample import patient_sample
from health_pipeline.monitoring.statuses import CONCEPT_METRIC
from health_pipeline.monitoring.windows import CONCEPT_MONTHS
from health_pipeline.months import Month, MonthRange, shift

if TYPE_CHECKING:
    from health_pipeline.monitoring.scored import Scored
    from health_pipeline.settings import Settings

RELEVANT_SHIFT = 0.25
"""Smallest change of the log-odds (odds times 1.28) in any stratum, or of the slope, that is worth an alarm."""

MONTH_ROWS = 10_000
"""Matured stays of a month that are looked at: more, of a sample of the patients, would tell changes not worth it."""


def concept_rows(rows: Scored, month: Month, settings: Settings) -> Iterator[Row]:
    """Tests of a matured month, alone and with the months before it, and their combination.

    Args:
        rows: of one role, back through the reference.
        month: matured month.
        settings: windows, levels, smallest number shown.

    Yields:
        For each window ``calibration_change`` and ``strata_change`` (p-values) and the shift of each direction in
        log-odds; then ``concept_change``, the combined p-value the month is judged by. ``no_data`` when there is too
        little history.
    """
    knobs = settings.monitoring
    windows = sorted({1, knobs.performance_window})
    changes = {window: _compare(rows, month, window, settings) for window in windows}
    p_values: list[float] = []
    shifts: list[float] = []
    for window, change in changes.items():
        if change is None:
            continue
        found = {"calibration_change": change.p_calibration, "strata_change": change.p_strata}
        p_values += found.values()
        shifts += [abs(each.value) for each in change.shifts]
        yield from (
            _row(window, "all", name, p, change.n, None, "no_data" if math.isnan(p) else "ok")
            for name, p in found.items()
        )
        yield from _shift_rows(window, change)
    p = combine(p_values)
    n = next((change.n for change in changes.values() if change is not None), 0)
    yield _row(1, "all", CONCEPT_METRIC, p, n, knobs.concept_warning, _status(p, max(shifts, default=0.0), settings))


def _status(p: float, largest: float, settings: Settings) -> str:
    knobs = settings.monitoring
    if math.isnan(p):
        return "no_data"
    if p < knobs.concept_alarm and largest >= RELEVANT_SHIFT:
        return "alarm"
    return "warning" if p < knobs.concept_warning else "ok"


def _compare(rows: Scored, month: Month, window: int, settings: Settings) -> Change | None:
    covered = MonthRange(shift(month, 1 - window), month)
    if window > CONCEPT_MONTHS or not set(covered) <= rows.matured_months:
        return None  # no month is left to compare with, or some of the window's are unknown
    before = MonthRange(shift(month, -CONCEPT_MONTHS), shift(month, -window))
    return compare_outcomes(_outcomes(rows, covered), _outcomes(rows, before), settings.privacy.small_number)


def _outcomes(rows: Scored, months: MonthRange) -> Outcomes:
    rows = rows.during(months).matured
    sample = patient_sample(rows.patient, most_rows=len(months) * MONTH_ROWS)
    rows = rows if sample is None else rows.where(sample)
    return Outcomes(rows.month, logit(rows.probability), rows.outcome, rows.strata)


def _shift_rows(window: int, change: Change) -> Iterator[Row]:
    for each in change.shifts:
        is_line = each.name in {"intercept", "slope"}
        low, high = each.interval
        yield {
            **_row(
                window,
                "all" if is_line else each.name,
                f"{each.name}_shift" if is_line else "log_odds_shift",
                each.value,
                each.n,
                None,
                "ok",
            ),
            "ci_low": low,
            "ci_high": high,
        }


def _row(window: int, segment: str, metric: str, value: float, n: int, threshold: float | None, status: str) -> Row:
    return {
        "kind": "concept",
        "window_months": window,
        "segment": segment,
        "metric": metric,
        "value": None if math.isnan(value) else value,
        "ci_low": None,
        "ci_high": None,
        "n": n,
        "threshold": threshold,
        "status": status,
    }
