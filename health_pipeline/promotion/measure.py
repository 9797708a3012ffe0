"""Measures challenger and incumbent on the same rows."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from health_pipeline.promotion.candidates import LOWER_IS_BETTER
from health_pipeline.promotion.criteria import SECONDARY_METRICS
from health_pipeline.promotion.evidence import NOTHING, Estimate, Subgroup
from health_pipeline.promotion.policy import Policy
from health_pipeline.promotion.subgroups import subgroups

if TYPE_CHECKING:
    from health_pipeline.modeling.metrics import Resampled

Floats = NDArray[np.float64]

_TOP_SHARE = 0.1
_LIFT = "top_decile_lift"
_CALIBRATION = ("calibration_slope", "calibration_intercept", "observed_expected")


@dataclass(frozen=True)
class Scored:
    """A model's probabilities on the holdout and the threshold of its flag."""

    probabilities: Floats
    threshold: float


@dataclass(frozen=True)
class Holdout:
    """Rows both models are judged on.

    Attributes:
        y: outcome, 0 or 1, shape (rows,).
        patients: patient of each row as 0, 1, ..., shape (rows,).
        lace: LACE index of each row, NaN where unknown; None when the features hold none.
        groups: level of each row by attribute.
    """

    y: Floats
    patients: NDArray[np.intp]
    lace: Floats | None
    groups: Mapping[str, NDArray[np.object_]]

    @property
    def rows(self) -> int:
        """Discharges."""
        return int(self.y.size)

    @property
    def events(self) -> int:
        """Readmissions."""
        return int(self.y.sum())

    @property
    def patient_count(self) -> int:
        """People."""
        return int(np.unique(self.patients).size)

    @property
    def measurable(self) -> bool:
        """Whether both outcomes occur."""
        return 0 < self.events < self.rows


@dataclass(frozen=True)
class Bootstrap:
    """How intervals are drawn."""

    replicates: int
    seed: int


@dataclass(frozen=True)
class Comparison:
    """Challenger against incumbent; the fields are those of ``Evidence``."""

    difference: Mapping[str, Estimate] = field(default_factory=dict)
    non_inferiority: Estimate = NOTHING


@dataclass(frozen=True)
class Measured:
    """All that the shared rows say about challenger and incumbent."""

    challenger_metrics: Mapping[str, Estimate] = field(default_factory=dict)
    incumbent_metrics: Mapping[str, Estimate] = field(default_factory=dict)
    comparison: Comparison = field(default_factory=Comparison)
    lace: Estimate = NOTHING
    subgroups: tuple[Subgroup, ...] = ()


def measure(
    holdout: Holdout,
    challenger: Scored | None,
    incumbent: Scored | None,
    policy: Policy,
    bootstrap: Bootstrap,
    *,
    compared: int,
    small_number: int,
) -> Measured:
    """Everything a decision may rest on; what is not there is not measured.

    Args:
        holdout: rows both are judged on.
        challenger: scores of the challenger.
        incumbent: scores of the incumbent.
        policy: metrics and levels.
        bootstrap: replicates and seed.
        compared: number of candidates the challenger was picked from.
        small_number: counts below it are not published.
    """
    new, old = _resampled(holdout, challenger, incumbent, policy=policy, bootstrap=bootstrap)
    if challenger is None:
        return Measured(incumbent_metrics=_metrics(old, policy))
    return Measured(
        challenger_metrics=_metrics(new, policy),
        incumbent_metrics=_metrics(old, policy),
        comparison=_compared(new, old, policy, compared),
        lace=against_lace(holdout, challenger, policy, bootstrap),
        subgroups=judge_subgroups(holdout, challenger, incumbent, policy, small_number),
    )


def model_metrics(holdout: Holdout, model: Scored, policy: Policy, bootstrap: Bootstrap) -> dict[str, Estimate]:
    """Metrics of one model with patient-clustered intervals; nothing when only one outcome occurs."""
    (drawn,) = _resampled(holdout, model, policy=policy, bootstrap=bootstrap)
    return _metrics(drawn, policy)


def compare(
    holdout: Holdout, challenger: Scored, incumbent: Scored, policy: Policy, bootstrap: Bootstrap, *, compared: int
) -> Comparison:
    """Paired differences, challenger minus incumbent, positive is better.

    The challenger was picked from ``compared`` candidates on these rows, so its intervals are widened (Bonferroni): the
    best of several equal candidates must not look better than production by the picking alone.
    """
    new, old = _resampled(holdout, challenger, incumbent, policy=policy, bootstrap=bootstrap)
    return _compared(new, old, policy, compared)


