"""Distance of two distributions from binned counts, and what chance alone makes of it.

All functions take counts per bin, so that millions of rows cost no more than the bins. Months of a hospital differ by
more than sampling error (seasons, returning patients); every test therefore divides by the overdispersion seen between
the months of the reference (quasi-likelihood: Wedderburn 1974; McCullagh and Nelder 1989, ch. 4).
"""

from __future__ import annotations

import math

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


def psi_chance_level(n: float, m: float, bins: int, alpha: float, dispersion: float, reference_months: int) -> float:
    """PSI that two samples of one distribution exceed with probability ``alpha``.

    Under the null PSI is distributed as ``(1/n + 1/m) * chi2(bins - 1)`` (Yurdakul 2018); the estimated dispersion
    turns chi-squared into F.
    """
    from scipy.special import chdtri, fdtri

    free = bins - 1
    if free < 1 or n <= 0 or m <= 0:
        return math.nan
    spread = 1 / n + 1 / m
    if reference_months < 2:
        return float(spread * chdtri(free, alpha))
    return float(spread * dispersion * free * fdtri(free, (reference_months - 1) * free, 1 - alpha))


def dispersion(months: Counts) -> float:
    """Variance between the months of a reference over the multinomial variance, at least 1.

    Args:
        months: rows per month and bin, shape ``(months, bins)``.
    """
    months = months[months.sum(axis=1) > 0]
    pooled = months.sum(axis=0)
    months, pooled = months[:, pooled > 0], pooled[pooled > 0]
    if months.shape[0] < 2 or pooled.size < 2:
        return 1.0
    expected = months.sum(axis=1, keepdims=True) * pooled / pooled.sum()
    free = (months.shape[0] - 1) * (pooled.size - 1)
    return max(1.0, float(((months - expected) ** 2 / expected).sum() / free))


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


def chi_squared(current: Counts, reference: Counts, inflation: float) -> tuple[float, float, int]:
    """Pearson's statistic of homogeneity divided by the dispersion, its p-value and degrees of freedom.

    Bins with fewer than five expected rows are pooled first.
    """
    from scipy.special import chdtrc

    table = pool_rare(np.vstack([current, reference]))
    if table.shape[1] < 2 or not table.sum(axis=1).all():
        return 0.0, 1.0, 0
    expected = table.sum(axis=1, keepdims=True) * table.sum(axis=0) / table.sum()
    statistic = float(((table - expected) ** 2 / expected).sum() / inflation)
    free = table.shape[1] - 1
    return statistic, float(chdtrc(free, statistic)), free


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
    """Index of the coarse bin of each fine bin: neighbours join until they hold ``share`` of the reference."""
    total = reference.sum()
    groups = np.zeros(reference.size, dtype=np.int64)
    held, group = 0.0, 0
    for index, rows in enumerate(reference):
        groups[index] = group
        held += rows
        if held >= share * total and reference[index + 1 :].sum() >= share * total:
            group, held = group + 1, 0.0
    return groups


def regroup(counts: Counts, groups: NDArray[np.int64], size: int) -> Counts:
    """Sum of the last axis by group; ``size`` groups."""
    result = np.zeros((*counts.shape[:-1], size))
    np.add.at(result.T, groups, counts.T)
    return result
