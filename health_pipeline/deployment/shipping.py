"""Shipping: a model through all steps, and the tools the settings ask for."""

from __future__ import annotations

from collections.abc import Sequence

from pydantic import SecretStr

from health_pipeline import notify
from health_pipeline.clock import Clock, system_clock
from health_pipeline.deployment.admission import Options, Plan
from health_pipeline.deployment.attempt import Attempt
from health_pipeline.deployment.history import History
from health_pipeline.deployment.local import LocalTarget
from health_pipeline.deployment.records import NO_SAMPLES, Samples
from health_pipeline.deployment.registry import MLflowRegistry
from health_pipeline.deployment.steps import STEPS, StepResult
from health_pipeline.deployment.target import Target
from health_pipeline.deployment.tools import Tools
from health_pipeline.settings import Settings


def history_of(settings: Settings, clock: Clock = system_clock) -> History:
    """The history in the home."""
    return History(settings.home / "deployment" / "history.ndjson", clock)


def target_of(settings: Settings, environment: str) -> Target:
    """The target of an environment."""
    if settings.deployment.target == "kubernetes":
        from health_pipeline.deployment.kubernetes import KubernetesTarget

        return KubernetesTarget(settings, environment)
    return LocalTarget(settings, environment)


def tools_of(settings: Settings, clock: Clock = system_clock, channels: Sequence[str] | None = None) -> Tools:
    """What deployments of these settings work with.

    Args:
        settings: target, environments, limits, registry.
        clock: for what is recorded.
        channels: addresses of this run's alerts, instead of those of the settings.
    """
    told = settings
    if channels is not None:
        instead = {"urls": tuple(map(SecretStr, channels)), "warning_urls": (), "critical_urls": ()}
        told = settings.model_copy(update={"notify": settings.notify.model_copy(update=instead)})
    *stages, production = settings.deployment.environments
    return Tools(
        target=target_of(settings, production),
        stages=tuple(target_of(settings, stage) for stage in stages),
        registry=MLflowRegistry.of(settings),
        history=history_of(settings, clock),
        limits=settings.deployment,
        serving=settings.serving,
        alert=lambda alert: notify.send(alert, told, clock),
        clock=clock,
    )


def ship(
    plan: Plan, options: Options, tools: Tools, attempt_id: str, samples: Samples = NO_SAMPLES
) -> list[StepResult]:
    """Run the steps in order, up to the first that does not pass."""
    attempt = Attempt(plan, options, tools, attempt_id, samples)
    results: list[StepResult] = []
    for step in STEPS:
        results.append(attempt.run(step))
        if not results[-1].is_good:
            break
    return results
