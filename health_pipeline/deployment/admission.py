"""Admission: whether a month's decision lets a model be deployed, and which one.

The decision itself is taken by :func:`health_pipeline.promotion.decide`; a run's own threshold or a person's order are
put to the very same function again, with the evidence that was stored.
"""

from __future__ import annotations

import dataclasses
import json
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from health_pipeline.errors import DeploymentError
from health_pipeline.months import Month, MonthRange
from health_pipeline.promotion.criteria import Outcome
from health_pipeline.promotion.decision import Decision, decide
from health_pipeline.promotion.evidence import Force, Record

Row = Mapping[str, Any]


@dataclass(frozen=True)
class Options:
    """What a run may set.

    Attributes:
        actor: who or what asked for the deployment.
        improvement_threshold: replaces the policy's for this run.
        force_deployment: deploy against the comparison; criteria that protect from broken evidence still hold.
        force_reason: why; needed with ``force_deployment``.
        skip_api_tests: go on without API tests; recorded.
        rollback_on_failure: whether a failure after the rollout takes the release back.
    """

    actor: str = "unknown"
    improvement_threshold: float | None = None
    force_deployment: bool = False
    force_reason: str = ""
    skip_api_tests: bool = False
    rollback_on_failure: bool = True

    def __post_init__(self) -> None:
        if self.force_deployment and not (self.force_reason.strip() and self.actor.strip()):
            raise DeploymentError(
                "a forced deployment needs to say who orders it and why",
                where="run config: force_deployment",
                remedy="give actor and force_reason",
            )


@dataclass(frozen=True)
class Plan:
    """The model to be deployed.

    Attributes:
        month: month it was admitted for.
        model_id: its id.
        family: its family.
        bundle: its folder.
        bundle_hash: digest of the folder as training recorded it.
        threshold: probability from which the label is true.
        decision: promotion decision behind it.
        trained_at: ISO time, when known.
        metrics: holdout metrics with intervals.
        gain: difference to the former champion on the primary metric, when there was one.
        judged: months on which the gates compared the two.
    """

    month: Month
    model_id: str
    family: str
    bundle: Path
    bundle_hash: str
    threshold: float
    decision: str
    trained_at: str | None = None
    metrics: Mapping[str, Any] = field(default_factory=dict)
    gain: float | None = None
    judged: MonthRange | None = None


@dataclass(frozen=True)
class Refusal:
    """Why nothing is deployed."""

    month: Month
    reason: str
    decision: str


def admit(
    champion: Row | None, candidates: Mapping[str, Row], options: Options, home: Path, month: Month
) -> Plan | Refusal:
    """The model that the month's decision lets through.

    Args:
        champion: row of ``models.champion``; ``None`` when the month has none.
        candidates: rows of ``models.<family>`` of the month, by model id.
        options: of the run.
        home: bundle folders are relative to it.
        month: the month.
    """
    if champion is None:
        return Refusal(month, "no promotion decision was taken for this month", Outcome.SKIP)
    decision = _decide_again(champion, options)
    outcome = Outcome(champion["decision"]) if decision is None else decision.outcome
    if outcome is Outcome.SKIP:
        reason = champion["reason"] if decision is None else decision.reason
        return Refusal(month, str(reason), Outcome.SKIP)
    promoted = champion["challenger_id"]
    row = candidates.get(promoted)
    if row is None:
        raise DeploymentError(
            f"model {promoted} of the decision is not among the month's candidates",
            where=f"models.champion of {month:%Y-%m}",
            remedy="materialise models of the month again",
        )
    return Plan(
        month=month,
        model_id=promoted,
        family=str(row["family"]),
        bundle=home / str(row["artefact_path"]),
        bundle_hash=str(row["artefact_hash"]),
        threshold=float(row["threshold"]),
        decision=outcome.value,
        trained_at=None if row.get("trained_at") is None else f"{row['trained_at']:%Y-%m-%dT%H:%M:%S}",
        metrics=json.loads(row["metrics"] or "{}"),
        gain=_gain(champion),
        judged=_judged(champion),
    )


def _decide_again(champion: Row, options: Options) -> Decision | None:
    """The decision under the run's own options; ``None`` when it sets none that matter."""
    if not options.force_deployment and options.improvement_threshold is None:
        return None
    record = Record.from_json(champion["evidence"])
    evidence, policy = record.evidence, record.policy
    if options.force_deployment:
        evidence = dataclasses.replace(evidence, force=Force(by=options.actor, why=options.force_reason))
    if options.improvement_threshold is not None:
        policy = dataclasses.replace(policy, improvement_threshold=options.improvement_threshold)
    return decide(evidence, policy)


def _gain(champion: Row) -> float | None:
    for criterion in json.loads(champion["criteria"] or "[]"):
        if criterion["criterion"] == "improvement":
            value: float | None = criterion["value"]
            return value
    return None


def _judged(champion: Row) -> MonthRange | None:
    first, last = champion.get("holdout_first"), champion.get("holdout_last")
    return MonthRange(first, last) if first and last else None
