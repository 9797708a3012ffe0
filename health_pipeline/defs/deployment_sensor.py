"""The sensor that deploys: reads the gates of the newest champion month and asks for what follows.

Belongs here: when a deployment, a skip report, a recovery or a copy of the history is due.
"""

import json
from collections.abc import Iterator, Sequence
from typing import Any

import dagster as dg
from dagster._core.event_api import PartitionKeyFilter
from dagster._core.storage.asset_check_execution_record import AssetCheckExecutionRecordStatus

from health_pipeline import deployment
from health_pipeline.clock import Clock
from health_pipeline.defs.deployment import DEPLOYMENT_TAG
from health_pipeline.defs.monthly import asset_key
from health_pipeline.defs.partitions import Partitions
from health_pipeline.defs.requests import UNFINISHED
from health_pipeline.deployment.history import Event
from health_pipeline.deployment.recovery import open_transition
from health_pipeline.months import MonthRange, parse_month
from health_pipeline.promotion import CHAMPION, CHECKS, Outcome
from health_pipeline.settings import Settings
from health_pipeline.warehouse import Slice, Warehouse

GATES = tuple(check.name for check in CHECKS if check.blocking)


def build_sensor(
    settings: Settings, partitions: Partitions, clock: Clock, jobs: Sequence[Any], status: dg.DefaultSensorStatus
) -> dg.SensorDefinition:
    """``champion_deployment``."""

    @dg.sensor(
        name="champion_deployment",
        jobs=jobs,
        minimum_interval_seconds=30,
        default_status=status,
        description="Gates of the newest champion month passed: deploy; else report why not. Recovers what was killed.",
    )
    def champion_deployment(context: dg.SensorEvaluationContext) -> dg.SensorResult:
        instance = context.instance
        history = deployment.history_of(settings, clock)
        cursor: dict[str, Any] = {"decided": None, "mirrored": 0, **json.loads(context.cursor or "{}")}
        if instance.get_run_records(dg.RunsFilter(tags={DEPLOYMENT_TAG: "true"}, statuses=UNFINISHED), limit=1):
            return dg.SensorResult(skip_reason="a deployment is under way", cursor=context.cursor)
        events = history.events()
        transition = open_transition(events)
        if transition is not None:
            failures = sum(event.step == "recovery" and event.outcome == "fail" for event in events)
            key = f"recover-{transition.event.row_hash}-{failures}"
            request = dg.RunRequest(run_key=key, job_name="recover_deployment")
            return dg.SensorResult(run_requests=[request], cursor=context.cursor)
        requests = []
        decided = _decided(instance, settings, partitions)
        if isinstance(decided, str):
            reason: str | None = decided
        else:
            reason = None
            month, storage_id, deploy = decided
            if cursor["decided"] != [month, storage_id]:
                job = "deploy" if deploy else "report_skip"
                requests.append(dg.RunRequest(run_key=f"{job}-{month}-{storage_id}", partition_key=month, job_name=job))
                cursor["decided"] = [month, storage_id]
        if not requests:  # a deployment copies its own rows, and has none yet
            requests += _copies(events, cursor, partitions)
        return dg.SensorResult(
            run_requests=requests,
            skip_reason=None if requests else reason or "nothing new",
            cursor=json.dumps(cursor),
        )

    return champion_deployment


def _copies(events: Sequence[Event], cursor: dict[str, Any], partitions: Partitions) -> Iterator[dg.RunRequest]:
    """Months whose history has rows that were not seen before."""
    fresh = [event for event in events if event.sequence > cursor["mirrored"]]
    for month in sorted({event.month for event in fresh} & set(partitions.models.get_partition_keys())):
        last = max(event.sequence for event in fresh if event.month == month)
        yield dg.RunRequest(run_key=f"mirror-{month}-{last}", partition_key=month, job_name="mirror_history")
    cursor["mirrored"] = max((event.sequence for event in events), default=0)


def _decided(instance: dg.DagsterInstance, settings: Settings, partitions: Partitions) -> tuple[str, int, bool] | str:
    """Newest champion month, storage id of its materialisation, whether it is to be deployed; or what is missing."""
    key = asset_key(CHAMPION)
    months = sorted(set(instance.get_materialized_partitions(key)) & set(partitions.models.get_partition_keys()))
    if not months:
        return "no champion was decided yet"
    month = months[-1]
    records = instance.fetch_materializations(
        dg.AssetRecordsFilter(asset_key=key, asset_partitions=[month]), limit=1
    ).records
    if not records:
        return f"{month}: the decision is not recorded yet"
    storage_id = records[0].storage_id
    missing, failed = _gates(instance, month, storage_id)
    if missing:
        return f"{month}: gates not judged yet: {', '.join(missing[:5])}"
    warehouse = Warehouse.from_settings(settings)
    span = MonthRange(parse_month(month), parse_month(month))
    with warehouse.read(f"decision of {month}") as connection:
        row = connection.execute(f"SELECT decision FROM {Slice(CHAMPION, span)}").fetchone()
    promotes = row is not None and row[0] != Outcome.SKIP
    return month, storage_id, promotes and not failed


def _gates(instance: dg.DagsterInstance, month: str, storage_id: int) -> tuple[list[str], list[str]]:
    """Gates without a verdict on this very materialisation, and gates that block."""
    keys = [dg.AssetCheckKey(asset_key(CHAMPION), name) for name in GATES]
    latest = instance.event_log_storage.get_latest_asset_check_execution_by_key(
        keys, partition_filter=PartitionKeyFilter(key=month)
    )
    missing, failed = [], []
    for key in keys:
        record = latest.get(key)
        evaluation = record.evaluation if record is not None else None
        target = evaluation.target_materialization_data if evaluation is not None else None
        if record is None or evaluation is None or target is None or target.storage_id != storage_id:
            missing.append(key.name)
        elif (
            record.status is not AssetCheckExecutionRecordStatus.SUCCEEDED
            and evaluation.severity is dg.AssetCheckSeverity.ERROR
        ):
            failed.append(key.name)
    return missing, failed
