"""Reads what is stored off the Dagster instance, for the rules of ``due``."""

import dagster as dg
from dagster._core.events import DagsterEventType
from dagster._core.storage.asset_check_execution_record import AssetCheckExecutionRecordStatus

from health_pipeline import cohort, features
from health_pipeline.contracts import BRONZE
from health_pipeline.defs.bronze import FINGERPRINT
from health_pipeline.defs.due import EXTRACTED, Ingest, State
from health_pipeline.months import Month, parse_month
from health_pipeline.settings import Settings
from health_pipeline.sources.arrivals import arrivals

SETTLE_SECONDS = 20.0
"""A month whose newest file is younger than this may still be arriving."""

WATCHED = (
    *EXTRACTED,
    "gold.labels",
    "gold.predictions",
    "models.champion",
    "monitoring.drift",
    "monitoring.performance",
)

GUARDED = ("gold.features", "gold.labels")
"""Tables that later stages read in runs of their own."""

BLOCKING = tuple(
    dg.AssetCheckKey(dg.AssetKey(check.table.split(".")), check.name)
    for check in (*features.CHECKS, *cohort.CHECKS)
    if check.blocking and check.table in GUARDED
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
        refused=refused_months(instance),
    )


def refused_months(instance: dg.DagsterInstance) -> dict[str, set[Month]]:
    """Per table that later stages read, the months that a blocking check refused, or that a run is about to judge.

    A blocking check of these tables says no with severity ERROR only.
    """
    found: dict[str, set[Month]] = {}
    for info in instance.event_log_storage.get_asset_check_partition_info(list(BLOCKING)):
        status = info.latest_execution_status
        if status is AssetCheckExecutionRecordStatus.PLANNED:
            # A run that was killed before it came to its checks judges nothing any more.
            run = instance.get_run_by_id(info.latest_planned_run_id)
            is_refused = run is not None and not run.is_finished
        else:
            is_refused = status is AssetCheckExecutionRecordStatus.FAILED
        if is_refused and info.partition_key is not None:
            table = ".".join(info.check_key.asset_key.path)
            found.setdefault(table, set()).add(parse_month(info.partition_key))
    return found


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
