"""The catalogue: every feature, in the order of its columns, and the table they make."""

from __future__ import annotations

import hashlib
import json

from health_pipeline.features import (
    demographics,
    diagnoses,
    finance,
    laboratory,
    medicines,
    procedures,
    scores,
    stated,
    stay,
    utilisation,
)
from health_pipeline.features.feature import Feature
from health_pipeline.settings import Settings
from health_pipeline.warehouse.tables import Column, Table

# Raise it when a feature keeps its name and changes its meaning: models of another version are then refused.
VERSION = "2"

PARTS = tuple(
    module.PART
    for module in (
        demographics,
        stay,
        utilisation,
        diagnoses,
        laboratory,
        medicines,
        procedures,
        stated,
        finance,
        scores,
    )
)

FEATURES: tuple[Feature, ...] = tuple(feature for part in PARTS for feature in part.features)

DEMOGRAPHICS = "demographics"

FEATURE_TABLE = Table(
    schema="gold",
    name="features",
    description="One row per index discharge: what was known about the patient at that moment.",
    key=("month", "encounter_id"),
    columns=(
        Column("month", "DATE", "month of the discharge", nullable=False),
        Column("encounter_id", "VARCHAR", "stay that was discharged", nullable=False),
        Column("patient_key", "VARCHAR", "pseudonym of the patient", nullable=False),
        Column("discharged_at", "TIMESTAMP", "prediction moment: nothing recorded later is used", nullable=False),
        *(Column(item.name, item.sql_type, item.meaning, unit=item.unit) for item in FEATURES),
    ),
)


def model_features(settings: Settings) -> tuple[Feature, ...]:
    """Features a model may see: all, or all but demographics.

    Demographics stay in ``gold.features`` either way, because subgroup gates need them to find an unfair model.
    """
    return tuple(item for item in FEATURES if settings.features.demographics or item.group != DEMOGRAPHICS)


def schema_hash(settings: Settings) -> str:
    """Identifies what a model sees: names, types and order of its features, and the version of their meaning."""
    content = [VERSION, [(item.name, item.sql_type) for item in model_features(settings)]]
    return hashlib.sha256(json.dumps(content).encode()).hexdigest()[:16]
