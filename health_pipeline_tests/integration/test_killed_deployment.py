"""The orchestrator dies in the middle of a deployment: after its restart the model comes to serve without anybody."""

from __future__ import annotations

import contextlib
import json
import os
import signal
import time
from pathlib import Path

import pytest

from health_pipeline.defs.instance import open_instance
from health_pipeline.deployment import LocalTarget, history_of, tools_of
from health_pipeline.months import MonthRange, month_key
from health_pipeline.settings import load_settings
from health_pipeline.sources.simulator import simulate
from health_pipeline_tests.integration.dagster_services import services
from health_pipeline_tests.integration.home import run, unattended_environment

MONTHS = MonthRange.of("2022-01", "2022-08")
PATIENCE_SECONDS = 600


@pytest.fixture
def home(tmp_path, monkeypatch):
    monkeypatch.delenv("DAGSTER_HOME", raising=False)
    environment = unattended_environment(tmp_path / "home", MONTHS, health_seconds=8)
    for name, value in environment.items():
        monkeypatch.setenv(name, value)
    settings = load_settings()
    yield settings, environment
    LocalTarget(settings).stop()


def steps(settings):
    return [(event.step, event.outcome) for event in history_of(settings).events()]


def until(what, condition):
    deadline = time.monotonic() + PATIENCE_SECONDS
    while time.monotonic() < deadline:
        if condition():
            return
        time.sleep(0.2)
    raise TimeoutError(what)


def kill_the_orchestrator():
    """UI, daemon, code servers and runs die at once; the API, in a session of its own, is nobody's child."""
    here = os.getsid(0)
    numbers = [int(entry.name) for entry in Path("/proc").iterdir() if entry.name.isdigit()]
    own = {pid for pid in numbers if _parent(pid) == os.getpid()} - {os.getpid()}
    doomed = [pid for pid in numbers if _session(pid) in own - {here}]
    assert len(doomed) > 3, "webserver, daemon, their code servers, the run"
    for pid in doomed:
        with contextlib.suppress(ProcessLookupError):
            os.kill(pid, signal.SIGKILL)


def _session(pid):
    with contextlib.suppress(ProcessLookupError):
        return os.getsid(pid)


def _parent(pid):
    with contextlib.suppress(OSError):
        return int(Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[1])


@pytest.mark.slow
def test_a_deployment_that_died_with_everything_is_put_right_and_done_again(home):
    settings, environment = home
    simulate(MONTHS, settings)
    run(settings, MONTHS)
    with services(settings.home, environment):
        until("the observation after the rollout", lambda: ("health", "started") in steps(settings))
        time.sleep(2)
        kill_the_orchestrator()
    assert ("promotion", "pass") not in steps(settings)
    with services(settings.home, environment):
        until("the recovery", lambda: ("recovery", "pass") in steps(settings))
        until("the promotion", lambda: ("promotion", "pass") in steps(settings))
        with open_instance(settings) as instance:
            deployments = [each for each in instance.get_runs() if each.job_name == "deploy"]
    assert [each.tags["dagster/partition"] for each in deployments] == [month_key(MONTHS.last)] * 2
    tools = tools_of(settings)
    serving = tools.target.serving()
    assert serving is not None
    assert serving.model_id == tools.registry.holder("champion")
    assert tools.history.verify() == []
    assert steps(settings).count(("promotion", "pass")) == 1
    log = (settings.home / "logs" / "alerts.jsonl").read_text().splitlines()
    kinds = [json.loads(line)["kind"] for line in log]
    assert {kind: kinds.count(kind) for kind in ("run_failed", "rolled_back", "deployed")} == {
        "run_failed": 1,
        "rolled_back": 1,
        "deployed": 1,
    }
