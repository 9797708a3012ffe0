"""A model sees labels up to M-2, and its windows do not touch."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from health_pipeline.modeling.windows import windows_of
from health_pipeline.months import MonthRange, parse_month, shift
from health_pipeline.settings import Settings, WindowSettings

START = parse_month("2022-01")


def test_default_windows_of_a_month():
    windows = windows_of(parse_month("2024-01"), WindowSettings(), START)
    assert windows is not None
    assert windows.holdout == MonthRange.of("2023-09", "2023-11")
    assert windows.validation == MonthRange.of("2023-06", "2023-08")
    assert windows.training == MonthRange.of("2022-01", "2023-05")


def test_the_first_model_month_of_the_settings_is_the_first_with_windows():
    settings = Settings(start_month="2022-01", end_month="2024-12")
    first = settings.first_model_month
    assert windows_of(first, settings.windows, START) is not None
    assert windows_of(shift(first, -1), settings.windows, START) is None


@given(
    steps=st.integers(0, 80),
    lengths=st.tuples(st.integers(1, 6), st.integers(1, 6), st.integers(1, 48), st.integers(1, 48)),
)
def test_windows_are_ordered_disjoint_and_end_two_months_before(steps, lengths):
    holdout, validation, longest, shortest = lengths
    if shortest > longest:
        shortest, longest = longest, shortest
    settings = WindowSettings(
        holdout_months=holdout, validation_months=validation, training_months=longest, min_training_months=shortest
    )
    month = shift(START, steps)
    windows = windows_of(month, settings, START)
    if windows is None:
        assert steps < settings.warm_up_months
        return
    assert windows.holdout.last == shift(month, -2)
    assert windows.validation.end == windows.holdout.first
    assert windows.training.end == windows.validation.first
    assert shortest <= len(windows.training) <= longest
    assert windows.training.first >= START


@pytest.mark.parametrize("steps", [0, 5])
def test_too_little_history_gives_no_windows(steps):
    assert windows_of(shift(START, steps), WindowSettings(), START) is None
