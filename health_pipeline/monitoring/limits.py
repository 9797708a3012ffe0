"""When a measure is worse than it should be: beyond chance, and by enough to matter.

A model is measured against its own holdout (what the gates accepted), calibration against its target. Relevance limits
and the normal quantile of chance both have to be exceeded, so that small months do not cry wolf and large hospitals
are not woken by trifles.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from statistics import NormalDist

from health_pipeline.modeling.metrics import Estimate

WARNING_LEVEL = 0.01
ALARM_LEVEL = 0.001
"""Chance of a stable measure to exceed the limit on one side, if only chance counted."""


@dataclass(frozen=True, slots=True)
class Rule:
    """Relevance limits of one measure.

    Attributes:
        direction: ``loss`` (lower is worse), ``rise`` (higher is worse), ``target`` (away from the target) or
            ``ratio`` (away from 1, in logs).
        warning: smallest departure worth a warning.
        alarm: smallest departure worth an alarm; None: never alarms alone.
        target: for ``target``.
    """

    direction: str
    warning: float
    alarm: float | None = None
    target: float | None = None


RULES = {
    "roc_auc": Rule("loss", 0.02, 0.05),
    "average_precision": Rule("loss", 0.04),
    "accuracy": Rule("loss", 0.05),
    "precision": Rule("loss", 0.08),
    "recall": Rule("loss", 0.10),
    "f1": Rule("loss", 0.08),
    "top_decile_precision": Rule("loss", 0.08),
    "top_decile_lift": Rule("loss", 0.5),
    "brier": Rule("rise", 0.02),
    "log_loss": Rule("rise", 0.05),
    "ece": Rule("rise", 0.03),
    "calibration_slope": Rule("target", 0.25, 0.50, 1.0),
    "calibration_intercept": Rule("target", 0.15, 0.35, 0.0),
    "observed_expected": Rule("ratio", math.log(1.15), math.log(1.35), 1.0),
}


def standard_error(estimate: Estimate) -> float:
    """Half the width of the 95 % interval over 1.96; NaN without an interval."""
    return (estimate.ci_high - estimate.ci_low) / 3.92


def both_sides(metric: str, threshold: float) -> tuple[float, ...]:
    """The warning limits that a stored threshold stands for: two for a measure that can depart either way."""
    rule = RULES[metric]
    if rule.direction == "ratio":
        return threshold, 1 / threshold
    if rule.direction == "target":
        return threshold, 2 * (rule.target or 0.0) - threshold
    return (threshold,)


def judge(metric: str, measured: Estimate, baseline: Estimate | None, groups: int = 1) -> tuple[float | None, str]:
    """Limit of the warning and status of a measure.

    Args:
        metric: name of the measure.
        measured: value and interval in the month.
        baseline: the same measure on the holdout of the model; None where it is not known.
        groups: how many are looked at together. Limits are widened so that chance lets any of them warn as rarely as
            one alone (Bonferroni).

    Returns:
        The limit (None where there is nothing to compare with) and ``ok``, ``warning``, ``alarm`` or ``no_data``.
    """
    error = standard_error(measured)
    if not (math.isfinite(measured.value) and math.isfinite(error)):
        return None, "no_data"
    rule = RULES[metric]
    if rule.direction in {"loss", "rise"}:
        if baseline is None or not math.isfinite(baseline.value):
            return None, "no_data"
        total = math.hypot(error, standard_error(baseline) if math.isfinite(standard_error(baseline)) else 0.0)
        sign = -1.0 if rule.direction == "loss" else 1.0
        departure = sign * (measured.value - baseline.value)
        warning, alarm = _limits(rule, total, groups)
        return baseline.value + sign * warning, _status(departure, warning, alarm)
    if rule.direction == "ratio":
        if measured.value <= 0:
            return None, "alarm"
        low = max(measured.ci_low, measured.value / 10)
        total = (math.log(measured.ci_high) - math.log(low)) / 3.92
        warning, alarm = _limits(rule, total, groups)
        departure = math.log(measured.value)
        return math.exp(math.copysign(warning, departure)), _status(abs(departure), warning, alarm)
    target = rule.target or 0.0
    departure = measured.value - target
    warning, alarm = _limits(rule, error, groups)
    return target + math.copysign(warning, departure), _status(abs(departure), warning, alarm)


def _limits(rule: Rule, error: float, groups: int) -> tuple[float, float | None]:
    warning, alarm = (NormalDist().inv_cdf(1 - level / groups) * error for level in (WARNING_LEVEL, ALARM_LEVEL))
    return max(rule.warning, warning), None if rule.alarm is None else max(rule.alarm, alarm)


def _status(departure: float, warning: float, alarm: float | None) -> str:
    if alarm is not None and departure > alarm:
        return "alarm"
    return "warning" if departure > warning else "ok"
