"""Sensors and the schedule: what starts runs and tells people without anybody asking.

Belongs here: the triggers. Does not belong here: rules (``due``), texts (``notify.templates``), thresholds (settings).
"""

import json
from collections.abc import Iterator, Sequence

import dagster as dg
from dagster._core.definitions.assets.job.asset_job import IMPLICIT_ASSET_JOB_NAME
from dagster._core.events import DagsterEventType
from dagster._core.events.log import EventLogEntry
from dagster._core.remote_origin import CodeLocationOrigin
from dagster._core.storage.tags import (
    ASSET_PARTITION_RANGE_END_TAG,
    ASSET_PARTITION_RANGE_START_TAG,
    PARTITION_NAME_TAG,
)

from health_pipeline import monitoring, notify
from health_pipeline.clock import Clock
from health_pipeline.defs.drift_sensor import build_drift_sensor
from health_pipeline.defs.due import Stage, due
from health_pipeline.defs.episodes import episode_before, failure_of
from health_pipeline.defs.failed_ticks import tell_failed_ticks
from health_pipeline.defs.failures import root_cause
from health_pipeline.defs.partitions import Partitions
from health_pipeline.defs.requests import REQUEST_TAG, STAGES, requests, retry_after, under_way
from health_pipeline.defs.state import read_state
from health_pipeline.months import MonthRange, month_key, parse_month
from health_pipeline.notify.episodes import told_since
from health_pipeline.settings import Settings
from health_pipeline.warehouse import Warehouse

EVERYTHING = STAGES[Stage.EXTRACTS] | STAGES[Stage.LABELS] | STAGES[Stage.IMPROVEMENT]
BATCH = 500
"""Check evaluations, or failed runs, looked at in one tick."""
LATE_SECONDS = 60.0
"""PostgreSQL numbers an event when it is written and shows it when that is committed: a lower number may show later.
Cursors stay before what is younger than this; it is read again, and told once because alerts have identities."""


def sensor_status(settings: Settings) -> dg.DefaultSensorStatus:
    """Whether sensors run without anybody switching them on in the UI."""
    return dg.DefaultSensorStatus.RUNNING if settings.automation else dg.DefaultSensorStatus.STOPPED


def build_sensors(settings: Settings, partitions: Partitions, clock: Clock) -> list[dg.SensorDefinition]:
    """All sensors of the graph but the one that deploys."""
    return [
        _new_files(settings, clock),
        build_drift_sensor(settings, partitions, clock, sensor_status(settings)),
        _failed_checks(settings, clock),
        _failed_runs(settings, clock),
        _decisions(settings, partitions, clock),
    ]


def build_schedule(settings: Settings, clock: Clock) -> dg.ScheduleDefinition:
    """Monthly look at what is due, for homes whose file sensor is off."""

    @dg.schedule(
        name="monthly_improvement",
        # The job of all assets: a target would become a job of its own, which allows no mixed partitions.
        job_name=IMPLICIT_ASSET_JOB_NAME,
        cron_schedule="0 5 2 * *",
        default_status=dg.DefaultScheduleStatus.RUNNING if settings.automation else dg.DefaultScheduleStatus.STOPPED,
        description="On the second of each month: ask for every stage that is due.",
    )
    def monthly_improvement(context: dg.ScheduleEvaluationContext) -> Sequence[dg.RunRequest]:
        return list(_due_requests(context, settings, clock, "schedule"))

    return monthly_improvement


def _due_requests(
    context: dg.SensorEvaluationContext | dg.ScheduleEvaluationContext, settings: Settings, clock: Clock, trigger: str
) -> Iterator[dg.RunRequest]:
    now = clock().timestamp()
    graph = context.repository_def.asset_graph  # type: ignore[union-attr]
    busy = under_way(context.instance, now)
    items = due(read_state(context.instance, settings, now))
    yield from requests(items, context.instance, graph, now=now, trigger=trigger, busy=busy)


def _new_files(settings: Settings, clock: Clock) -> dg.SensorDefinition:
    @dg.sensor(
        name="new_landing_files",
        asset_selection=EVERYTHING,  # as a target it would become a job, which allows no mixed partitions
        minimum_interval_seconds=30,
        default_status=sensor_status(settings),
        description="A month has landed or was restated, or its successor made its labels mature: run what follows.",
    )
    def new_landing_files(context: dg.SensorEvaluationContext) -> Sequence[dg.RunRequest]:
        return list(_due_requests(context, settings, clock, "new_files"))

    return new_landing_files


def _failed_checks(settings: Settings, clock: Clock) -> dg.SensorDefinition:
    """Dagster OSS alerts nobody about a failed check; a failed check that does not block even leaves its run green."""

    @dg.sensor(
        name="failed_check_alerts",
        minimum_interval_seconds=30,
        default_status=sensor_status(settings),
        description="One alert for each failed check evaluation, of any severity, with its month; for the record only "
        "where an episode says nothing new. Also tells of sensors that fail.",
    )
    def failed_check_alerts(context: dg.SensorEvaluationContext) -> dg.SensorResult:
        cursor = int(context.cursor or 0)
        records = context.instance.event_log_storage.get_event_records(
            dg.EventRecordsFilter(event_type=DagsterEventType.ASSET_CHECK_EVALUATION, after_cursor=cursor),
            limit=BATCH,
            ascending=True,
        )
        failed, now = 0, clock().timestamp()
        for record in records:
            evaluation = record.event_log_entry.get_dagster_event().asset_check_evaluation_data
            if _is_settled(record, now):
                cursor = record.storage_id
            if evaluation.passed:
                continue
            failed += 1
            alert = notify.templates.check_failed(
                check=evaluation.check_name,
                asset=evaluation.asset_key.to_user_string(),
                partition=evaluation.partition,
                severity=evaluation.severity.value,
                summary=evaluation.description or "",
                evaluation=str(record.storage_id),
                told_since=told_since(failure_of(evaluation), episode_before(context.instance, record.event_log_entry)),
                links=notify.links.to_asset(settings, evaluation.asset_key.to_user_string(), "checks"),
            )
            notify.post(alert, settings, clock)
        tell_failed_ticks(context.instance, settings, clock)
        notify.flush(settings, clock)
        return dg.SensorResult(skip_reason=f"{len(records)} evaluations read, {failed} failed", cursor=str(cursor))

    return failed_check_alerts


