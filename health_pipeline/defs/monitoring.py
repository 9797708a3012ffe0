"""Monitoring: drift at once, performance estimated and then realised, and the figures of both."""

import dagster as dg

from health_pipeline import cohort, features, monitoring
from health_pipeline.defs.monthly import OWNERS, Input, asset_key, monthly_asset
from health_pipeline.defs.partitions import HISTORY_MONTHS, Partitions, range_of, window
from health_pipeline.modeling import PREDICTIONS
from health_pipeline.monitoring import DRIFT, PERFORMANCE
from health_pipeline.monitoring.windows import SHOWN_MONTHS, drift_reads, performance_reads
from health_pipeline.months import month_key
from health_pipeline.promotion import CHAMPION
from health_pipeline.settings import Settings
from health_pipeline.warehouse import Warehouse


def build(settings: Settings, partitions: Partitions) -> list[dg.AssetsDefinition]:
    """``monitoring/drift``, ``monitoring/performance`` and ``monitoring/visuals``."""
    reference, measured = drift_reads(settings), performance_reads(settings)
    drift = monthly_asset(
        DRIFT,
        lambda _context, months, slices: monitoring.drift_months(
            Warehouse.from_settings(settings), **slices, months=months, settings=settings
        ),
        inputs={
            "features": Input(features.FEATURE_TABLE, before=reference),
            "predictions": Input(PREDICTIONS, before=reference),
            "champion": Input(CHAMPION, before=reference),
        },
        partitions=partitions.scored,
        kinds={"duckdb"},
    )
    performance = monthly_asset(
        PERFORMANCE,
        lambda _context, months, slices: monitoring.performance_months(
            Warehouse.from_settings(settings), **slices, months=months, settings=settings
        ),
        inputs={
            "predictions": Input(PREDICTIONS, before=measured),
            "labels": Input(cohort.LABELS, before=measured),
            # The decision that accepted a model can lie years back.
            "champion": Input(CHAMPION, before=HISTORY_MONTHS),
        },
        partitions=partitions.scored,
        kinds={"python"},
    )
    return [drift, performance, _visuals(settings, partitions)]


def _visuals(settings: Settings, partitions: Partitions) -> dg.AssetsDefinition:
    @dg.asset(
        key=["monitoring", "visuals"],
        deps=[
            dg.AssetDep(asset_key(DRIFT), partition_mapping=window(SHOWN_MONTHS - 1)),
            dg.AssetDep(asset_key(PERFORMANCE), partition_mapping=window(SHOWN_MONTHS - 1)),
        ],
        partitions_def=partitions.scored,
        backfill_policy=dg.BackfillPolicy.single_run(),
        group_name="monitoring",
        kinds={"plotly", "evidently"},
        owners=OWNERS,
        description="Figures and dashboard of each month, drawn from the monitoring tables.",
    )
    def visuals(context: dg.AssetExecutionContext) -> dg.MaterializeResult[None]:
        warehouse = Warehouse.from_settings(settings)
        for month, files in monitoring.draw_months(warehouse, range_of(context), settings).items():
            context.add_asset_metadata(
                {
                    "folder": dg.MetadataValue.path(str(settings.outputs / "visuals" / f"{month:%Y-%m}")),
                    "files": len(files),
                },
                partition_key=month_key(month),
            )
        return dg.MaterializeResult()

    return visuals
