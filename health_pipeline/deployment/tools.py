"""What deployments work with."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field

from health_pipeline.clock import Clock
from health_pipeline.deployment.history import History
from health_pipeline.deployment.registry import Registry
from health_pipeline.deployment.target import Target
from health_pipeline.notify.alert import Alert
from health_pipeline.settings import DeploymentSettings, ServingSettings

Alerter = Callable[[Alert], object]


@dataclass(frozen=True)
class Tools:
    """What attempts work with.

    Attributes:
        target: production.
        serving: settings of the API.
        stages: environments that a release passes before production.
        registry: aliases.
        history: audit trail.
        limits: settings of the deployment.
        alert: tells people.
        clock: for what is recorded.
    """

    target: Target
    registry: Registry
    history: History
    limits: DeploymentSettings
    alert: Alerter
    clock: Clock
    serving: ServingSettings = field(default_factory=ServingSettings)
    stages: Sequence[Target] = ()
