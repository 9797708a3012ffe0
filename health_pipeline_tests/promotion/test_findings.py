"""Numbers at, just below and just above a limit; nothing that was not measured passes."""

from __future__ import annotations

import math

import pytest

from health_pipeline.promotion.evidence import NOTHING, Estimate, finite
from health_pipeline.promotion.findings import Finding, above, at_least, at_most, within


@pytest.mark.parametrize(
    ("compare", "below", "at", "beyond"),
    [(above, False, False, True), (at_least, False, True, True), (at_most, True, True, False)],
)
def test_comparisons_at_the_limit(compare, below, at, beyond):
    assert [compare(value, 5.0, 0.0, "x").passed for value in (4.999, 5.0, 5.001)] == [below, at, beyond]


@pytest.mark.parametrize("compare", [above, at_least, at_most])
def test_comparisons_show_value_limit_and_near_misses(compare):
    assert compare(6.0, 5.0, 0.5, "x") == Finding(compare is not at_most, "x", 6.0, 5.0, near_miss=False)
    assert [compare(value, 5.0, 0.5, "x").near_miss for value in (4.49, 4.5, 5.0, 5.5, 5.51)] == [
        False,
        True,
        True,
        True,
        False,
    ]


@pytest.mark.parametrize("compare", [above, at_least, at_most])
@pytest.mark.parametrize("value", [None, math.nan, math.inf, -math.inf])
def test_comparisons_fail_closed(compare, value):
    assert compare(value, 5.0, 9.0, "why") == Finding(False, "not measured; why", None, 5.0)


def test_band_is_closed_and_shows_its_nearer_end():
    band = (0.5, 1.5)
    assert [within(Estimate(value), band, "x").passed for value in (0.4999, 0.5, 1.0, 1.5, 1.5001)] == [
        False,
        True,
        True,
        True,
        False,
    ]
    assert within(Estimate(0.6), band, "x").threshold == 0.5
    assert within(Estimate(1.4), band, "x") == Finding(True, "x", 1.4, 1.5, near_miss=False)
    assert [within(Estimate(value), band, "x").near_miss for value in (0.44, 0.46, 0.54, 0.56)] == [
        False,
        True,
        True,
        False,
    ]
    assert within(NOTHING, band, "why") == Finding(False, "not measured; why", None, 0.5)


def test_near_miss_of_a_band_includes_its_margin():
    assert [within(Estimate(value), (0.0, 20.0), "x").near_miss for value in (-1.0, 1.0, 19.0, 21.0)] == [True] * 4


def test_finite():
    assert finite(1) == 1.0
    assert [finite(value) for value in (None, math.nan, math.inf, -math.inf)] == [None] * 4
    assert math.copysign(1, finite(-0.0)) == 1
