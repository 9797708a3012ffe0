"""How a model does in groups of patients, with closed-form intervals that keep a patient's stays together.

The AUROC is a sum of rows' contributions up to a remainder, so its variance, and that of any difference of AUROCs, is
the sum of squared contributions of the patients: DeLong et al., Biometrics 1988, in the clustered form of Obuchowski,
Biometrics 1997.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping
from statistics import NormalDist
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from health_pipeline.privacy import FREE_TEXT, hidden_groups, shown_words
from health_pipeline.promotion.evidence import NOTHING, Estimate, Subgroup

if TYPE_CHECKING:
    from health_pipeline.promotion.plan import Acceptance

Floats = NDArray[np.float64]


def auroc_with_influence(y: Floats, p: Floats) -> tuple[float, Floats]:
    """AUROC (ties count half) and each row's contribution to its error, shape (rows,).

    Both are NaN when only one outcome occurs.
    """
    positive = y == 1
    n_positive, n_negative = int(positive.sum()), int((~positive).sum())
    if n_positive == 0 or n_negative == 0:
        return float("nan"), np.full(y.size, np.nan)
    positives, negatives = np.sort(p[positive]), np.sort(p[~positive])

    def share_below(sorted_scores: Floats, scores: Floats) -> Floats:
        left, right = np.searchsorted(sorted_scores, scores, "left"), np.searchsorted(sorted_scores, scores, "right")
        return np.asarray((left + right) / (2 * sorted_scores.size))

    influence = np.empty(y.size)
    beaten = share_below(negatives, p[positive])
    value = float(beaten.mean())
    influence[positive] = (beaten - value) / n_positive
    influence[~positive] = (1 - share_below(positives, p[~positive]) - value) / n_negative
    return value, influence


def interval(value: float, influence: Floats, clusters: NDArray[np.intp], level: float) -> Estimate:
    """Normal interval of a number from its rows' contributions, summed by patient."""
    spread = float(np.sqrt(np.sum(np.bincount(clusters, weights=influence) ** 2)))
    half = NormalDist().inv_cdf((1 + level) / 2) * spread
    return Estimate(value, value - half, value + half)


def observed_expected(y: Floats, p: Floats, clusters: NDArray[np.intp], level: float) -> Estimate:
    """Observed over expected readmissions; interval on the log scale (ratio estimator, linearised)."""
    observed, expected = float(y.sum()), float(p.sum())
    if observed == 0 or expected <= 0:
        return NOTHING
    ratio = observed / expected
    on_log = interval(float(np.log(ratio)), (y - ratio * p) / observed, clusters, level)
    if on_log.low is None or on_log.high is None:
        return NOTHING
    return Estimate(ratio, float(np.exp(on_log.low)), float(np.exp(on_log.high)))


def subgroups(
    y: Floats,
    challenger: Floats,
    incumbent: Floats | None,
    clusters: NDArray[np.intp],
    groups: Mapping[str, NDArray[np.object_]],
    *,
    acceptance: Acceptance,
    level: float,
    small_number: int,
) -> tuple[Subgroup, ...]:
    """Evidence for each group of each attribute, in order of name.

    Args:
        y: outcome, shape (rows,).
        challenger: its probabilities, shape (rows,).
        incumbent: its probabilities, or None.
        clusters: patient of each row as 0, 1, ...
        groups: level of each row by attribute; rare words of free text are pooled here.
        acceptance: how many rows and readmissions a verdict needs.
        level: two-sided level of all intervals together (Bonferroni over the groups judged).
        small_number: counts below it are not published.
    """
    masks = {
        (attribute, str(name)): levels == name
        for attribute, recorded in sorted(groups.items())
        for levels in [_shown(recorded, small_number) if attribute in FREE_TEXT else recorded]
        for name in sorted(set(levels.tolist()))
    }

    def has_enough(mask: NDArray[np.bool_]) -> bool:
        rows, events = int(mask.sum()), int(y[mask].sum())
        needed = max(acceptance.subgroup_min_events, 1)
        return rows >= acceptance.subgroup_min_rows and min(events, rows - events) >= needed

    judged = {key for key, mask in masks.items() if has_enough(mask)}
    each = 1 - (1 - level) / max(len(judged), 1)
    hidden = _hidden(masks, small_number)
    return tuple(
        _subgroup(
            key,
            mask=masks[key],
            y=y,
            challenger=challenger,
            incumbent=incumbent,
            clusters=clusters,
            level=each,
            hidden=key in hidden,
            others=has_enough(~masks[key]),
        )
        if key in judged
        else Subgroup(*key, rows=None if key in hidden else int(masks[key].sum()), judged=False)
        for key in masks
    )


def _shown(levels: NDArray[np.object_], small_number: int) -> NDArray[np.object_]:
    shown = shown_words(Counter(levels.tolist()), small_number)
    return np.array([shown[level] for level in levels.tolist()], dtype=object)


def _hidden(masks: Mapping[tuple[str, str], NDArray[np.bool_]], small_number: int) -> set[tuple[str, str]]:
    """Groups whose count stays unpublished: the small ones, and a further one where subtraction left a small number."""
    hidden: set[tuple[str, str]] = set()
    for attribute in {key[0] for key in masks}:
        counts = {key: int(mask.sum()) for key, mask in masks.items() if key[0] == attribute}
        hidden |= hidden_groups(counts, {key for key, count in counts.items() if count < small_number}, small_number)
    return hidden


def _subgroup(
    key: tuple[str, str],
    *,
    mask: NDArray[np.bool_],
    y: Floats,
    challenger: Floats,
    incumbent: Floats | None,
    clusters: NDArray[np.intp],
    level: float,
    hidden: bool,
    others: bool,
) -> Subgroup:
    inside, inside_influence = auroc_with_influence(y[mask], challenger[mask])
    # Of a handful of others the AUROC is unknown, or anything at all with an interval of no width.
    gap = Estimate(0.0, 0.0, 0.0)
    if others:
        outside, outside_influence = auroc_with_influence(y[~mask], challenger[~mask])
        influence = np.empty(y.size)
        influence[mask], influence[~mask] = inside_influence, -outside_influence
        gap = interval(inside - outside, influence, clusters, level)
    change = NOTHING
    if incumbent is not None:
        before, before_influence = auroc_with_influence(y[mask], incumbent[mask])
        change = interval(inside - before, inside_influence - before_influence, clusters[mask], level)
    return Subgroup(
        *key,
        rows=None if hidden else int(mask.sum()),
        judged=True,
        observed_expected=observed_expected(y[mask], challenger[mask], clusters[mask], level),
        discrimination_gap=gap,
        change=change,
    )
