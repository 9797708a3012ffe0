"""Reads what is stored off the Dagster instance, for the rules of ``due``."""

import dagster as dg
from dagster._core.events import DagsterEventType

from health_pipeline.defs.due import State
from health_pipeline.months import Month, parse_month
from health_pipeline.settings import Settings
from health_pipeline.sources.arrivals import arrivals

SETTLE_SECONDS = 20.0
"""A month whose newest file is younger than this may still be arriving."""

WATCHED = (
    "silver.admissions",
    "gold.features",
    "gold.labels",
    "gold.predictions",
    "models.champion",
    "monitoring.performance",
)


def read_state(instance: dg.DagsterInstance, settings: Settings, now: float) -> State:
    """What has landed and what is stored.

    Args:
        instance: with the materialisations.
        settings: landing zone and first model month; months outside the partitions do not count.
        now: POSIX seconds.
    """
    last = settings.end_month
    landed = {
        month: at
        for month, at in arrivals(settings, now - SETTLE_SECONDS).items()
        if month >= settings.start_month and (last is None or month <= last)
    }
    return State(
        landed=landed,
        stored={table: _records(instance, dg.AssetKey(table.split("."))) for table in WATCHED},
        ingested_at=_ingested_at(instance),
        first_model_month=settings.first_model_month,
    )


def _records(instance: dg.DagsterInstance, key: dg.AssetKey) -> dict[Month, int]:
    found = instance.event_log_storage.get_latest_storage_id_by_partition(key, DagsterEventType.ASSET_MATERIALIZATION)
    return {parse_month(partition): number for partition, number in found.items()}


def _ingested_at(instance: dg.DagsterInstance) -> dict[Month, float]:
    """When the first bronze table of each month was last read; the others of its run follow at once."""
    key = dg.AssetKey(["bronze", "admissions"])
    numbers = sorted(_records(instance, key).values())
    if not numbers:
        return {}
    records = instance.fetch_materializations(
        dg.AssetRecordsFilter(asset_key=key, storage_ids=numbers), limit=len(numbers)
    ).records
    return {parse_month(str(record.partition_key)): record.timestamp for record in records}
