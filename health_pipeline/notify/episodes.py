"""Episodes: a check that fails month after month for the same reason rings once.

Drift stays until the reference has absorbed it, so its check fails for months. Whoever is on call wants to hear of it
when it begins, when something new joins, and when it gets worse; in between the months are for the record.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

_RANK = {"WARN": 1, "ERROR": 2}


@dataclass(frozen=True)
class Failure:
    """A failed evaluation.

    Attributes:
        partition: its month.
        severity: ``WARN`` or ``ERROR``.
        subjects: what failed, by stable names.
    """

    partition: str
    severity: str
    subjects: frozenset[str]


def told_since(now: Failure, episode: Sequence[Failure]) -> str | None:
    """First month of the episode when all that ``now`` says was told in it already, else None.

    Args:
        now: failed evaluation.
        episode: failures told before it without a passing evaluation in between, newest first.
    """
    as_bad = [failure for failure in episode if _RANK[failure.severity] >= _RANK[now.severity]]
    if not now.subjects or not now.subjects <= {name for failure in as_bad for name in failure.subjects}:
        return None
    return episode[-1].partition
