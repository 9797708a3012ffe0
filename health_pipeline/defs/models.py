"""Models: one candidate a family and month, and the champion in force."""

from __future__ import annotations

import dagster as dg

from health_pipeline import cohort, features, modeling, promotion
from health_pipeline.clock import Clock
from health_pipeline.defs.monthly import Input, monthly_asset
from health_pipeline.defs.partitions import HISTORY_MONTHS, Partitions
from health_pipeline.modeling import model_table
from health_pipeline.promotion import CHAMPION
from health_pipeline.settings import Settings
from health_pipeline.warehouse import Warehouse

# Trying again helps against a model store that is away for a moment; production stays as it is meanwhile.
TRAINING_RETRY = dg.RetryPolicy(max_retries=2, delay=5, backoff=dg.Backoff.EXPONENTIAL)

LABEL_LAG = 2
"""A model of M sees labels of months up to M-2: those whose following month had closed when M began."""


def build(settings: Settings, partitions: Partitions, clock: Clock) -> list[dg.AssetsDefinition]:
    """``models/<family>`` for each family of the settings, and ``models/champion``."""
    windows = settings.windows
    held_out = windows.holdout_months + LABEL_LAG - 1
    seen = held_out + windows.validation_months + windows.training_months

    def candidate(family: str) -> dg.AssetsDefinition:
        table = model_table(family)
        return monthly_asset(
            table,
            lambda context, months, slices: modeling.train_months(
                family,
                Warehouse.from_settings(settings),
                months=months,
                settings=settings,
                clock=clock,
                log=context.log.info,
                **slices,
            ),
            inputs={
                "features": Input(features.FEATURE_TABLE, before=seen, after=-LABEL_LAG),
                "labels": Input(cohort.LABELS, before=seen, after=-LABEL_LAG),
                "previous": Input(table, before=HISTORY_MONTHS, after=-1),
            },
            partitions=partitions.models,
            kinds={"mlflow", "xgboost" if family == "xgboost" else "scikitlearn"},
            retry=TRAINING_RETRY,
        )

    tables = {family: model_table(family) for family in settings.training.families}
    champion = monthly_asset(
        CHAMPION,
        lambda _context, months, slices: promotion.champion_months(
            Warehouse.from_settings(settings),
            candidates={family: slices[family] for family in tables},
            previous=slices["previous"],
            features=slices["features"],
            labels=slices["labels"],
            months=months,
            settings=settings,
        ),
        inputs={
            **{family: Input(table) for family, table in tables.items()},
            "previous": Input(CHAMPION, before=1, after=-1),
            "features": Input(features.FEATURE_TABLE, before=held_out, after=-LABEL_LAG),
            "labels": Input(cohort.LABELS, before=held_out, after=-LABEL_LAG),
        },
        partitions=partitions.models,
        kinds={"python"},
    )
    return [*(candidate(family) for family in tables), champion]
