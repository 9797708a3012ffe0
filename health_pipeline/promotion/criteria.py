"""The criteria of a promotion: each turns evidence and policy into a verdict with its numbers.

Every criterion fails closed: a number that is missing or not finite never passes. Which criteria a decision needs is
said once, in :data:`RULES`.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from enum import StrEnum
from typing import Literal

from health_pipeline.promotion.evidence import NOTHING, Estimate, Evidence, Subgroup
from health_pipeline.promotion.findings import Band, Finding, above, at_least, at_most, not_applicable, within
from health_pipeline.promotion.policy import Policy

Severity = Literal["WARN", "ERROR"]

SECONDARY_METRICS = ("average_precision", "brier")


class Outcome(StrEnum):
    """What a decision can be."""

    INITIAL = "INITIAL"
    DEPLOY = "DEPLOY"
    DEPLOY_REFRESH = "DEPLOY_REFRESH"
    SKIP = "SKIP"


@dataclass(frozen=True)
class Criterion:
    """One criterion, judged.

    Attributes:
        value: the number judged; ``None`` when it was not measured or the criterion does not apply.
        threshold: the limit it was held against (of a band, the nearer end).
        severity: ``ERROR`` when no promotion is possible without it, ``WARN`` when it tells routes apart.
        detail: a sentence with the numbers.
        applicable: whether the criterion says anything here; one that does not apply stands as passed.
        near_miss: the value lies so close to the limit that a person should look.
    """

    criterion: str
    value: float | None
    threshold: float | None
    passed: bool
    severity: Severity
    detail: str
    applicable: bool = True
    near_miss: bool = False


def candidate(evidence: Evidence, policy: Policy) -> Finding:
    """A model was trained this month."""
    del policy
    if evidence.challenger is None:
        return Finding(False, "no candidate was trained this month")
    return Finding(True, f"{evidence.challenger.model_id}, best of {evidence.compared}")


def change_control_plan(evidence: Evidence, policy: Policy) -> Finding:
    """The plan allows this change under these settings."""
    broken = evidence.plan_violations
    if broken:
        return Finding(False, f"plan {policy.plan_hash[:8]}: {'; '.join(broken)}", float(len(broken)), 0.0)
    return Finding(True, f"plan {policy.plan_hash[:8]} allows it", 0.0, 0.0)


def profile(evidence: Evidence, policy: Policy) -> Finding:
    """The model was trained with an effort that may serve."""
    if evidence.challenger is None:
        return Finding(False, "no candidate")
    trained = evidence.challenger.profile
    word = "may serve" if trained in policy.profiles else f"may not serve, only {', '.join(policy.profiles)} may"
    return Finding(trained in policy.profiles, f"a model of the {trained} profile {word}")


def sample_size(evidence: Evidence, policy: Policy) -> Finding:
    """Enough discharges on the holdout."""
    limit = policy.min_samples
    detail = f"{evidence.rows} discharges of {evidence.patients} patients, {limit} needed"
    return at_least(evidence.rows, limit, 0.1 * limit, detail)


def event_count(evidence: Evidence, policy: Policy) -> Finding:
    """Enough readmissions, and enough discharges without one."""
    fewer = min(evidence.events, evidence.rows - evidence.events)
    detail = (
        f"{evidence.events} readmissions in {evidence.rows} discharges, {policy.min_events} of the rarer kind needed"
    )
    return at_least(fewer, policy.min_events, 0.1 * policy.min_events, detail)


def leak_ceiling(evidence: Evidence, policy: Policy) -> Finding:
    """No honest model is this good: above the ceiling, suspect a leak."""
    estimate = _metric(evidence, "roc_auc")
    limit = policy.leak_ceiling
    return at_most(estimate.value, limit, 0.02, f"AUROC {estimate}; above {limit} a leak is suspected")


def better_than_chance(evidence: Evidence, policy: Policy) -> Finding:
    """The whole interval of the AUROC lies above one half."""
    del policy
    estimate = _metric(evidence, "roc_auc")
    return above(estimate.low, 0.5, 0.01, f"AUROC {estimate}; its lower bound must exceed 0.5")


def improvement(evidence: Evidence, policy: Policy) -> Finding:
    """Better than production by more than the threshold."""
    if evidence.incumbent is None:
        return not_applicable("no incumbent")
    limit, gain = policy.improvement_threshold, _gain(evidence, policy.primary_metric)
    detail = f"{policy.primary_metric} gain {gain}; more than {limit} is needed"
    return above(gain.value, limit, max(0.1 * limit, 0.001), detail)


def significance(evidence: Evidence, policy: Policy) -> Finding:
    """The paired interval of the difference excludes zero."""
    if evidence.incumbent is None:
        return not_applicable("no incumbent")
    gain = _gain(evidence, policy.primary_metric)
    spread = f"paired patient-clustered bootstrap, level {policy.confidence_level:g}"
    if evidence.compared > 1:
        spread += f", Bonferroni for {evidence.compared} candidates"
    return above(gain.low, 0.0, 0.002, f"{policy.primary_metric} gain {gain} ({spread}); its lower bound must exceed 0")


def non_inferiority(evidence: Evidence, policy: Policy) -> Finding:
    """Not worse than production by more than the margin."""
    if evidence.incumbent is None:
        return not_applicable("no incumbent")
    bound, limit = evidence.non_inferiority, -policy.max_degradation
    detail = f"{policy.primary_metric} gain {bound} (one-sided level {policy.confidence_level:g}); "
    return above(bound.low, limit, 0.002, detail + f"its lower bound must exceed {limit:g}")


def staleness(evidence: Evidence, policy: Policy) -> Finding:
    """The incumbent is old enough to be refreshed by a model that is merely not worse."""
    days = evidence.staleness_days
    if days is None:
        return not_applicable("no incumbent")
    limit = policy.max_days_since_update
    return above(days, limit, 0.0, f"the incumbent is {days} days old in data time; a refresh needs more than {limit}")


def degradation(evidence: Evidence, policy: Policy) -> Finding:
    """No other metric pays for the gain."""
    if evidence.incumbent is None:
        return not_applicable("no incumbent")
    names = (policy.primary_metric, *(name for name in SECONDARY_METRICS if name != policy.primary_metric))
    gains = {name: _gain(evidence, name) for name in names}
    detail = "; ".join(f"{name} {gain}" for name, gain in gains.items())
    values = [gain.value for gain in gains.values()]
    worst = None if any(value is None for value in values) else min(value for value in values if value is not None)
    limit = -policy.max_degradation
    return at_least(worst, limit, 0.001, f"differences (positive is better): {detail}; none may be below {limit:g}")


def calibration_slope(evidence: Evidence, policy: Policy) -> Finding:
    """Probabilities are spread rightly: 1 is perfect, below 1 too extreme."""
    return _calibration(evidence, "calibration_slope", policy.acceptance.calibration_slope)


def calibration_intercept(evidence: Evidence, policy: Policy) -> Finding:
    """Probabilities are at the right height on the logit scale: 0 is perfect."""
    return _calibration(evidence, "calibration_intercept", policy.acceptance.calibration_intercept)


def observed_expected(evidence: Evidence, policy: Policy) -> Finding:
    """Readmissions observed over expected: 1 is perfect."""
    return _calibration(evidence, "observed_expected", policy.acceptance.observed_expected)


def subgroup_discrimination(evidence: Evidence, policy: Policy) -> Finding:
    """In no group does the model tell patients apart far worse than among everybody else."""
    limit = -policy.acceptance.subgroup_discrimination_gap
    return _subgroups(
        evidence, lambda group: _beyond(group.discrimination_gap, (limit, None)), "AUROC gap", f"{limit:g}"
    )


def subgroup_calibration(evidence: Evidence, policy: Policy) -> Finding:
    """In no group is risk far over- or understated."""
    band = policy.acceptance.subgroup_observed_expected
    return _subgroups(
        evidence,
        lambda group: _beyond(group.observed_expected, band),
        "observed/expected",
        f"{band[0]:g} to {band[1]:g}",
    )


def subgroup_change(evidence: Evidence, policy: Policy) -> Finding:
    """No group is worse off than with the incumbent."""
    if evidence.incumbent is None:
        return not_applicable("no incumbent")
    limit = -policy.acceptance.subgroup_loss
    return _subgroups(
        evidence, lambda group: _beyond(group.change, (limit, None)), "AUROC against the incumbent", f"{limit:g}"
    )


def better_than_lace(evidence: Evidence, policy: Policy) -> Finding:
    """Better than the index a ward can add up by hand; a first model must at least not be proven worse."""
    del policy
    if not evidence.lace_available:
        return not_applicable("the features hold no LACE index")
    gain = evidence.lace
    if evidence.incumbent is None:
        return above(gain.high, 0.0, 0.005, f"AUROC gain over LACE {gain}; its upper bound must exceed 0")
    return above(gain.low, 0.0, 0.005, f"AUROC gain over LACE {gain}; its lower bound must exceed 0")


def top_decile_capture(evidence: Evidence, policy: Policy) -> Finding:
    """The riskiest tenth holds more readmissions than a tenth taken at random."""
    estimate, limit = _metric(evidence, "top_decile_capture"), policy.acceptance.top_decile_capture_above
    return above(
        estimate.value,
        limit,
        0.01,
        f"the riskiest tenth holds {estimate} of the readmissions; more than {limit:g} is needed",
    )


def top_decile_loss(evidence: Evidence, policy: Policy) -> Finding:
    """The riskiest tenth holds no fewer readmissions than with the incumbent."""
    if evidence.incumbent is None:
        return not_applicable("no incumbent")
    gain, limit = _gain(evidence, "top_decile_capture"), -policy.acceptance.top_decile_capture_loss
    return at_least(
        gain.value,
        limit,
        0.002,
        f"gain in the share of readmissions in the riskiest tenth {gain}; at least {limit:g} is needed",
    )


def _metric(evidence: Evidence, name: str) -> Estimate:
    return evidence.challenger.metric(name) if evidence.challenger is not None else NOTHING


def _gain(evidence: Evidence, name: str) -> Estimate:
    return evidence.difference.get(name, NOTHING)


def _calibration(evidence: Evidence, name: str, band: Band) -> Finding:
    estimate = _metric(evidence, name)
    return within(estimate, band, f"{name.replace('_', ' ')} {estimate}; {band[0]:g} to {band[1]:g} is accepted")


def _beyond(estimate: Estimate, band: tuple[float, float | None]) -> bool | None:
    """Whether the whole interval lies outside the band; ``None`` when it was not measured."""
    if estimate.low is None or estimate.high is None:
        return None
    return estimate.high < band[0] or (band[1] is not None and estimate.low > band[1])


def _subgroups(evidence: Evidence, beyond: Callable[[Subgroup], bool | None], what: str, tolerance: str) -> Finding:
    judged = [group for group in evidence.subgroups if group.judged]
    if not evidence.subgroups:
        return not_applicable("the features hold no subgroup attribute")
    if not judged:
        return not_applicable("no subgroup has enough rows and readmissions for a verdict")
    verdicts = {group.name: beyond(group) for group in judged}
    failing = [name for name, verdict in verdicts.items() if verdict]
    missing = [name for name, verdict in verdicts.items() if verdict is None]
    named = (("beyond tolerance", failing), ("not measured", missing))
    said = "; ".join(f"{words}: {', '.join(names)}" for words, names in named if names) or "all within tolerance"
    return Finding(
        not failing and not missing,
        f"{what} in {len(judged)} of {len(evidence.subgroups)} groups judged, tolerance {tolerance}; {said}",
        float(len(failing) + len(missing)),
        0.0,
    )


@dataclass(frozen=True)
class Rule:
    """A criterion and the decisions that need it.

    Attributes:
        needed_by: decisions that are impossible when the criterion fails.
        forcible: whether a person's order overrides it.
    """

    name: str
    judge: Callable[[Evidence, Policy], Finding]
    needed_by: frozenset[Outcome]
    forcible: bool

    @property
    def severity(self) -> Severity:
        """``ERROR`` when every promotion over an incumbent needs it."""
        return "ERROR" if {Outcome.DEPLOY, Outcome.DEPLOY_REFRESH} <= self.needed_by else "WARN"

    def apply(self, evidence: Evidence, policy: Policy) -> Criterion:
        """Judge the evidence."""
        found = self.judge(evidence, policy)
        return Criterion(
            criterion=self.name,
            value=found.value,
            threshold=found.threshold,
            passed=found.passed,
            severity=self.severity,
            detail=found.detail,
            applicable=found.applicable,
            near_miss=found.near_miss,
        )


_ANY = frozenset({Outcome.INITIAL, Outcome.DEPLOY, Outcome.DEPLOY_REFRESH})
_OVER_INCUMBENT = frozenset({Outcome.DEPLOY, Outcome.DEPLOY_REFRESH})
_DEPLOY = frozenset({Outcome.DEPLOY})
_REFRESH = frozenset({Outcome.DEPLOY_REFRESH})

RULES: tuple[Rule, ...] = (
    Rule("candidate", candidate, _ANY, forcible=False),
    Rule("change_control_plan", change_control_plan, _ANY, forcible=False),
    Rule("profile", profile, _ANY, forcible=False),
    Rule("sample_size", sample_size, _ANY, forcible=True),
    Rule("event_count", event_count, _ANY, forcible=True),
    Rule("leak_ceiling", leak_ceiling, _ANY, forcible=False),
    Rule("better_than_chance", better_than_chance, _ANY, forcible=False),
    Rule("improvement", improvement, _DEPLOY, forcible=True),
    Rule("significance", significance, _DEPLOY, forcible=True),
    Rule("staleness", staleness, _REFRESH, forcible=True),
    Rule("non_inferiority", non_inferiority, _REFRESH, forcible=True),
    Rule("degradation", degradation, _OVER_INCUMBENT, forcible=True),
    Rule("calibration_slope", calibration_slope, _ANY, forcible=True),
    Rule("calibration_intercept", calibration_intercept, _ANY, forcible=True),
    Rule("observed_expected", observed_expected, _ANY, forcible=True),
    Rule("subgroup_discrimination", subgroup_discrimination, _ANY, forcible=True),
    Rule("subgroup_calibration", subgroup_calibration, _ANY, forcible=True),
    Rule("subgroup_change", subgroup_change, _OVER_INCUMBENT, forcible=True),
    Rule("better_than_lace", better_than_lace, _ANY, forcible=True),
    Rule("top_decile_capture", top_decile_capture, _ANY, forcible=True),
    Rule("top_decile_loss", top_decile_loss, _OVER_INCUMBENT, forcible=True),
)
