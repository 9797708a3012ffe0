"""Cohort and outcome: which discharges count, and who came back."""

from health_pipeline.cohort.admissions import LOOKBACK_MONTHS, index_admissions_sql
from health_pipeline.cohort.attrition import attrition_query
from health_pipeline.cohort.checks import CHECKS
from health_pipeline.cohort.labels import LOOKAHEAD_MONTHS, labels_query
from health_pipeline.cohort.tables import ATTRITION, LABELS

__all__ = [
    "ATTRITION",
    "CHECKS",
    "LABELS",
    "LOOKAHEAD_MONTHS",
    "LOOKBACK_MONTHS",
    "attrition_query",
    "index_admissions_sql",
    "labels_query",
]
