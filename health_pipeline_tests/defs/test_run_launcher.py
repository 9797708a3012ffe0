"""A run whose process is gone is noticed, also after a restart of everything."""

import json
import logging
import os
import signal
import socket
import subprocess
import sys
import time

import dagster as dg
import pytest
from dagster._core.events import DagsterEvent, DagsterEventType, EngineEventData
from dagster._core.launcher import LaunchRunContext, WorkerStatus
from dagster._core.storage.tags import GRPC_INFO_TAG
from dagster._core.workspace.context import WorkspaceProcessContext
from dagster._core.workspace.load_target import GrpcServerTarget
from dagster._daemon.monitoring.run_monitoring import monitor_started_run

from health_pipeline.defs.instance import open_instance
from health_pipeline.defs.run_launcher import MACHINE_TAG, WatchedRunLauncher
from health_pipeline.settings import load_settings


@pytest.fixture
def instance(tmp_path, monkeypatch):
    monkeypatch.delenv("DAGSTER_HOME", raising=False)
    with open_instance(load_settings(home=tmp_path)) as opened:
        assert isinstance(opened.run_launcher, WatchedRunLauncher)
        yield opened


def started(instance, pid, place=None, tags=None):
    tags = tags or {GRPC_INFO_TAG: json.dumps({"host": "localhost", **(place or {"socket": "/tmp/any"})})}
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


def test_a_run_of_the_command_line_that_was_killed_keeps_no_slot(instance):
    """Of four slots four such runs took all, for good: nothing was started any more."""
    from health_pipeline.defs.runner import PlannedRun, execute
    from health_pipeline.months import MonthRange

    @dg.asset(partitions_def=dg.MonthlyPartitionsDefinition("2022-01-01", end_date="2022-03-01"))
    def any_asset() -> None: ...

    planned = PlannedRun((any_asset.key,), MonthRange.of("2022-01", "2022-01"))
    done = execute(dg.Definitions(assets=[any_asset]), planned, instance)
    tags = instance.get_run_by_id(done.run_id).tags

    assert health(instance, started(instance, os.getpid(), tags=tags)) is WorkerStatus.RUNNING
    assert health(instance, started(instance, dead(), tags=tags)) is WorkerStatus.FAILED
    elsewhere = {**tags, MACHINE_TAG: "another container"}
    assert health(instance, started(instance, dead(), tags=elsewhere)) is WorkerStatus.RUNNING


@pytest.fixture
def code_server(tmp_path):
    """Starts a code server on a port, again and again on the same one; what it started dies with it."""
    (tmp_path / "sleeping.py").write_text(
        "import time, dagster as dg\n@dg.op\ndef slow():\n    time.sleep(600)\n"
        "@dg.job(executor_def=dg.in_process_executor)\ndef sleeps():\n    slow()\n"
        "defs = dg.Definitions(jobs=[sleeps])\n"
    )
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    words = [sys.executable, "-m", "dagster", "api", "grpc", "--host", "127.0.0.1", "--port", str(port)]
    servers = []

    def start():
        with (tmp_path / "server.log").open("ab") as log:
            command = [*words, "--python-file", str(tmp_path / "sleeping.py")]
            servers.append(subprocess.Popen(command, stdout=log, stderr=log, start_new_session=True))
        deadline = time.monotonic() + 60
        while time.monotonic() < deadline:
            with socket.socket() as probe:
                if probe.connect_ex(("127.0.0.1", port)) == 0:
                    return port
            time.sleep(0.1)
        raise AssertionError((tmp_path / "server.log").read_text())

    def kill():
        os.killpg(servers[-1].pid, signal.SIGKILL)
        servers.pop().wait()

    yield start, kill
    if servers:
        kill()


def test_a_run_that_went_down_with_its_code_servers_container_has_failed(instance, code_server):
    start, kill = code_server
    target = GrpcServerTarget(host="127.0.0.1", port=start(), socket=None, location_name="here")
    with WorkspaceProcessContext(instance, target) as process:
        workspace = process.create_request_context()
        (repository,) = workspace.get_code_location("here").get_repositories().values()
        job = repository.get_full_job("sleeps")
        run = dg.DagsterRun(job_name="sleeps", remote_job_origin=job.get_remote_origin())
        instance.add_run(run)
        instance.run_launcher.launch_run(LaunchRunContext(dagster_run=run, workspace=workspace))
        deadline = time.monotonic() + 60
        while instance.get_run_by_id(run.run_id).status is not dg.DagsterRunStatus.STARTED:
            assert time.monotonic() < deadline
            time.sleep(0.1)
        run = instance.get_run_by_id(run.run_id)
        assert health(instance, run) is WorkerStatus.RUNNING
        kill()
        assert health(instance, run) is WorkerStatus.RUNNING  # a server that is away says nothing
        start()
        assert health(instance, run) is WorkerStatus.FAILED


def test_run_monitoring_ends_the_run_so_that_nothing_waits_for_it(instance):
    run = started(instance, dead())
    (record,) = instance.get_run_records(dg.RunsFilter(run_ids=[run.run_id]))
    monitor_started_run(instance, None, record, logging.getLogger("test"))
    assert instance.get_run_by_id(run.run_id).status is dg.DagsterRunStatus.FAILURE
