"""Monitored numbers: drift, performance, their checks and figures."""

from health_pipeline.monitoring.checks import CHECKS
from health_pipeline.monitoring.decisions import Decision, decisions
from health_pipeline.monitoring.drift import drift_months
from health_pipeline.monitoring.evidently_report import draw_evidently
from health_pipeline.monitoring.figures import draw_month
from health_pipeline.monitoring.performance import performance_months
from health_pipeline.monitoring.statuses import MonthStatus, RetrainRequest, drift_request, month_statuses
from health_pipeline.monitoring.tables import DRIFT, PERFORMANCE
from health_pipeline.monitoring.visuals import draw_months

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
