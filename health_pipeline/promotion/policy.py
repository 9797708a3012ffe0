"""Policy: every threshold of a decision in one frozen value, made from settings and change-control plan."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from health_pipeline.promotion.plan import Acceptance, Plan

if TYPE_CHECKING:
    from health_pipeline.settings import Settings


@dataclass(frozen=True)
class Policy:
    """Thresholds a decision uses; see ``docs/promotion.md`` for the meaning of each.

    Attributes:
        profiles: training efforts the plan lets into service.
        acceptance: what the plan demands of any model (calibration, subgroups, losses).
        plan_hash: content hash of the plan in force.
    """

    primary_metric: str
    improvement_threshold: float
    confidence_level: float
    min_samples: int
    min_events: int
    max_days_since_update: int
    max_degradation: float
    leak_ceiling: float
    profiles: tuple[str, ...]
    acceptance: Acceptance
    plan_hash: str


def policy_of(settings: Settings, plan: Plan) -> Policy:
    """The policy of a run."""
    knobs = settings.promotion
    return Policy(
        primary_metric=knobs.primary_metric,
        improvement_threshold=knobs.improvement_threshold,
        confidence_level=knobs.confidence_level,
        min_samples=knobs.min_samples,
        min_events=knobs.min_events,
        max_days_since_update=knobs.max_days_since_update,
        max_degradation=knobs.max_degradation,
        leak_ceiling=knobs.leak_ceiling,
        profiles=plan.may_change.profiles,
        acceptance=plan.acceptance,
        plan_hash=plan.content_hash,
    )
