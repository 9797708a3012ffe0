"""Several machines, one hospital: workers that meet in PostgreSQL and S3 give the rows of a single machine."""

from __future__ import annotations

import os
import re
import signal
import subprocess
import sys
import time

import pytest

from health_pipeline.months import MonthRange, month_key
from health_pipeline.warehouse import Warehouse
from health_pipeline_tests.integration.dagster_services import services
from health_pipeline_tests.integration.home import MONTHS, land, run, small_environment, small_settings
from health_pipeline_tests.integration.servers import Shared, deliver, shared_storage
from health_pipeline_tests.integration.tables import DERIVED, LANDED, assert_the_same, differences

pytestmark = [pytest.mark.slow, pytest.mark.servers, pytest.mark.xdist_group("workers")]
EARLY, LATE = MonthRange.of("2022-01", "2022-05"), MonthRange.of("2022-06", "2022-10")
SCORED = MonthRange.of("2022-08", "2022-09"), MonthRange.of("2022-10", "2022-10")
"""Months with models, for two workers."""
PATIENCE_SECONDS = 600


@pytest.fixture(autouse=True)
def _own_instance(monkeypatch):
    monkeypatch.delenv("DAGSTER_HOME", raising=False)


@pytest.fixture(scope="module")
def single(tmp_path_factory):
    """One machine, one file."""
    settings = small_settings(tmp_path_factory.mktemp("single") / "home")
    previous = os.environ.pop("DAGSTER_HOME", None)
    land(settings)
    run(settings)
    os.environ.pop("DAGSTER_HOME", None)
    if previous is not None:
        os.environ["DAGSTER_HOME"] = previous
    return settings


@pytest.fixture
def shared(tmp_path):
    with shared_storage(tmp_path) as storage:
        yield storage


class Fleet:
    """Machines that share a home's files (models), landing zone and lake on S3, Dagster's records and MLflow."""

    def __init__(self, home, shared: Shared, extracts) -> None:
        self.settings = small_settings(home, **shared.settings)
        self.environment = small_environment(home, **shared.settings)
        shared.make_instance(home)
        deliver(extracts, self.settings.landing_uri)

    def worker(self, select: str, months: MonthRange = MONTHS) -> subprocess.Popen:
        """A process that materialises the selection, as another machine would."""
        asked = ["--from", f"{months.first:%Y-%m}", "--to", f"{months.last:%Y-%m}", "--select", select]
        return subprocess.Popen(
            [sys.executable, "-m", "health_pipeline", "run", *asked],
            env={**os.environ, **self.environment},
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
        )

    def together(self, *tasks: tuple[str, MonthRange]) -> None:
        """Workers that run at once and all succeed."""
        workers = [self.worker(*task) for task in tasks]
        outputs = [worker.communicate(timeout=PATIENCE_SECONDS)[0] for worker in workers]
        for worker, output in zip(workers, outputs, strict=True):
            assert worker.returncode == 0, output[-4000:]

    def stored_months(self, table: str, months: MonthRange = MONTHS) -> int:
        schema, name = table.split(".")
        with Warehouse.from_settings(self.settings).read("test") as connection:
            known = connection.execute(
                "SELECT count(*) FROM information_schema.tables WHERE table_schema = ? AND table_name = ?",
                [schema, name],
            ).fetchone()
            if not known[0]:
                return 0
            sql = f"SELECT count(DISTINCT month) FROM {table} WHERE month BETWEEN ? AND ?"
            return connection.execute(sql, [months.first, months.last]).fetchone()[0]


@pytest.fixture
def fleet(tmp_path, shared, single):
    return Fleet(tmp_path / "fleet", shared, single.home / "landing")


def succeeded(worker: subprocess.Popen) -> None:
    output, _ = worker.communicate(timeout=PATIENCE_SECONDS)
    assert worker.returncode == 0, output[-4000:]


