"""Evidence: every number a decision may rest on, and nothing else.

A number that could not be measured, or is not finite, is ``None``; no criterion passes on ``None``.
"""

from __future__ import annotations

import datetime as dt
import math
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

import msgspec

if TYPE_CHECKING:
    from health_pipeline.promotion.policy import Policy


def finite(number: float | None) -> float | None:
    """The number itself, or ``None`` when it is missing, infinite or not a number."""
    return None if number is None or not math.isfinite(number) else float(number) + 0.0  # no negative zero


@dataclass(frozen=True)
class Estimate:
    """A number with its interval; each part that is not finite becomes ``None``."""

    value: float | None
    low: float | None = None
    high: float | None = None

    def __post_init__(self) -> None:
        for name in ("value", "low", "high"):
            object.__setattr__(self, name, finite(getattr(self, name)))

    def __str__(self) -> str:
        if self.value is None:
            return "not measured"
        if self.low is None or self.high is None:
            return f"{self.value:.4f}"
        return f"{self.value:.4f} [{self.low:.4f}, {self.high:.4f}]"


NOTHING = Estimate(None)


@dataclass(frozen=True)
class Contender:
    """A model under judgement and its metrics on the shared holdout rows.

    Attributes:
        model_month: month the model was trained for.
        profile: training effort (``quick``, ``standard``, ``thorough``).
        metrics: ``roc_auc``, ``average_precision``, ``brier``, ``calibration_slope``, ``calibration_intercept``,
            ``observed_expected``, ``top_decile_capture`` and the primary metric, whichever it is.
    """

    model_id: str
    family: str
    profile: str
    model_month: dt.date
    metrics: Mapping[str, Estimate] = field(default_factory=dict)

    def metric(self, name: str) -> Estimate:
        """The metric, or :data:`NOTHING`."""
        return self.metrics.get(name, NOTHING)


@dataclass(frozen=True)
class Subgroup:
    """How the challenger does in one group of patients.

    Attributes:
        attribute: ``sex``, ``age_band``, ``race`` or ``payer``.
        level: the group.
        rows: discharges; ``None`` when the count is too small to be shown.
        judged: whether there is enough of the group for a verdict.
        observed_expected: observed over expected readmissions.
        discrimination_gap: AUROC within the group minus AUROC among everybody else; zero where these are too few to
            be judged.
        change: AUROC of the challenger minus AUROC of the incumbent within the group.
    """

    attribute: str
    level: str
    rows: int | None
    judged: bool
    observed_expected: Estimate = NOTHING
    discrimination_gap: Estimate = NOTHING
    change: Estimate = NOTHING

    @property
    def name(self) -> str:
        """``attribute=level``."""
        return f"{self.attribute}={self.level}"


@dataclass(frozen=True)
class Force:
    """A person's order to deploy against the comparison: who, and why."""

    by: str
    why: str


@dataclass(frozen=True)
class Evidence:
    """What is known when the decision of ``month`` is taken.

    Attributes:
        challenger: best candidate of the month; ``None`` when none was trained.
        incumbent: champion of the month before; ``None`` when there was none.
        rows, events, patients: discharges, readmissions and people of the shared holdout.
        compared: number of candidates the challenger was picked from (widens its intervals).
        difference: challenger minus incumbent by metric, turned so that positive is better; two-sided interval.
        non_inferiority: the same for the primary metric with the one-sided bound of a refresh as its ``low``.
        lace: AUROC of the challenger minus AUROC of the LACE index on the same rows.
        lace_available: whether the features hold a LACE index.
        plan_violations: what the change-control plan does not allow.
        force: an order to deploy, if there is one.
    """

    month: dt.date
    challenger: Contender | None
    incumbent: Contender | None
    rows: int
    events: int
    patients: int
    compared: int = 1
    holdout_first: dt.date | None = None
    holdout_last: dt.date | None = None
    difference: Mapping[str, Estimate] = field(default_factory=dict)
    non_inferiority: Estimate = NOTHING
    lace: Estimate = NOTHING
    lace_available: bool = False
    subgroups: tuple[Subgroup, ...] = ()
    plan_violations: tuple[str, ...] = ()
    force: Force | None = None

    @property
    def staleness_days(self) -> int | None:
        """Days from the month the incumbent was trained for to the month of the decision, in data time."""
        return None if self.incumbent is None else (self.month - self.incumbent.model_month).days


@dataclass(frozen=True)
class Record:
    """What ``models.champion.evidence`` holds: enough to take the decision again."""

    evidence: Evidence
    policy: Policy

    def to_json(self) -> str:
        """Deterministic text: keys sorted, numbers in shortest exact form."""
        return msgspec.json.encode(self, order="sorted").decode()

    @staticmethod
    def from_json(text: str) -> Record:
        """Inverse of :meth:`to_json`.

        Raises:
            msgspec.DecodeError: the text is no record (also when a field is missing or of another type).
        """
        from health_pipeline.promotion.policy import Policy

        raw = msgspec.json.decode(text, type=dict[str, msgspec.Raw])
        return Record(
            evidence=msgspec.json.decode(raw.get("evidence", b"null"), type=Evidence),
            policy=msgspec.json.decode(raw.get("policy", b"null"), type=Policy),
        )
