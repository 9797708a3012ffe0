"""Models: candidates, their bundles, metrics and scores.

Names are looked up at first use: an API process that loads a bundle must not pay for training code.
"""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from health_pipeline.modeling.bundle import Bundle, Scores, load_bundle
    from health_pipeline.modeling.scoring import score_months
    from health_pipeline.modeling.tables import PREDICTIONS, model_table
    from health_pipeline.modeling.training import train_months

_HOMES = {
    "Bundle": "bundle",
    "Scores": "bundle",
    "load_bundle": "bundle",
    "score_months": "scoring",
    "PREDICTIONS": "tables",
    "model_table": "tables",
    "train_months": "training",
}

__all__ = ["PREDICTIONS", "Bundle", "Scores", "load_bundle", "model_table", "score_months", "train_months"]


def __getattr__(name: str) -> Any:
    if name not in _HOMES:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return getattr(import_module(f"{__name__}.{_HOMES[name]}"), name)
