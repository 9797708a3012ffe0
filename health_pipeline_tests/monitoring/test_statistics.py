from __future__ import annotations

import numpy as np
import pytest
from scipy import stats

from health_pipeline.monitoring import statistics


def test_psi_is_zero_for_equal_shares_and_grows_with_the_shift() -> None:
    reference = np.array([100.0, 200.0, 700.0])
    assert statistics.psi(reference / 10, reference) < 1e-3
    small, large = np.array([15.0, 20.0, 65.0]), np.array([60.0, 20.0, 20.0])
    assert 0.005 < statistics.psi(small, reference) < statistics.psi(large, reference)


def test_psi_by_hand() -> None:
    p, q = np.array([30.5, 70.5]) / 101, np.array([50.5, 50.5]) / 101
    expected = float(((p - q) * np.log(p / q)).sum())
    assert statistics.psi(np.array([30.0, 70.0]), np.array([50.0, 50.0])) == pytest.approx(expected)


@pytest.mark.parametrize(("n", "m", "bins"), [(200, 5000, 10), (800, 800, 5), (5000, 60_000, 10)])
def test_chance_level_is_exceeded_as_often_as_it_says(n: int, m: int, bins: int) -> None:
    random = np.random.default_rng(1)
    shares = random.dirichlet(np.full(bins, 20.0))
    months = random.multinomial(m // 10, shares, size=(2000, 10)).astype(float)
    current = random.multinomial(n, shares, size=2000).astype(float)
    beyond = [
        statistics.psi(now, before.sum(axis=0))
        > statistics.psi_chance_level(n, m, bins, 0.05, statistics.spread_of(before))
        for now, before in zip(current, months, strict=True)
    ]
    assert 0.02 < np.mean(beyond) < 0.07


def test_dispersion_sees_months_that_differ_by_more_than_chance() -> None:
    random = np.random.default_rng(2)
    equal = random.multinomial(500, [0.2, 0.3, 0.5], size=24).astype(float)
    restless = np.array([random.multinomial(500, random.dirichlet([20, 30, 50])) for _ in range(24)], dtype=float)
    assert statistics.spread_of(equal).inflation < 1.6
    assert statistics.spread_of(restless).inflation > 3
    assert statistics.spread_of(equal[:1]) == statistics.Spread()


def test_a_restless_hospital_is_not_called_drifted_more_often_than_said() -> None:
    """Months differ by a random shift along one direction: bins move together."""
    random = np.random.default_rng(5)
    edges = stats.norm.ppf(np.linspace(0.1, 0.9, 9))
    beyond, ks_beyond = 0, 0
    for _ in range(600):
        months = np.array(
            [
                np.bincount(np.searchsorted(edges, random.normal(random.normal(0, 0.15), 1, 800)), minlength=10)
                for _ in range(13)
            ],
            dtype=float,
        )
        before, now = months[:-1], months[-1]
        limit = statistics.psi_chance_level(800, before.sum(), 10, 0.05, statistics.spread_of(before))
        beyond += statistics.psi(now, before.sum(axis=0)) > limit
        ks_beyond += statistics.ks(now, before.sum(axis=0), statistics.cumulative_inflation(before))[1] < 0.05
    assert beyond / 600 < 0.09
    assert ks_beyond / 600 < 0.12


def test_ks_agrees_with_scipy_on_ordered_bins() -> None:
    random = np.random.default_rng(3)
    a, b = random.integers(0, 40, 900), random.integers(2, 42, 4000)
    counts = [np.bincount(values, minlength=42).astype(float) for values in (a, b)]
    distance, p_value = statistics.ks(counts[0], counts[1], 1.0)
    assert distance == pytest.approx(stats.ks_2samp(a, b).statistic)
    assert p_value == pytest.approx(stats.ks_2samp(a, b, method="asymp").pvalue, rel=0.3)
    critical = statistics.ks_critical(900, 4000, 0.01, 1.0)
    assert (distance > critical) == (p_value < 0.01)


def test_chi_squared_agrees_with_scipy_and_overdispersion_tames_it() -> None:
    table = np.array([[30.0, 50.0, 20.0], [400.0, 450.0, 150.0]])
    statistic, p_value, free = statistics.chi_squared(table[0], table[1], statistics.Spread())
    expected = stats.chi2_contingency(table, correction=False)
    assert (statistic, p_value, free) == (pytest.approx(expected.statistic), pytest.approx(expected.pvalue), 2)
    assert statistics.chi_squared(table[0], table[1], statistics.Spread(3.0, 2.0, 11))[1] > p_value


def test_rare_bins_are_pooled_not_dropped() -> None:
    table = np.array([[50.0, 1.0, 0.0, 2.0], [500.0, 9.0, 0.0, 12.0]])
    pooled = statistics.pool_rare(table)
    assert pooled.sum() == table.sum()
    assert pooled.shape[1] < 3
    assert np.isfinite(statistics.chi_squared(table[0], table[1], statistics.Spread())[0])


def test_benjamini_hochberg_agrees_with_scipy_and_keeps_unknowns() -> None:
    p = np.random.default_rng(4).uniform(size=50) ** 2
    assert statistics.benjamini_hochberg(p) == pytest.approx(stats.false_discovery_control(p))
    adjusted = statistics.benjamini_hochberg(np.array([0.01, np.nan, 0.02]))
    assert np.isnan(adjusted[1])
    assert adjusted[[0, 2]] == pytest.approx([0.02, 0.02])


def test_coarse_bins_hold_their_share() -> None:
    reference = np.array([4.0] * 20 + [1.0] * 20)
    groups = statistics.merge_bins(reference, 0.1)
    sums = statistics.regroup(reference, groups, int(groups.max()) + 1)
    assert (sums >= 10).all()
    assert sums.sum() == reference.sum()
    assert (np.diff(groups) >= 0).all()


def test_a_bin_that_holds_the_share_stays_alone() -> None:
    assert statistics.merge_bins(np.array([1.0, 1, 1, 50, 0, 1, 20, 20, 5]), 0.1).tolist() == [
        0,
        0,
        0,
        1,
        2,
        2,
        3,
        4,
        5,
    ]
    assert statistics.merge_bins(np.array([0.0, 100, 0]), 0.1).tolist() == [0, 1, 2]
    assert statistics.merge_bins(np.array([3.0, 4, 5, 6, 7, 50, 25]), 0.1).tolist() == [0, 0, 0, 1, 1, 2, 3]