def _failed_runs(settings: Settings, clock: Clock) -> dg.SensorDefinition:
    """Dagster's own failure sensor moves on when its body fails: what failed on a full disk would never be told."""

    @dg.sensor(
        name="failed_run_alerts",
        minimum_interval_seconds=30,
        default_status=sensor_status(settings),
        description="One alert for each failed run: a warning while it is tried again within the hour.",
    )
    def failed_run_alerts(context: dg.SensorEvaluationContext) -> dg.SensorResult:
        found = json.loads(context.cursor or "0")
        # Dagster's own failure sensor, which had this name, left an object.
        cursor: int = found["record_id"] if isinstance(found, dict) else found
        changes = context.instance.fetch_run_status_changes(
            dg.RunStatusChangeRecordsFilter(event_type=DagsterEventType.RUN_FAILURE, after_storage_id=cursor),
            limit=BATCH,
            ascending=True,
        ).records
        told, now = 0, clock().timestamp()
        for record in changes:
            if _is_settled(record, now):
                cursor = record.storage_id
            run = context.instance.get_run_by_id(record.event_log_entry.run_id)
            # A run of the command line has no code location; who started it sees it fail.
            if run is None or not _runs_in(run, context.code_location_origin):
                continue
            notify.post(_run_failed(run, record.event_log_entry, context.instance, settings), settings, clock)
            told += 1
        if told:
            notify.flush(settings, clock)
        return dg.SensorResult(skip_reason=f"{told} failed runs", cursor=str(cursor))

    return failed_run_alerts


def _is_settled(record: dg.EventLogRecord, now: float) -> bool:
    """Whether a cursor may pass a record: all lower numbers show by now.

    One of the future is as old as any: the clock was set back, and to wait for it would tell nothing until then.
    """
    return abs(now - record.timestamp) > LATE_SECONDS


def _runs_in(run: dg.DagsterRun, location: CodeLocationOrigin | None) -> bool:
    """Whether the run belongs to the code location; neither has one where a test does both in its own process."""
    of_run = run.remote_job_origin.repository_origin.code_location_origin if run.remote_job_origin else None
    return (of_run and of_run.location_name) == (location and location.location_name)


def _run_failed(
    run: dg.DagsterRun, failure: EventLogEntry, instance: dg.DagsterInstance, settings: Settings
) -> notify.Alert:
    steps = [
        entry.get_dagster_event() for entry in instance.all_logs(run.run_id, of_type=DagsterEventType.STEP_FAILURE)
    ]
    single = run.tags.get(PARTITION_NAME_TAG)
    return notify.templates.run_failed(
        run_id=run.run_id,
        job=run.tags.get(REQUEST_TAG, run.job_name),
        partition=run.tags.get(ASSET_PARTITION_RANGE_START_TAG, single),
        until=run.tags.get(ASSET_PARTITION_RANGE_END_TAG, single),
        launched=None if run.job_name == IMPLICIT_ASSET_JOB_NAME else run.job_name,
        step=steps[0].step_key if steps else None,
        error=root_cause(steps[0]) if steps else failure.get_dagster_event().message or "",
        retry_after=retry_after(run, instance),
        links=notify.links.to_run(settings, run.run_id),
    )


def _decisions(settings: Settings, partitions: Partitions, clock: Clock) -> dg.SensorDefinition:
    @dg.sensor(
        name="decision_alerts",
        minimum_interval_seconds=30,
        default_status=sensor_status(settings),
        description="Tell what was decided about the champion of each month, with near misses. Also tells of sensors "
        "that fail.",
    )
    def decision_alerts(context: dg.SensorEvaluationContext) -> dg.SensorResult:
        if tell_failed_ticks(context.instance, settings, clock):
            notify.flush(settings, clock)
        told = set(json.loads(context.cursor or "[]"))
        stored = context.instance.get_materialized_partitions(dg.AssetKey(["models", "champion"]))
        months = sorted((set(stored) & set(partitions.models.get_partition_keys())) - told)
        if not months:
            return dg.SensorResult(skip_reason="no new decision", cursor=context.cursor)
        warehouse = Warehouse.from_settings(settings)
        span = MonthRange(parse_month(months[0]), parse_month(months[-1]))
        links = notify.links.to_asset(settings, "models/champion")
        for made in monitoring.decisions(warehouse, span):
            key = month_key(made.month)
            if key in told:
                continue
            again = f"{made.next_training_date:%Y-%m}" if made.next_training_date else None
            notify.post(
                notify.templates.decision(
                    month=key,
                    decision=made.decision,
                    model_id=made.model_id,
                    reason=made.reason,
                    next_training=again,
                    links=links,
                ),
                settings,
                clock,
            )
            if made.near_misses and made.challenger_id:
                notify.post(
                    notify.templates.gate_near_miss(
                        month=key, model_id=made.challenger_id, criteria=made.near_misses, links=links
                    ),
                    settings,
                    clock,
                )
        notify.flush(settings, clock)
        return dg.SensorResult(
            skip_reason=f"told {len(months)} decisions", cursor=json.dumps(sorted(told | set(months)))
        )

    return decision_alerts
