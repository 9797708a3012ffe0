"""Monitored numbers: drift, performance, their checks and figures."""

from health_pipeline.monitoring.drift import drift_months
from health_pipeline.monitoring.performance import performance_months
from health_pipeline.monitoring.tables import DRIFT, PERFORMANCE

__all__ = ["DRIFT", "PERFORMANCE", "drift_months", "performance_months"]