def _resampled(
    holdout: Holdout, *models: Scored | None, policy: Policy, bootstrap: Bootstrap
) -> list[dict[str, Resampled]]:
    """Measures of the models on the same resampled patients; none of a model that is not there or of one outcome."""
    from health_pipeline.modeling.metrics import resample

    there = [model for model in models if model is not None]
    if not there or not holdout.measurable:
        return [{} for _ in models]
    drawn = iter(
        resample(
            holdout.y,
            [(model.probabilities, model.threshold) for model in there],
            clusters=holdout.patients,
            metrics=tuple(dict.fromkeys((*_compared_names(policy), *_CALIBRATION, _LIFT))),
            replicates=bootstrap.replicates,
            seed=bootstrap.seed,
        )
    )
    return [{} if model is None else next(drawn) for model in models]


def _compared_names(policy: Policy) -> tuple[str, ...]:
    return tuple(dict.fromkeys((policy.primary_metric, "roc_auc", *SECONDARY_METRICS)))


def _metrics(drawn: Mapping[str, Resampled], policy: Policy) -> dict[str, Estimate]:
    from health_pipeline.modeling.metrics import interval

    level = policy.confidence_level
    found = {name: Estimate(each.value, *interval(each.replicates, level)) for name, each in drawn.items()}
    return _with_capture(found, policy)


def _compared(new: Mapping[str, Resampled], old: Mapping[str, Resampled], policy: Policy, compared: int) -> Comparison:
    if not new or not old:
        return Comparison()
    alpha = (1 - policy.confidence_level) / max(compared, 1)
    found = {name: _difference(name, new[name], old[name], alpha) for name in (*_compared_names(policy), _LIFT)}
    difference = {name: two_sided for name, (two_sided, _) in found.items()}
    return Comparison(_with_capture(difference, policy), non_inferiority=found[policy.primary_metric][1])


def _with_capture(found: dict[str, Estimate], policy: Policy) -> dict[str, Estimate]:
    """The lift of the riskiest tenth as the share of readmissions it holds."""
    if _LIFT not in found:
        return found
    capture = _times(found[_LIFT], _TOP_SHARE)
    kept = {name: each for name, each in found.items() if name != _LIFT or name == policy.primary_metric}
    return {**kept, "top_decile_capture": capture}


def against_lace(holdout: Holdout, challenger: Scored, policy: Policy, bootstrap: Bootstrap) -> Estimate:
    """AUROC of the challenger minus AUROC of the LACE index, on the rows that have one."""
    from health_pipeline.modeling.metrics import resample

    if holdout.lace is None:
        return NOTHING
    known = np.isfinite(holdout.lace)
    if not known.any():
        return NOTHING
    new, old = resample(
        holdout.y[known],
        [(challenger.probabilities[known], challenger.threshold), (_unit_range(holdout.lace[known]), 0.5)],
        clusters=holdout.patients[known],
        metrics=("roc_auc",),
        replicates=bootstrap.replicates,
        seed=bootstrap.seed,
    )
    return _difference("roc_auc", new["roc_auc"], old["roc_auc"], 1 - policy.confidence_level)[0]


def judge_subgroups(
    holdout: Holdout, challenger: Scored, incumbent: Scored | None, policy: Policy, small_number: int
) -> tuple[Subgroup, ...]:
    """Evidence for every group of patients."""
    return subgroups(
        holdout.y,
        challenger.probabilities,
        None if incumbent is None else incumbent.probabilities,
        holdout.patients,
        holdout.groups,
        acceptance=policy.acceptance,
        level=policy.confidence_level,
        small_number=small_number,
    )


def _difference(metric: str, new: Resampled, old: Resampled, alpha: float) -> tuple[Estimate, Estimate]:
    """Difference with its two-sided interval, and with the bounds of two one-sided ones; positive is better."""
    sign = -1.0 if metric in LOWER_IS_BETTER else 1.0
    value, draws = sign * (new.value - old.value), sign * (new.replicates - old.replicates)
    if not np.isfinite(draws).all():
        return Estimate(value), Estimate(value)
    low, lower, upper, high = np.quantile(draws, [alpha / 2, alpha, 1 - alpha, 1 - alpha / 2])
    return Estimate(value, low, high), Estimate(value, lower, upper)


def _times(estimate: Estimate, factor: float) -> Estimate:
    return Estimate(
        *(None if part is None else part * factor for part in (estimate.value, estimate.low, estimate.high))
    )


def _unit_range(score: Floats) -> Floats:
    """The same order within [0, 1]."""
    low, high = float(score.min()), float(score.max())
    return np.full_like(score, 0.5) if high == low else (score - low) / (high - low)
