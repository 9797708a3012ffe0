"""Distance of two distributions from binned counts, and what chance alone makes of it.

All functions take counts per bin, so that millions of rows cost no more than the bins. Months of a hospital differ by
more than sampling error (seasons, returning patients); every test therefore divides by the overdispersion seen between
the months of the reference (quasi-likelihood: Wedderburn 1974; McCullagh and Nelder 1989, ch. 4).
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

Counts = NDArray[np.float64]


def psi(current: Counts, reference: Counts) -> float:
    """Population stability index, ``sum((p - q) * ln(p / q))``, with half a row added to each bin in use.

    Args:
        current: rows per bin, shape ``(bins,)``.
        reference: rows per bin, same shape.
    """
    used = (current + reference) > 0
    current, reference = current[used], reference[used]
    p = (current + 0.5) / (current.sum() + 0.5 * current.size)
    q = (reference + 0.5) / (reference.sum() + 0.5 * reference.size)
    return float(np.sum((p - q) * np.log(p / q)))


@dataclass(frozen=True, slots=True)
class Spread:
    """How much the months of a reference differ from each other.

    Attributes:
        inflation: variance between months over the multinomial variance, at least 1.
        freedom: effective number of directions in which they differ, from 1 to bins - 1.
        months: months less one; 0 when they tell nothing.
    """

    inflation: float = 1.0
    freedom: float = 1.0
    months: int = 0

    def quantile(self, free: int, alpha: float) -> float:
        """Value that Pearson's statistic with ``free`` degrees of freedom exceeds with probability ``alpha``."""
        from scipy.special import chdtri, fdtri

        if self.months == 0:
            return float(chdtri(free, alpha))
        freedom = min(self.freedom, free)
        return float(self.inflation * free * fdtri(freedom, self.months * freedom, 1 - alpha))

    def p_value(self, statistic: float, free: int) -> float:
        """Probability that chance gives at least this statistic."""
        from scipy.special import chdtrc, fdtrc

        if self.months == 0:
            return float(chdtrc(free, statistic))
        freedom = min(self.freedom, free)
        return float(fdtrc(freedom, self.months * freedom, statistic / (self.inflation * free)))


def spread_of(months: Counts) -> Spread:
    """Dispersion between the months of a reference, with Satterthwaite's degrees of freedom.

    When all bins move together (a wave through the year), the statistic has fewer effective degrees of freedom and a
    longer tail than its bins suggest (Rao and Scott, Annals of Statistics 1984). The sum of squared eigenvalues is
    estimated without bias from few months (Srivastava, J. Japan Statistical Society 2005).

    Args:
        months: rows per month and bin, shape ``(months, bins)``.
    """
    months = months[months.sum(axis=1) > 0]
    pooled = months.sum(axis=0)
    months, pooled = months[:, pooled > 0], pooled[pooled > 0]
    nu, free = months.shape[0] - 1, pooled.size - 1
    if nu < 2 or free < 1:
        return Spread()
    expected = months.sum(axis=1, keepdims=True) * pooled / pooled.sum()
    residuals = (months - expected) / np.sqrt(expected)
    covariance = residuals.T @ residuals / nu
    total = float(np.trace(covariance))
    squares = float((covariance**2).sum())
    unbiased = nu**2 / ((nu - 1) * (nu + 2)) * (squares - total**2 / nu)
    freedom = free if unbiased <= 0 else float(np.clip(total**2 / unbiased, 1.0, free))
    return Spread(max(1.0, total / free), freedom, nu)


def cumulative_inflation(months: Counts) -> float:
    """Dispersion between months of the cumulative distribution, at its median bin, at least 1: what a KS test meets."""
    months = months[months.sum(axis=1) > 0]
    nu = months.shape[0] - 1
    rows = months.sum(axis=1, keepdims=True)
    pooled = months.sum(axis=0)
    share = np.cumsum(pooled)[:-1] / max(months.sum(), 1.0)
    inner = (share < 1) & (pooled[:-1] > 0)  # below an empty bin lies what lies below the one before it
    if nu < 2 or not inner.any():
        return 1.0
    below = np.cumsum(months, axis=1)[:, :-1][:, inner]
    variance = rows * share[inner] * (1 - share[inner])
    return max(1.0, float(np.median(((below - rows * share[inner]) ** 2 / variance).sum(axis=0) / nu)))


