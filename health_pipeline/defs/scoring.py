"""Scoring: the month's discharges scored with every model in force."""

from __future__ import annotations

import dagster as dg

from health_pipeline import features, modeling
from health_pipeline.defs.monthly import Input, monthly_asset
from health_pipeline.defs.partitions import Partitions
from health_pipeline.modeling import PREDICTIONS, model_table
from health_pipeline.promotion import CHAMPION
from health_pipeline.settings import Settings
from health_pipeline.warehouse import Warehouse


def build(settings: Settings, partitions: Partitions) -> list[dg.AssetsDefinition]:
    """``gold/predictions``."""
    families = settings.training.families
    return [
        monthly_asset(
            PREDICTIONS,
            lambda _context, months, slices: modeling.score_months(
                Warehouse.from_settings(settings),
                features=slices["features"],
                candidates={family: slices[family] for family in families},
                champion=slices["champion"],
                months=months,
                settings=settings,
            ),
            inputs={
                "features": Input(features.FEATURE_TABLE),
                "champion": Input(CHAMPION),
                **{family: Input(model_table(family)) for family in families},
            },
            partitions=partitions.scored,
            kinds={"python", "gold"},
            group="scoring",
        )
    ]
