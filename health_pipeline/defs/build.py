"""Puts the parts of the graph together."""

from __future__ import annotations

import dagster as dg

from health_pipeline import cohort, contracts, features, monitoring, promotion
from health_pipeline.clock import Clock, system_clock
from health_pipeline.contracts.checks import CHECKS as CONTRACT_CHECKS
from health_pipeline.defs import bronze, deployment, gold, models, scoring, silver
from health_pipeline.defs import monitoring as monitoring_assets
from health_pipeline.defs.checks import asset_checks
from health_pipeline.defs.deployment_sensor import build_sensor
from health_pipeline.defs.partitions import Partitions
from health_pipeline.defs.restated import reads_of, restated_checks, restated_sensor
from health_pipeline.defs.sensors import build_schedule, build_sensors, sensor_status
from health_pipeline.deployment.checks import CHECKS as DEPLOYMENT_CHECKS
from health_pipeline.modeling import PREDICTIONS, model_table
from health_pipeline.settings import Settings
from health_pipeline.warehouse import Table
from health_pipeline.warehouse.io_manager import build_io_manager


def tables(settings: Settings) -> list[Table]:
    """Every table of the warehouse, in the order of the data's way."""
    return [
        *contracts.BRONZE.values(),
        *contracts.SILVER.values(),
        contracts.REJECTED_ROWS,
        features.FEATURE_TABLE,
        cohort.LABELS,
        cohort.ATTRITION,
        *(model_table(family) for family in settings.training.families),
        promotion.CHAMPION,
        PREDICTIONS,
        monitoring.DRIFT,
        monitoring.PERFORMANCE,
        *deployment.tables(),
    ]


def build_definitions(settings: Settings, clock: Clock = system_clock) -> dg.Definitions:
    """All assets, checks, jobs, schedules and sensors for the given settings.

    Args:
        settings: read once; every part gets its share from here.
        clock: recorded as training time; never used by data logic.
    """
    partitions = Partitions.of(settings)
    assets = [
        *bronze.build(settings, partitions),
        *silver.build(settings, partitions),
        *gold.build(settings, partitions),
        *models.build(settings, partitions, clock),
        *scoring.build(settings, partitions),
        *monitoring_assets.build(settings, partitions),
        *deployment.build(settings, partitions, clock),
    ]
    months = {asset.key: asset.partitions_def for asset in assets if asset.partitions_def is not None}
    checks = [*CONTRACT_CHECKS, *cohort.CHECKS, *features.CHECKS, *promotion.CHECKS, *monitoring.CHECKS]
    checks += DEPLOYMENT_CHECKS
    reads = reads_of(assets)
    recorded = restated_checks(settings, reads)
    jobs = deployment.build_jobs(settings, clock)
    return dg.Definitions(
        assets=assets,
        asset_checks=asset_checks([*checks, *recorded], months, settings),
        jobs=jobs,
        sensors=[
            *build_sensors(settings, partitions, clock),
            restated_sensor(settings, reads, sensor_status(settings)),
            build_sensor(settings, partitions, clock, jobs, sensor_status(settings)),
        ],
        schedules=[build_schedule(settings, clock)],
        resources={"io_manager": build_io_manager(settings, tables(settings)), **deployment.RESOURCES},
        # One process a run: the heavy libraries are imported once, and two cores are not oversubscribed.
        executor=dg.in_process_executor,
    )