def psi_chance_level(n: float, m: float, bins: int, alpha: float, spread: Spread) -> float:
    """PSI that two samples of one distribution exceed with probability ``alpha``.

    Under the null PSI is distributed as ``(1/n + 1/m)`` times Pearson's statistic (Yurdakul 2018).
    """
    if bins < 2 or n <= 0 or m <= 0:
        return math.nan
    return (1 / n + 1 / m) * spread.quantile(bins - 1, alpha)


def ks(current: Counts, reference: Counts, inflation: float) -> tuple[float, float]:
    """Kolmogorov-Smirnov distance over ordered bins and its asymptotic p-value (conservative on ties and bins)."""
    from scipy.special import kolmogorov

    n, m = current.sum(), reference.sum()
    if n == 0 or m == 0:
        return math.nan, math.nan
    distance = float(np.abs(np.cumsum(current) / n - np.cumsum(reference) / m).max())
    return distance, float(kolmogorov(math.sqrt(n * m / (n + m) / inflation) * distance))


def ks_critical(n: float, m: float, alpha: float, inflation: float) -> float:
    """Distance that two samples of one distribution exceed with probability ``alpha``."""
    from scipy.special import kolmogi

    return float(kolmogi(alpha) * math.sqrt((n + m) / (n * m) * inflation)) if n and m else math.nan


def chi_squared(current: Counts, reference: Counts, spread: Spread) -> tuple[float, float, int]:
    """Pearson's statistic of homogeneity, its p-value under the spread between months, and its degrees of freedom.

    Bins with fewer than five expected rows are pooled first.
    """
    table = pool_rare(np.vstack([current, reference]))
    if table.shape[1] < 2 or not table.sum(axis=1).all():
        return 0.0, 1.0, 0
    expected = table.sum(axis=1, keepdims=True) * table.sum(axis=0) / table.sum()
    statistic = float(((table - expected) ** 2 / expected).sum())
    free = table.shape[1] - 1
    return statistic, spread.p_value(statistic, free), free


def pool_rare(table: Counts, least: float = 5.0) -> Counts:
    """Columns whose smaller side expects fewer than ``least`` rows become one (with the rarest other one, if need be).

    Args:
        table: rows per side and bin, shape ``(2, bins)``.
        least: expected rows below which a bin is rare.
    """
    table = table[:, table.sum(axis=0) > 0]
    share = table.sum(axis=1).min() / max(table.sum(), 1.0)
    rare = table.sum(axis=0) * share < least
    if not rare.any():
        return table
    kept, pooled = table[:, ~rare], table[:, rare].sum(axis=1)
    if kept.shape[1] and pooled.sum() * share < least:
        kept[:, np.argmin(kept.sum(axis=0))] += pooled
        return kept
    return np.column_stack([kept, pooled])


def benjamini_hochberg(p_values: NDArray[np.float64]) -> NDArray[np.float64]:
    """Adjusted p-values that control the false discovery rate (Benjamini and Hochberg 1995); NaN stays NaN."""
    adjusted = np.full(p_values.shape, math.nan)
    known = np.flatnonzero(~np.isnan(p_values))
    if known.size == 0:
        return adjusted
    order = known[np.argsort(p_values[known], kind="stable")]
    scaled = p_values[order] * known.size / np.arange(1, known.size + 1)
    adjusted[order] = np.minimum(1.0, np.minimum.accumulate(scaled[::-1])[::-1])
    return adjusted


def merge_bins(reference: Counts, share: float) -> NDArray[np.int64]:
    """Index of the coarse bin of each fine bin: neighbours join until they hold ``share`` of the reference.

    A bin that holds as much by itself stays alone, and so do its neighbours, however few rows they hold: where nine in
    ten have the same value, the tenth and what comes beyond it are all that can tell a change.
    """
    least = share * reference.sum()
    groups = np.zeros(reference.size, dtype=np.int64)
    held, group = 0.0, 0
    for index, rows in enumerate(reference):
        groups[index] = group
        held += rows
        following = reference[index + 1 :]
        heavy = np.flatnonzero(following >= least)
        light = following[: heavy[0]] if heavy.size else following
        if rows >= least or light.size == 0 or (held >= least and light.sum() >= least):
            group, held = group + 1, 0.0
    return groups


def regroup(counts: Counts, groups: NDArray[np.int64], size: int) -> Counts:
    """Sum of the last axis by group; ``size`` groups."""
    result = np.zeros((*counts.shape[:-1], size))
    np.add.at(result.T, groups, counts.T)
    return result
