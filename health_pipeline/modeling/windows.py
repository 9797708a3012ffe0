"""The months a model may see, counted back from the last month whose outcome is known."""

from __future__ import annotations

from dataclasses import dataclass

from health_pipeline.months import Month, MonthRange, months_between, shift
from health_pipeline.settings import WindowSettings

OUTCOME_LAG_MONTHS = 2
"""A model of month M existed when M began: M-1 was still open for readmissions, M-2 was the last matured month."""


@dataclass(frozen=True, slots=True)
class Windows:
    """Three disjoint windows in time order; the holdout ends two months before the model month."""

    training: MonthRange
    validation: MonthRange
    holdout: MonthRange

    @property
    def span(self) -> MonthRange:
        """From the first training month to the last holdout month."""
        return MonthRange(self.training.first, self.holdout.last)

    @property
    def fitted(self) -> MonthRange:
        """Training and validation: everything the model may learn from."""
        return MonthRange(self.training.first, self.validation.last)


def windows_of(month: Month, settings: WindowSettings, first_month: Month) -> Windows | None:
    """Windows of the model of ``month``.

    Args:
        month: model month M; nothing after M-2 is seen.
        settings: lengths of the windows.
        first_month: first month of the data; training shrinks to the history that exists.

    Returns:
        The windows, or None where fewer than ``min_training_months`` are left for training.
    """
    holdout_last = shift(month, -OUTCOME_LAG_MONTHS)
    holdout = MonthRange(shift(holdout_last, 1 - settings.holdout_months), holdout_last)
    validation = MonthRange(shift(holdout.first, -settings.validation_months), shift(holdout.first, -1))
    training_last = shift(validation.first, -1)
    training_first = max(first_month, shift(training_last, 1 - settings.training_months))
    if months_between(training_first, training_last) + 1 < settings.min_training_months:
        return None
    return Windows(MonthRange(training_first, training_last), validation, holdout)
