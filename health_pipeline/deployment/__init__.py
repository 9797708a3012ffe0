"""Deployment: releases on their way to traffic and back."""

from health_pipeline.deployment.admission import Options, Plan, Refusal, admit
from health_pipeline.deployment.attempt import Attempt
from health_pipeline.deployment.history import HISTORY, History, verify_chain
from health_pipeline.deployment.local import LocalTarget
from health_pipeline.deployment.recovery import recover, rollback
from health_pipeline.deployment.shipping import history_of, ship, tools_of
from health_pipeline.deployment.steps import STEPS, StepResult
from health_pipeline.deployment.target import Endpoint, Package, Serving, Target
from health_pipeline.deployment.tools import Tools

__all__ = [
    "HISTORY",
    "STEPS",
    "Attempt",
    "Endpoint",
    "History",
    "LocalTarget",
    "Options",
    "Package",
    "Plan",
    "Refusal",
    "Serving",
    "StepResult",
    "Target",
    "Tools",
    "admit",
    "history_of",
    "recover",
    "rollback",
    "ship",
    "tools_of",
    "verify_chain",
]
