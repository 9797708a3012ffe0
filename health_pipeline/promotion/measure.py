"""Measures challenger and incumbent on the same rows."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field

import numpy as np
from numpy.typing import NDArray

from health_pipeline.promotion.candidates import LOWER_IS_BETTER
from health_pipeline.promotion.criteria import SECONDARY_METRICS
from health_pipeline.promotion.evidence import NOTHING, Estimate, Subgroup
from health_pipeline.promotion.policy import Policy
from health_pipeline.promotion.subgroups import subgroups

Floats = NDArray[np.float64]

_TOP_SHARE = 0.1
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
    old = {} if incumbent is None else model_metrics(holdout, incumbent, policy, bootstrap)
    if challenger is None:
        return Measured(incumbent_metrics=old)
    comparison = Comparison()
    if incumbent is not None:
        comparison = compare(holdout, challenger, incumbent, policy, bootstrap, compared=compared)
    return Measured(
        challenger_metrics=model_metrics(holdout, challenger, policy, bootstrap),
        incumbent_metrics=old,
        comparison=comparison,
        lace=against_lace(holdout, challenger, policy, bootstrap),
        subgroups=judge_subgroups(holdout, challenger, incumbent, policy, small_number),
    )


def model_metrics(holdout: Holdout, model: Scored, policy: Policy, bootstrap: Bootstrap) -> dict[str, Estimate]:
    """Metrics of one model with patient-clustered intervals; nothing when only one outcome occurs."""
    from health_pipeline.modeling.metrics import measure_with_intervals

    if not holdout.measurable:
        return {}
    names = tuple(dict.fromkeys((policy.primary_metric, "roc_auc", *SECONDARY_METRICS, *_CALIBRATION)))
    found = measure_with_intervals(
        holdout.y,
        model.probabilities,
        threshold=model.threshold,
        clusters=holdout.patients,
        metrics=(*names, "top_decile_lift"),
        replicates=bootstrap.replicates,
        seed=bootstrap.seed,
        level=policy.confidence_level,
    )
    estimates = {name: Estimate(found[name].value, found[name].ci_low, found[name].ci_high) for name in names}
    lift = found["top_decile_lift"]
    estimates["top_decile_capture"] = _times(Estimate(lift.value, lift.ci_low, lift.ci_high), _TOP_SHARE)
    return estimates


def compare(
    holdout: Holdout, challenger: Scored, incumbent: Scored, policy: Policy, bootstrap: Bootstrap, *, compared: int
) -> Comparison:
    """Paired differences, challenger minus incumbent, positive is better.

    The challenger was picked from ``compared`` candidates on these rows, so its intervals are widened (Bonferroni): the
    best of several equal candidates must not look better than production by the picking alone.
    """
    if not holdout.measurable:
        return Comparison()
    alpha = (1 - policy.confidence_level) / max(compared, 1)
    names = tuple(dict.fromkeys((policy.primary_metric, "roc_auc", *SECONDARY_METRICS)))
    difference, non_inferiority = {}, NOTHING
    for name in names:
        two_sided, one_sided = _paired(
            name, holdout.y, incumbent, challenger, holdout.patients, bootstrap=bootstrap, alpha=alpha
        )
        difference[name] = two_sided
        if name == policy.primary_metric:
            non_inferiority = one_sided
    lift, _ = _paired(
        "top_decile_lift", holdout.y, incumbent, challenger, holdout.patients, bootstrap=bootstrap, alpha=alpha
    )
    difference["top_decile_capture"] = _times(lift, _TOP_SHARE)
    return Comparison(difference, non_inferiority)


def against_lace(holdout: Holdout, challenger: Scored, policy: Policy, bootstrap: Bootstrap) -> Estimate:
    """AUROC of the challenger minus AUROC of the LACE index, on the rows that have one."""
    if holdout.lace is None:
        return NOTHING
    known = np.isfinite(holdout.lace)
    if not known.any():
        return NOTHING
    y = holdout.y[known]
    lace = Scored(_unit_range(holdout.lace[known]), 0.5)
    model = Scored(challenger.probabilities[known], challenger.threshold)
    alpha = 1 - policy.confidence_level
    estimate, _ = _paired("roc_auc", y, lace, model, holdout.patients[known], bootstrap=bootstrap, alpha=alpha)
    return estimate


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


def _paired(
    metric: str,
    y: Floats,
    old: Scored,
    new: Scored,
    patients: NDArray[np.intp],
    *,
    bootstrap: Bootstrap,
    alpha: float,
) -> tuple[Estimate, Estimate]:
    """Difference with its two-sided interval, and with the bounds of two one-sided ones."""
    from health_pipeline.modeling.metrics import paired_bootstrap

    found = paired_bootstrap(
        metric,
        y,
        old.probabilities,
        new.probabilities,
        patients,
        replicates=bootstrap.replicates,
        seed=bootstrap.seed,
        level=1 - alpha,
        threshold_a=old.threshold,
        threshold_b=new.threshold,
    )
    sign = -1.0 if metric in LOWER_IS_BETTER else 1.0
    value, draws = sign * found.difference, sign * found.replicates
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
