"""Sensors that fail are told of: the second time in a row, once a day, and never for what has been made up for."""

import datetime as dt
import json
import sys

import pytest
from dagster._core.definitions.run_request import InstigatorType
from dagster._core.remote_origin import (
    InProcessCodeLocationOrigin,
    RemoteInstigatorOrigin,
    RemoteRepositoryOrigin,
)
from dagster._core.scheduler.instigation import (
    InstigatorState,
    InstigatorStatus,
    ScheduleInstigatorData,
    TickData,
    TickStatus,
)
from dagster._core.types.loadable_target_origin import LoadableTargetOrigin
from dagster_shared.error import SerializableErrorInfo

from health_pipeline import notify
from health_pipeline.clock import frozen_clock
from health_pipeline.defs.failed_ticks import tell_failed_ticks
from health_pipeline.defs.instance import open_instance
from health_pipeline.settings import load_settings

NOON = dt.datetime(2024, 5, 1, 12, tzinfo=dt.UTC)
FAILURE, SKIPPED, SUCCESS, STARTED = TickStatus.FAILURE, TickStatus.SKIPPED, TickStatus.SUCCESS, TickStatus.STARTED


@pytest.fixture
def settings(tmp_path, monkeypatch):
    monkeypatch.delenv("DAGSTER_HOME", raising=False)
    return load_settings(home=tmp_path)


@pytest.fixture
def instance(settings):
    with open_instance(settings) as opened:  # an ephemeral one keeps no ticks
        yield opened


def running(instance, name="new_landing_files", kind=InstigatorType.SENSOR, status=InstigatorStatus.DECLARED_IN_CODE):
    target = LoadableTargetOrigin(executable_path=sys.executable, module_name="health_pipeline.definitions")
    place = RemoteRepositoryOrigin(InProcessCodeLocationOrigin(target), "__repository__")
    data = ScheduleInstigatorData("0 5 2 * *") if kind is InstigatorType.SCHEDULE else None
    state = InstigatorState(RemoteInstigatorOrigin(place, name), kind, status, data)
    instance.add_instigator_state(state)
    return state


def ticks(instance, state, *statuses, end=NOON, error="DuckDB is away"):
    """Ticks in order, thirty seconds apart, the last one at ``end``."""
    for back, status in zip(range(len(statuses) - 1, -1, -1), statuses, strict=True):
        cause = SerializableErrorInfo(error, [], "WarehouseError")
        info = SerializableErrorInfo("Error in the sensor", [], "SensorExecutionError", cause)
        instance.create_tick(
            TickData(
                instigator_origin_id=state.instigator_origin_id,
                instigator_name=state.name,
                instigator_type=state.instigator_type,
                status=status,
                timestamp=end.timestamp() - 30 * back,
                selector_id=state.selector_id,
                run_ids=[],
                error=info if status is FAILURE else None,
            )
        )


def told(settings):
    log = settings.home / "logs" / "alerts.jsonl"
    return [json.loads(line) for line in log.read_text().splitlines()] if log.exists() else []


def look(instance, settings, now=NOON):
    failing = tell_failed_ticks(instance, settings, frozen_clock(now))
    notify.flush(settings, frozen_clock(now))
    return failing


@pytest.mark.parametrize(
    ("statuses", "tells"),
    [
        ((FAILURE, FAILURE), True),
        ((SKIPPED, FAILURE, FAILURE, STARTED), True),
        ((SUCCESS, FAILURE), False),
        ((FAILURE,), False),
        ((FAILURE, FAILURE, SKIPPED), False),
        ((SKIPPED, SUCCESS), False),
    ],
)
def test_the_second_failure_in_a_row_is_told(settings, instance, statuses, tells):
    ticks(instance, running(instance), *statuses)
    assert look(instance, settings) == int(tells)
    assert [(line["title"], line["severity"]) for line in told(settings)] == (
        [("Sensor failed: new_landing_files", "critical")] if tells else []
    )
    if tells:
        assert "DuckDB is away" in told(settings)[0]["body"], "the cause, not Dagster's wrapping"


def test_a_sensor_that_goes_on_failing_is_told_once_a_day(settings, instance):
    state = running(instance)
    for minutes in range(5):
        ticks(instance, state, FAILURE, FAILURE, end=NOON + dt.timedelta(minutes=minutes))
        look(instance, settings, NOON + dt.timedelta(minutes=minutes))
    assert len(told(settings)) == 1
    tomorrow = NOON + dt.timedelta(days=1)
    ticks(instance, state, FAILURE, FAILURE, end=tomorrow)
    look(instance, settings, tomorrow)
    assert len(told(settings)) == 2


def test_a_schedule_ticks_seldom_so_one_failure_is_told(settings, instance):
    ticks(instance, running(instance, "monthly_improvement", InstigatorType.SCHEDULE), FAILURE)
    assert look(instance, settings) == 1


def test_what_is_switched_off_or_long_past_is_not(settings, instance):
    ticks(instance, running(instance, "off", status=InstigatorStatus.STOPPED), FAILURE, FAILURE)
    ticks(instance, running(instance, "removed"), FAILURE, FAILURE, end=NOON - dt.timedelta(days=3))
    assert look(instance, settings) == 0
    assert told(settings) == []
