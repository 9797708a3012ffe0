"""The decision: one pure function from evidence to INITIAL, DEPLOY, DEPLOY_REFRESH or SKIP."""

from __future__ import annotations

import datetime as dt
from dataclasses import dataclass

from health_pipeline.months import shift
from health_pipeline.promotion.criteria import RULES, Criterion, Outcome
from health_pipeline.promotion.evidence import Evidence
from health_pipeline.promotion.policy import Policy

_ADVICE = {
    "candidate": "Look up in models.<family> why the month was skipped (thin data, too few readmissions).",
    "change_control_plan": "Have the change reviewed and the plan amended, or bring settings back within it.",
    "profile": "Train with the standard or thorough profile; quick models are for trying out.",
    "sample_size": "Raise windows.holdout_months so that more months are pooled.",
    "event_count": "Raise windows.holdout_months so that more readmissions are pooled.",
    "leak_ceiling": "Look for a feature that knows the outcome before anything else is done with this model.",
    "better_than_chance": "Check that features and labels of the training months are not broken.",
    "improvement": "Try other features or the thorough profile; the champion is as good as the data allow so far.",
    "significance": "Pool more holdout months: the gain may be real but is not proven on these rows.",
    "staleness": "Nothing to do: the champion is young and the challenger no better.",
    "non_inferiority": "Pool more holdout months to show that the fresh model is not worse.",
    "degradation": "Look at the metric that paid for the gain.",
    "calibration_slope": "Recalibrate on the validation months, or lengthen them.",
    "calibration_intercept": "The rate of readmissions moved; recalibrate on newer months.",
    "observed_expected": "The rate of readmissions moved; recalibrate on newer months.",
    "subgroup_discrimination": "Look at features and numbers of the groups named.",
    "subgroup_calibration": "Recalibrate with the groups named in view.",
    "subgroup_change": "Find out what the incumbent knows about the groups named.",
    "better_than_lace": "Do not serve a model that a hand-made index beats.",
    "top_decile_capture": "The list for the care team would be no better than a random one.",
    "top_decile_loss": "The care team would miss more readmissions than today.",
}

_NOT_MEASURED = "Find out why numbers are missing: a holdout without rows, or with one outcome only."


@dataclass(frozen=True)
class Decision:
    """What was decided and why.

    Attributes:
        criteria: all of them, in the order of ``RULES``, whether they decided or not.
        forced: a person's order stands behind the promotion.
        reason: the whole reasoning in sentences.
        recommendations: what to do next; one for each criterion that stood in the way.
        next_training_date: first day of the month whose challenger is worth training.
    """

    outcome: Outcome
    criteria: tuple[Criterion, ...]
    forced: bool
    reason: str
    recommendations: tuple[str, ...]
    next_training_date: dt.date

    @property
    def promotes(self) -> bool:
        """Whether the challenger becomes the champion."""
        return self.outcome is not Outcome.SKIP

    def criterion(self, name: str) -> Criterion:
        """The criterion of that name."""
        return next(criterion for criterion in self.criteria if criterion.criterion == name)


def decide(evidence: Evidence, policy: Policy) -> Decision:
    """Turn evidence into a decision.

    Without an incumbent the challenger becomes INITIAL when every gate for it passes. With one it becomes DEPLOY when
    it is better beyond threshold and chance, else DEPLOY_REFRESH when the incumbent is stale and it is not worse, else
    the incumbent stays (SKIP). An order (``evidence.force``) overrides criteria that a person may judge, never those
    that protect from broken evidence (``Rule.forcible``).
    """
    criteria = tuple(rule.apply(evidence, policy) for rule in RULES)
    failed = {criterion.criterion for criterion in criteria if not criterion.passed}
    routes = (Outcome.INITIAL,) if evidence.incumbent is None else (Outcome.DEPLOY, Outcome.DEPLOY_REFRESH)
    blocked = {
        route: [rule.name for rule in RULES if route in rule.needed_by and rule.name in failed] for route in routes
    }
    outcome = next((route for route in routes if not blocked[route]), Outcome.SKIP)

    forced = False
    if outcome is Outcome.SKIP and evidence.force is not None:
        forced = not any(rule.name in failed and not rule.forcible for rule in RULES)
        outcome = routes[0] if forced else Outcome.SKIP

    in_the_way = [] if outcome is not Outcome.SKIP else _nearest(blocked)
    return Decision(
        outcome=outcome,
        criteria=criteria,
        forced=forced,
        reason=_reason(evidence, outcome, criteria, blocked, forced),
        recommendations=_recommendations(in_the_way, criteria),
        next_training_date=_next_training(evidence, policy, outcome, in_the_way),
    )


def _nearest(blocked: dict[Outcome, list[str]]) -> list[str]:
    """Criteria in the way of the route that is blocked by fewest."""
    return min(blocked.values(), key=len)


def _recommendations(in_the_way: list[str], criteria: tuple[Criterion, ...]) -> tuple[str, ...]:
    """One for each criterion in the way; without a candidate, or without its numbers, nothing else can be said."""
    if "candidate" in in_the_way:
        return (_ADVICE["candidate"],)
    by_name = {criterion.criterion: criterion for criterion in criteria}
    unmeasured = {name for name in in_the_way if by_name[name].value is None and by_name[name].threshold is not None}
    return tuple(dict.fromkeys(_NOT_MEASURED if name in unmeasured else _ADVICE[name] for name in in_the_way))


def _next_training(evidence: Evidence, policy: Policy, outcome: Outcome, in_the_way: list[str]) -> dt.date:
    """First month worth training for.

    After a promotion, and when only the youth of the incumbent is in the way: the first month in which the model in
    force may be refreshed. After any other skip: next month, which brings new labels.
    """
    next_month = shift(evidence.month, 1)
    if outcome is not Outcome.SKIP:
        trained = evidence.month
    elif in_the_way == ["staleness"] and evidence.incumbent is not None:
        trained = evidence.incumbent.model_month
    else:
        return next_month
    due = trained + dt.timedelta(days=policy.max_days_since_update + 1)
    return max(next_month, due if due.day == 1 else shift(due, 1))


def _reason(
    evidence: Evidence,
    outcome: Outcome,
    criteria: tuple[Criterion, ...],
    blocked: dict[Outcome, list[str]],
    forced: bool,
) -> str:
    challenger = evidence.challenger.model_id if evidence.challenger else "no candidate"
    incumbent = evidence.incumbent.model_id if evidence.incumbent else "no incumbent"
    lines = [f"{outcome.value} for {evidence.month:%Y-%m}: {challenger} against {incumbent}."]
    if evidence.holdout_first and evidence.holdout_last:
        lines.append(
            f"Judged on {evidence.rows} discharges ({evidence.events} readmissions) of "
            f"{evidence.holdout_first:%Y-%m} to {evidence.holdout_last:%Y-%m}, on which neither was fitted."
        )
    if evidence.force is not None:
        said = "carried out" if forced else "not needed" if outcome is not Outcome.SKIP else "refused"
        lines.append(f"Deployment ordered by {evidence.force.by} ({evidence.force.why}): {said}.")
    for route, names in blocked.items():
        lines.append(f"{route.value} {'is open' if not names else 'is blocked by ' + ', '.join(names)}.")
    for criterion in criteria:
        word = "n/a" if not criterion.applicable else "pass" if criterion.passed else "FAIL"
        near = " (near miss)" if criterion.near_miss else ""
        lines.append(f"- {criterion.criterion}: {word}{near}. {criterion.detail}.")
    return "\n".join(lines)