def killed_when(worker: subprocess.Popen, reached) -> None:
    """Wait until the worker has got somewhere, then take its machine away."""
    deadline = time.monotonic() + PATIENCE_SECONDS
    while not reached():
        assert worker.poll() is None, worker.communicate()[0][-4000:]
        assert time.monotonic() < deadline
        time.sleep(0.2)
    worker.send_signal(signal.SIGKILL)
    worker.communicate(timeout=60)
    assert worker.returncode == -signal.SIGKILL, "it had ended before it could be killed"


def test_two_workers_give_what_one_machine_gives_though_one_is_killed_twice(single, fleet):
    # Extracts: each worker has its half of the months. The second machine is lost after its first table.
    first = fleet.worker("group:bronze,group:silver", EARLY)
    second = fleet.worker("group:bronze,group:silver", LATE)
    killed_when(second, lambda: fleet.stored_months("bronze.admissions", LATE) > 0)
    succeeded(first)
    late = f"month >= DATE '{month_key(LATE.first)}'"
    assert differences(single, fleet.settings, "bronze.admissions", late)[1:] == (0, 0), "what was committed is kept"
    assert all(fleet.stored_months(table, LATE) in (0, len(LATE)) for table in LANDED), "all or nothing"
    # Both are asked for what is missing, at once: the same months replaced by two machines at the same time.
    fleet.together(("group:bronze,group:silver", LATE), ("group:bronze,group:silver", LATE))
    assert_the_same(single, fleet.settings, LANDED)

    fleet.together(("group:gold", EARLY), ("group:gold", LATE))

    # Models: a family for each worker. The second machine is lost while it trains.
    first = fleet.worker("key:models/logistic_regression")
    second = fleet.worker("key:models/xgboost")
    killed_when(second, lambda: any((fleet.settings.home / "models" / "xgboost").glob("*")))
    succeeded(first)
    fleet.together(("key:models/xgboost", MONTHS))
    fleet.together(("key:models/champion", MONTHS))
    fleet.together(*(("group:scoring", months) for months in SCORED))
    fleet.together(("key:monitoring/drift", MONTHS), ("key:monitoring/performance", MONTHS))
    assert_the_same(single, fleet.settings, DERIVED)


def test_the_daemon_starts_a_run_again_whose_worker_was_killed(single, fleet):
    extracts = [tuple(table.split(".")) for table in LANDED]
    with services(fleet.settings.home, fleet.environment) as running:
        asked = [
            running.launch({path: [month_key(half.first), month_key(half.last)] for path in extracts})
            for half in (EARLY, LATE)
        ]
        os.kill(worker_of(running, asked[1]), signal.SIGKILL)
        assert [running.wait_for_backfill(each, seconds=PATIENCE_SECONDS) for each in asked] == [
            "COMPLETED_SUCCESS"
        ] * 2
        assert {"FAILURE", "SUCCESS"} <= {each["status"] for each in runs_of(running, asked[1])}
        assert {each["status"] for each in runs_of(running, asked[0])} == {"SUCCESS"}
    assert_the_same(single, fleet.settings, LANDED)


RUNS = """
query Runs($backfill: String!) {
  runsOrError(filter: {tags: [{key: "dagster/backfill", value: $backfill}]}) {
    ... on Runs { results { runId status } }
  }
}
"""
EVENTS = """
query Events($run: ID!) {
  logsForRun(runId: $run) { ... on EventConnection { events { ... on MessageEvent { message } } } }
}
"""


def runs_of(running, backfill):
    return running.query(RUNS, backfill=backfill)["runsOrError"]["results"]


def worker_of(running, backfill) -> int:
    """Process of a run of the backfill that has begun to work."""
    deadline = time.monotonic() + PATIENCE_SECONDS
    while time.monotonic() < deadline:
        for each in runs_of(running, backfill):
            events = running.query(EVENTS, run=each["runId"])["logsForRun"]["events"]
            messages = [event["message"] for event in events if event]
            begun = any(message.startswith("Started execution of step") for message in messages)
            found = re.search(r"\(pid: (\d+)\)", "\n".join(messages))
            if begun and found:
                return int(found[1])
        time.sleep(0.3)
    raise TimeoutError("no run of the backfill has started")
