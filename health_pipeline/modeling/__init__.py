"""Models: candidates, their bundles, metrics and scores."""

from health_pipeline.modeling.bundle import Bundle, Scores, load_bundle
from health_pipeline.modeling.scoring import score_months
from health_pipeline.modeling.tables import PREDICTIONS, model_table
from health_pipeline.modeling.training import train_months

__all__ = ["PREDICTIONS", "Bundle", "Scores", "load_bundle", "model_table", "score_months", "train_months"]
