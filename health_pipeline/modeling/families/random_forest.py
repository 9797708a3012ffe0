"""Model 3: a random forest, grown by XGBoost so that it is stored and scored like the boosted trees."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any

from health_pipeline.modeling.encoding import Feature
from health_pipeline.modeling.families.base import Sample
from health_pipeline.modeling.families.xgboost import PreparedXGBoost, XGBoost
from health_pipeline.modeling.profiles import Effort

_QUICK_TREES = 100
_TREES = 400


@dataclass(frozen=True)
class RandomForest:
    """One round of many deep trees on resampled rows and columns (XGBoost's ``num_parallel_tree``)."""

    name: str = "random_forest"
    short: str = "rf"
    role: str = "model_3"
    defaults: Mapping[str, Any] = field(
        default_factory=lambda: {
            "eta": 1.0,
            "max_depth": 10,
            "min_child_weight": 5.0,
            "subsample": 0.632,
            "colsample_bynode": 0.15,
            "reg_lambda": 1.0,
        }
    )

    def suggest(self, trial: Any) -> dict[str, Any]:
        """Draw parameters from an Optuna trial."""
        return {
            "eta": 1.0,
            "max_depth": trial.suggest_int("max_depth", 6, 14),
            "min_child_weight": trial.suggest_float("min_child_weight", 1.0, 30.0, log=True),
            "subsample": 0.632,
            "colsample_bynode": trial.suggest_float("colsample_bynode", 0.05, 0.5),
            "reg_lambda": trial.suggest_float("reg_lambda", 0.1, 30.0, log=True),
        }

    def prepare(
        self, training: Sample, validation: Sample, features: Sequence[Feature], effort: Effort, threads: int
    ) -> PreparedXGBoost:
        """Encode and quantise the rows; the forest is one round."""
        forest = replace(effort, max_rounds=1, bags=1)
        trees = _QUICK_TREES if effort.profile == "quick" else _TREES
        prepared = XGBoost().prepare(training, validation, features, forest, threads)
        return replace(prepared, fixed={"num_parallel_tree": trees})
