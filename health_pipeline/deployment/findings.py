"""Findings about an API: examined properties with their verdicts."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Literal

Outcome = Literal["pass", "fail", "inconclusive"]
"""``inconclusive``: there was not enough to judge by, which a deployment treats as a failure."""


@dataclass(frozen=True)
class Finding:
    """One examined property.

    Attributes:
        name: snake case.
        outcome: verdict.
        summary: one sentence without a value of a patient.
        numbers: what the verdict rests on.
    """

    name: str
    outcome: Outcome
    summary: str
    numbers: Mapping[str, Any] = field(default_factory=dict)


def overall(findings: Sequence[Finding]) -> Outcome:
    """Worst outcome; nothing examined is inconclusive."""
    outcomes = {finding.outcome for finding in findings}
    if "fail" in outcomes:
        return "fail"
    return "inconclusive" if "inconclusive" in outcomes or not outcomes else "pass"


def judge(name: str, passed: bool, summary: str, **numbers: Any) -> Finding:
    """A property that either holds or does not."""
    return Finding(name, "pass" if passed else "fail", summary, numbers)
