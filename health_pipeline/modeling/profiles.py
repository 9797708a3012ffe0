"""Effort of a training run: what the three profiles mean, with single knobs overridden by the settings."""

from __future__ import annotations

from dataclasses import dataclass, replace

from health_pipeline.settings import TrainingSettings


@dataclass(frozen=True, slots=True)
class Effort:
    """How hard a model is looked for.

    Attributes:
        profile: name; the gates refuse ``quick``.
        samples: tuning trials; 0 takes the family's defaults.
        max_rounds: boosting rounds at most.
        grace_rounds: rounds no trial is pruned before.
        patience: rounds without a better validation loss before boosting stops.
        bags: boosters with other seeds that are averaged.
        replicates: bootstrap resamples behind the intervals.
        device: where XGBoost trains.
    """

    profile: str
    samples: int
    max_rounds: int
    grace_rounds: int
    patience: int
    bags: int
    replicates: int
    device: str = "cpu"


PROFILES = {
    "quick": Effort("quick", samples=0, max_rounds=150, grace_rounds=25, patience=15, bags=1, replicates=200),
    "standard": Effort("standard", samples=12, max_rounds=800, grace_rounds=100, patience=50, bags=1, replicates=1000),
    "thorough": Effort("thorough", samples=60, max_rounds=2000, grace_rounds=150, patience=80, bags=5, replicates=2000),
}


def effort_of(settings: TrainingSettings) -> Effort:
    """The profile of the settings with the knobs that are set beside it."""
    effort = PROFILES[settings.profile]
    return replace(
        effort,
        device=settings.device,
        samples=effort.samples if settings.samples is None else settings.samples,
        max_rounds=settings.max_rounds or effort.max_rounds,
        grace_rounds=settings.grace_rounds or effort.grace_rounds,
        bags=settings.bags or effort.bags,
        replicates=settings.replicates or effort.replicates,
    )
