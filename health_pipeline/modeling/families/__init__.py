"""Model families: each is one small module with a class that is listed here."""

from __future__ import annotations

from health_pipeline.errors import SettingsError
from health_pipeline.modeling.families.base import Family, Fit, Observer, Sample
from health_pipeline.modeling.families.logistic_regression import LogisticRegression
from health_pipeline.modeling.families.random_forest import RandomForest
from health_pipeline.modeling.families.xgboost import XGBoost

FAMILIES: dict[str, Family] = {family.name: family for family in (LogisticRegression(), XGBoost(), RandomForest())}


def family_named(name: str) -> Family:
    """The family of a name.

    Raises:
        SettingsError: there is no such family.
    """
    if name not in FAMILIES:
        raise SettingsError(
            f"unknown model family {name!r}",
            where="HEALTH_PIPELINE_TRAINING__FAMILIES",
            remedy=f"choose among {', '.join(sorted(FAMILIES))}",
        )
    return FAMILIES[name]


__all__ = ["FAMILIES", "Family", "Fit", "Observer", "Sample", "family_named"]
