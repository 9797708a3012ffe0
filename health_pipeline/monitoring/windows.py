"""How many months back the numbers of a month go, said once for what computes them and for the windows of the graph."""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from health_pipeline.settings import Settings

SEASON_MONTHS = 13
"""The season of the year before begins a month before the same month."""

CONCEPT_MONTHS = 12
"""A window in which a changed concept is looked for and its reference together reach this many months back."""

SHOWN_MONTHS = 24
"""Months that figures over time show, their own included."""


def drift_reads(settings: Settings) -> int:
    """Months before M that the drift of M is compared with, where the champion was trained for M."""
    windows = settings.windows
    return max(windows.training_months + windows.validation_months + windows.holdout_months + 1, SEASON_MONTHS)


def realised_windows(settings: Settings) -> tuple[int, ...]:
    """Months pooled in realised performance, shortest first; the two that checks judge are always among them."""
    knobs = settings.monitoring
    return tuple(sorted({1, knobs.performance_window, *knobs.rolling_months}))


def performance_reads(settings: Settings) -> int:
    """Months before M whose predictions and labels the performance of M is computed from."""
    knobs = settings.monitoring
    return max(realised_windows(settings)[-1] - 1, knobs.calibration_months, CONCEPT_MONTHS)
