"""What the gates say about a row of ``models.champion``: pure functions, replaying the decision from its record."""

from __future__ import annotations

import datetime as dt
import json
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from typing import Any

import msgspec

from health_pipeline.promotion.criteria import Criterion, Outcome, Rule
from health_pipeline.promotion.decision import Decision, decide
from health_pipeline.promotion.evidence import Record
from health_pipeline.promotion.policy import Policy
from health_pipeline.verdicts import Number, Severity, Verdict

Row = Mapping[str, Any]


@dataclass(frozen=True)
class Replay:
    """A stored decision beside the same decision taken again from the stored evidence."""

    row: Row
    record: Record
    decision: Decision

    @classmethod
    def of(cls, row: Row) -> Replay:
        """Take the decision of a row again.

        Raises:
            msgspec.MsgspecError: the stored evidence cannot be read.
        """
        record = Record.from_json(row["evidence"] or "")
        return cls(row, record, decide(record.evidence, record.policy))

    @property
    def month(self) -> dt.date:
        """Month of the row."""
        month: dt.date = self.row["month"]
        return month

    @property
    def outcome(self) -> Outcome:
        """Decision as stored."""
        return Outcome(self.row["decision"])


def gate(rule: Rule, replay: Replay) -> Verdict:
    """Verdict of one criterion about one month.

    A criterion that failed and kept the challenger out is a warning: the incumbent serves on. One that failed although
    its challenger was promoted is an error, which blocks, unless a person ordered the promotion. A month without any
    candidate has one warning, that of the gate ``candidate``: there was nothing else to judge.
    """
    criterion = replay.decision.criterion(rule.name)
    if rule.name == "staleness":
        return _age(criterion, replay)
    outcome = replay.outcome
    if criterion.passed:
        return _verdict(replay, criterion, True, "WARN", "")
    if outcome is Outcome.SKIP:
        judged = replay.record.evidence.challenger is not None or rule.name == "candidate"
        said = "challenger refused: " if judged else "nothing to judge without a candidate: "
        return _verdict(replay, criterion, not judged, "WARN", said)
    if outcome not in rule.needed_by:
        return _verdict(replay, criterion, True, "WARN", f"not needed for {outcome.value}: ")
    if replay.decision.forced:
        return _verdict(replay, criterion, False, "WARN", "overridden by an order: ")
    return _verdict(replay, criterion, False, "ERROR", f"{outcome.value} in spite of: ")


def _age(criterion: Criterion, replay: Replay) -> Verdict:
    """The gate asks the reverse of the criterion: whether an old model stays in force."""
    stale = criterion.applicable and criterion.passed
    if stale and replay.outcome is Outcome.SKIP:
        return _verdict(replay, criterion, False, "WARN", "a stale champion stays in force: ")
    return _verdict(replay, criterion, True, "WARN", "")


def _verdict(replay: Replay, criterion: Criterion, passed: bool, severity: Severity, said: str) -> Verdict:
    numbers: dict[str, Number] = {
        "decision": replay.outcome.value,
        "value": criterion.value,
        "threshold": criterion.threshold,
        "near_miss": criterion.near_miss,
        "holdout_rows": replay.row["holdout_rows"],
    }
    return Verdict(replay.month, passed, said + criterion.detail, severity, numbers)


def near_misses(replay: Replay) -> Verdict:
    """Warns when a number lies so close to its limit that another draw could have turned the verdict."""
    near = [criterion.criterion for criterion in replay.decision.criteria if criterion.near_miss]
    said = f"close to the limit: {', '.join(near)}" if near else "no number is close to its limit"
    return Verdict(replay.month, not near, said, "WARN", {"near_misses": len(near)})


def leak(replay: Replay) -> Verdict:
    """Blocks when the model in force itself is too good to be true on this month's holdout."""
    metrics = json.loads(replay.row["metrics"] or "{}")
    value = metrics.get("roc_auc", {}).get("value")
    ceiling = replay.record.policy.leak_ceiling
    passed = value is None or value <= ceiling
    said = "not measured" if value is None else f"AUROC of the model in force is {value:.4f}, ceiling {ceiling}"
    return Verdict(replay.month, passed, said, "ERROR", {"value": value, "threshold": ceiling})


def in_force(replay: Replay) -> Verdict:
    """Warns while no model has passed the gates yet."""
    found = replay.row["model_id"]
    return Verdict(replay.month, found is not None, found or "no model is in force", "WARN")


def succession(replay: Replay, before: Row | None, first_month: dt.date) -> Verdict:
    """Blocks when a row is not what its evidence and the row of the month before make it."""
    row, decision = replay.row, replay.decision
    faults = []
    if decision.outcome is not replay.outcome:
        faults.append(f"the evidence gives {decision.outcome.value}, stored is {replay.outcome.value}")
    if json.loads(row["criteria"]) != json.loads(json.dumps([asdict(each) for each in decision.criteria])):
        faults.append("the stored criteria are not those of the evidence")
    expected = row["challenger_id"] if replay.outcome is not Outcome.SKIP else row["incumbent_id"]
    if row["model_id"] != expected:
        faults.append(f"in force is {row['model_id']}, the decision puts {expected} in force")
    if before is None and replay.month > first_month:
        faults.append("the month before has no decision")
    predecessor = before["model_id"] if before is not None else None
    if row["incumbent_id"] != predecessor:
        faults.append(f"the incumbent is {row['incumbent_id']}, champion of the month before is {predecessor}")
    said = "; ".join(faults) or f"{replay.outcome.value} follows from its evidence"
    return Verdict(replay.month, not faults, said, "ERROR", {"faults": len(faults), "model_id": row["model_id"]})


def current_policy(replay: Replay, policy: Policy) -> Verdict:
    """Warns when the decision was taken under other thresholds than those of today's settings and plan."""
    then, now = msgspec.to_builtins(replay.record.policy), msgspec.to_builtins(policy)
    changed = sorted(name for name in now if now[name] != then[name])
    said = f"decided under another {', '.join(changed)}" if changed else "decided under the policy of today"
    return Verdict(replay.month, not changed, said, "WARN", {"changed": len(changed)})
