"""Monitored numbers: drift, performance, their checks and figures.

What computes or draws is looked up at first use: loading the definitions must not pay for numerical libraries.
"""

from importlib import import_module
from typing import TYPE_CHECKING, Any

from health_pipeline.monitoring.checks import CHECKS
from health_pipeline.monitoring.decisions import Decision, decisions
from health_pipeline.monitoring.statuses import MonthStatus, RetrainRequest, drift_request, month_statuses
from health_pipeline.monitoring.tables import DRIFT, PERFORMANCE

if TYPE_CHECKING:
    from health_pipeline.monitoring.drift import drift_months
    from health_pipeline.monitoring.evidently_report import draw_evidently
    from health_pipeline.monitoring.figures import draw_month
    from health_pipeline.monitoring.performance import performance_months
    from health_pipeline.monitoring.visuals import draw_months

_HOMES = {
    "draw_evidently": "evidently_report",
    "draw_month": "figures",
    "draw_months": "visuals",
    "drift_months": "drift",
    "performance_months": "performance",
}

__all__ = [
    "CHECKS",
    "DRIFT",
    "PERFORMANCE",
    "Decision",
    "MonthStatus",
    "RetrainRequest",
    "decisions",
    "draw_evidently",
    "draw_month",
    "draw_months",
    "drift_months",
    "drift_request",
    "month_statuses",
    "performance_months",
]


def __getattr__(name: str) -> Any:
    if name not in _HOMES:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return getattr(import_module(f"{__name__}.{_HOMES[name]}"), name)
