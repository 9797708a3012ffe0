"""Features: what was known about a patient at the discharge."""

from health_pipeline.features.build import features_query
from health_pipeline.features.catalogue import FEATURE_TABLE, FEATURES, model_features, schema_hash
from health_pipeline.features.checks import CHECKS
from health_pipeline.features.feature import Feature
from health_pipeline.features.part import LOOKBACK_MONTHS

__all__ = [
    "CHECKS",
    "FEATURES",
    "FEATURE_TABLE",
    "LOOKBACK_MONTHS",
    "Feature",
    "features_query",
    "model_features",
    "schema_hash",
]
