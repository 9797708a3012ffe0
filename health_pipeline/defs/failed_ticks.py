"""Tells of sensors and schedules that fail: what they watch over is unwatched meanwhile.

Belongs here: which ticks are worth an alert. Does not belong here: what a sensor does.
"""

import dagster as dg
from dagster._core.definitions.run_request import InstigatorType
from dagster._core.scheduler.instigation import InstigatorTick, TickStatus

from health_pipeline import notify
from health_pipeline.clock import Clock
from health_pipeline.defs.failures import cause_of
from health_pipeline.settings import Settings

NEEDED = {InstigatorType.SENSOR: 2, InstigatorType.SCHEDULE: 1}
"""Failures in a row. A sensor looks again within a minute, so a single one has been made up for."""
ENDED = [TickStatus.SUCCESS, TickStatus.SKIPPED, TickStatus.FAILURE]  # Dagster insists on a list
NEWS_SECONDS = 86_400.0


def tell_failed_ticks(instance: dg.DagsterInstance, settings: Settings, clock: Clock) -> int:
    """Post one alert a day for each sensor or schedule that fails and each kind of error; returns how many fail now.

    Called by more than one sensor, so that they watch each other too.
    """
    failing = 0
    for state in instance.all_instigator_state():
        needed = NEEDED.get(state.instigator_type)
        if needed is None or not state.is_running:
            continue
        latest = instance.get_ticks(state.instigator_origin_id, state.selector_id, limit=needed, statuses=ENDED)
        if len(latest) < needed or any(tick.status is not TickStatus.FAILURE for tick in latest):
            continue
        if latest[0].timestamp < clock().timestamp() - NEWS_SECONDS:
            continue
        failing += 1
        notify.post(_alert(latest[0]), settings, clock)
    return failing


def _alert(tick: InstigatorTick) -> notify.Alert:
    kind = (tick.error.cls_name if tick.error else None) or "error"
    day = int(tick.timestamp // NEWS_SECONDS)
    return notify.templates.sensor_failed(
        sensor=tick.instigator_name,
        tick=f"{day}-{kind}",
        error=cause_of(tick.error) if tick.error else "no reason given",
    )
