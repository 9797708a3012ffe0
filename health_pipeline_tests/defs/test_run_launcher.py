"""A run whose process is gone is noticed, also after a restart of everything."""

import json
import logging
import os
import subprocess
import sys
import time

import dagster as dg
import pytest
from dagster._core.events import DagsterEvent, DagsterEventType, EngineEventData
from dagster._core.launcher import WorkerStatus
from dagster._core.storage.tags import GRPC_INFO_TAG
from dagster._daemon.monitoring.run_monitoring import monitor_started_run

from health_pipeline.defs.instance import open_instance
from health_pipeline.defs.run_launcher import WatchedRunLauncher
from health_pipeline.settings import load_settings


@pytest.fixture
def instance(tmp_path, monkeypatch):
    monkeypatch.delenv("DAGSTER_HOME", raising=False)
    with open_instance(load_settings(home=tmp_path)) as opened:
        assert isinstance(opened.run_launcher, WatchedRunLauncher)
        yield opened


def started(instance, pid, place=None):
    tags = {GRPC_INFO_TAG: json.dumps({"host": "localhost", **(place or {"socket": "/tmp/any"})})}
    run = dg.DagsterRun(job_name="any", run_id=None, tags=tags, status=dg.DagsterRunStatus.STARTED)
    instance.add_run(run)
    event = DagsterEvent(
        DagsterEventType.ENGINE_EVENT.value, "any", event_specific_data=EngineEventData.in_process(pid)
    )
    instance.report_dagster_event(event, run_id=run.run_id)
    return instance.get_run_by_id(run.run_id)


def dead():
    process = subprocess.Popen([sys.executable, "-c", ""])
    process.wait()
    return process.pid


def health(instance, run):
    return instance.run_launcher.check_run_worker_health(run).status


def test_a_living_process_runs_and_a_dead_one_has_failed(instance):
    assert health(instance, started(instance, os.getpid())) is WorkerStatus.RUNNING
    assert health(instance, started(instance, dead())) is WorkerStatus.FAILED


def test_a_process_that_has_ended_and_that_nobody_asked_for_has_failed(instance):
    process = subprocess.Popen([sys.executable, "-c", ""])
    run = started(instance, process.pid)
    deadline = time.monotonic() + 10
    while health(instance, run) is WorkerStatus.RUNNING and time.monotonic() < deadline:
        time.sleep(0.05)
    assert health(instance, run) is WorkerStatus.FAILED
    process.wait()


def test_a_process_that_only_has_the_number_is_another_one(instance, monkeypatch):
    run = started(instance, os.getpid())
    monkeypatch.setattr("health_pipeline.defs.run_launcher._began", lambda _pid: time.time() + 3600)
    assert health(instance, run) is WorkerStatus.FAILED


def test_a_run_on_another_machine_is_believed(instance):
    assert health(instance, started(instance, dead(), {"port": 4000})) is WorkerStatus.RUNNING


def test_run_monitoring_ends_the_run_so_that_nothing_waits_for_it(instance):
    run = started(instance, dead())
    (record,) = instance.get_run_records(dg.RunsFilter(run_ids=[run.run_id]))
    monitor_started_run(instance, None, record, logging.getLogger("test"))
    assert instance.get_run_by_id(run.run_id).status is dg.DagsterRunStatus.FAILURE
