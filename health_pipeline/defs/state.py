"""Reads what is stored off the Dagster instance, for the rules of ``due``."""

import dagster as dg
from dagster._core.events import DagsterEventType

from health_pipeline.contracts import BRONZE
from health_pipeline.defs.bronze import FINGERPRINT
from health_pipeline.defs.due import Ingest, State
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
    "monitoring.drift",
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
        month: fingerprints
        for month, fingerprints in arrivals(settings, now - SETTLE_SECONDS).items()
        if month >= settings.start_month and (last is None or month <= last)
    }
    return State(
        landed=landed,
        stored={table: records_of(instance, table) for table in WATCHED},
        ingested=_ingested(instance),
        first_model_month=settings.first_model_month,
    )


def records_of(instance: dg.DagsterInstance, table: str) -> dict[Month, int]:
    """Record number of the newest materialisation of each month of a table."""
    key = dg.AssetKey(table.split("."))
    found = instance.event_log_storage.get_latest_storage_id_by_partition(key, DagsterEventType.ASSET_MATERIALIZATION)
    return {parse_month(partition): number for partition, number in found.items()}


def _ingested(instance: dg.DagsterInstance) -> dict[Month, Ingest]:
    fingerprints: dict[Month, dict[str, str]] = {}
    newest: dict[Month, int] = {}
    for name, table in BRONZE.items():
        numbers = records_of(instance, table.qualified)
        if not numbers:
            continue
        key = dg.AssetKey([table.schema, table.name])
        wanted = dg.AssetRecordsFilter(asset_key=key, storage_ids=sorted(numbers.values()))
        for record in instance.fetch_materializations(wanted, limit=len(numbers)).records:
            month = parse_month(str(record.partition_key))
            newest[month] = max(newest.get(month, 0), record.storage_id)
            of_month = fingerprints.setdefault(month, {})
            found = record.asset_materialization
            if found is not None and FINGERPRINT in found.metadata:
                of_month[name] = str(found.metadata[FINGERPRINT].value)
    return {month: Ingest(fingerprints[month], newest[month]) for month in newest}
