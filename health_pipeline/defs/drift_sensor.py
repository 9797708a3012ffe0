"""The sensor that retrains on drift: the next month's models now, instead of when that month has closed.

Belongs here: when drift's wish can be granted. Does not belong here: what counts as drift (``monitoring``).
"""

from collections.abc import Mapping
from dataclasses import dataclass

import dagster as dg

from health_pipeline import monitoring, notify
from health_pipeline.clock import Clock
from health_pipeline.defs.due import Due, Stage
from health_pipeline.defs.partitions import Partitions
from health_pipeline.defs.requests import STAGES, TRIGGER_TAG, requests, under_way
from health_pipeline.defs.state import records_of, refused_months
from health_pipeline.months import Month, MonthRange, month_key, parse_month, shift
from health_pipeline.settings import Settings
from health_pipeline.warehouse import Warehouse

DRIFT = "drift"
"""Trigger of the runs that drift asks for."""


@dataclass(frozen=True)
class _Answer:
    """What follows from the latest monitored month: what is due, or why nothing is.

    Attributes:
        is_final: nothing else can follow until monitoring says something new.
    """

    why: str
    due: Due | None = None
    is_final: bool = True


def build_drift_sensor(
    settings: Settings, partitions: Partitions, clock: Clock, status: dg.DefaultSensorStatus
) -> dg.SensorDefinition:
    """``drift_retrain``."""

    @dg.sensor(
        name="drift_retrain",
        target=STAGES[Stage.RETRAIN],
        minimum_interval_seconds=60,
        default_status=status,
        description="Enough of the last months drifted, the latest included: train the next month's models now, on the "
        "labels that have matured since, instead of when that month has closed.",
    )
    def drift_retrain(context: dg.SensorEvaluationContext) -> dg.SensorResult:
        instance, now = context.instance, clock().timestamp()
        busy = under_way(instance, now)
        monitored = {table: records_of(instance, table) for table in ("monitoring.drift", "monitoring.performance")}
        months = sorted(month for month in monitored["monitoring.drift"] if month >= settings.first_model_month)
        if not months:
            return dg.SensorResult(skip_reason="no month was monitored yet")
        # Outcomes that mature later are another state of the same month: a changed concept shows only then.
        state = f"{months[-1]:%Y-%m}@{max(number for found in monitored.values() for number in found.values())}"
        if context.cursor == state:
            return dg.SensorResult(skip_reason=f"{months[-1]:%Y-%m} was judged already", cursor=state)
        answer = _judge(instance, settings, partitions, first=months[0], latest=months[-1])
        if answer.due is None:
            return dg.SensorResult(skip_reason=answer.why, cursor=state if answer.is_final else context.cursor)
        alert = notify.templates.retrain_requested(
            month=month_key(months[-1]),
            model_month=month_key(answer.due.month),
            reason=answer.why,
            links=notify.links.to_asset(settings, "monitoring/drift"),
        )
        notify.send(alert, settings, clock)
        graph = context.repository_def.asset_graph  # type: ignore[union-attr]
        asked = requests([answer.due], instance, graph, now=now, trigger=DRIFT, busy=busy, reason=answer.why)
        # The cursor stays until the models are there: a retrain that failed is asked for again after a pause.
        return dg.SensorResult(run_requests=list(asked), cursor=context.cursor)

    return drift_retrain


def _judge(
    instance: dg.DagsterInstance, settings: Settings, partitions: Partitions, *, first: Month, latest: Month
) -> _Answer:
    # One month more than drift is judged over: outcomes have matured up to the month before the latest at most.
    window = MonthRange(max(shift(latest, -settings.monitoring.drift_window), first), latest)
    statuses = monitoring.month_statuses(Warehouse.from_settings(settings), window)
    asked = _last_asked(instance, latest)
    request = monitoring.drift_request(statuses, settings, asked)
    if request is None:
        since = f" (last asked for in {asked:%Y-%m})" if asked else ""
        return _Answer(f"{latest:%Y-%m}: no retrain needed{since}")
    target, matured = shift(latest, 1), shift(latest, -1)
    if month_key(target) not in partitions.models.get_partition_keys():
        return _Answer(f"{request.reason}; but {target:%Y-%m} lies after end_month")
    if target in records_of(instance, "models.champion"):
        return _Answer(f"{request.reason}; the models of {target:%Y-%m} are made")
    labels: Mapping[Month, int] = records_of(instance, "gold.labels")
    if matured not in labels:
        return _Answer(f"{request.reason}; waits for the labels of {matured:%Y-%m}", is_final=False)
    refused = refused_months(instance)
    if any(month <= latest for months in refused.values() for month in months):
        return _Answer(f"{request.reason}; a blocking check of features or labels says no", is_final=False)
    return _Answer(request.reason, Due(Stage.RETRAIN, target, f"{labels[matured]}"))


def _last_asked(instance: dg.DagsterInstance, latest: Month) -> Month | None:
    """Newest month before ``latest`` whose drift asked for a retrain that did not fail.

    Read off the runs, not the cursor: a cursor that is reset must not start a second retrain.
    """
    failed = {dg.DagsterRunStatus.FAILURE, dg.DagsterRunStatus.CANCELED}
    statuses = [status for status in dg.DagsterRunStatus if status not in failed]
    records = instance.get_run_records(dg.RunsFilter(tags={TRIGGER_TAG: DRIFT}, statuses=statuses))
    # The run makes the models of the month after the one that drifted.
    months = [shift(parse_month(record.dagster_run.tags["dagster/partition"]), -1) for record in records]
    return max((month for month in months if month < latest), default=None)
