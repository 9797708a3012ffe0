"""Several processes tune one study that a database keeps."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import time
import uuid
from collections.abc import Iterator
from pathlib import Path

import optuna
import pytest
import sqlalchemy

from health_pipeline.errors import ModelError
from health_pipeline.modeling.families import LogisticRegression
from health_pipeline.modeling.study import open_storage, progress_of

POSTGRES = "HEALTH_PIPELINE_TEST_POSTGRES"
SAMPLES = 12

# What a worker does: fit real logistic regressions, slowly enough that the workers overlap.
WORKER = """
import json, sys, time
from dataclasses import replace
import numpy as np
from health_pipeline.modeling.encoding import Feature, Inputs
from health_pipeline.errors import ModelError
from health_pipeline.modeling.families import LogisticRegression, Sample
from health_pipeline.modeling.profiles import PROFILES
from health_pipeline.modeling.tuning import tune
from health_pipeline.months import parse_month

storage, samples, pause = sys.argv[1], int(sys.argv[2]), float(sys.argv[3])
random = np.random.default_rng(1)
def sample(rows):
    x = random.standard_normal(rows)
    return Sample(Inputs(rows, {"x": x}), (random.random(rows) < 1 / (1 + np.exp(2 - x))).astype(float))
family, effort = LogisticRegression(), replace(PROFILES["standard"], samples=samples)
prepared = family.prepare(sample(800), sample(400), [Feature("x", "numeric")], effort, 1)
class Slow:
    fits = 0
    def fit(self, parameters, seed, observer=None):
        Slow.fits += 1
        print("at work", flush=True)
        time.sleep(pause)
        return prepared.fit(parameters, seed, observer)
print("ready", flush=True)
sys.stdin.readline()
tuned = tune(family, Slow(), effort, 5, parse_month("2023-02"), storage)
print(json.dumps({"fits": Slow.fits, "parameters": tuned.parameters, "loss": tuned.loss, "trials": len(tuned.trials)}))
"""


def workers(storage: str, samples: int, pause: float, count: int = 1) -> list[subprocess.Popen[str]]:
    """Processes that all start to tune when the last one is ready."""
    environment = {**os.environ, "PYTHONPATH": str(Path(__file__).parents[2])}
    command = [sys.executable, "-c", WORKER, storage, str(samples), str(pause)]
    pipes = {"stdin": subprocess.PIPE, "stdout": subprocess.PIPE, "stderr": subprocess.PIPE}
    started = [subprocess.Popen(command, text=True, env=environment, **pipes) for _ in range(count)]
    for process in started:
        assert process.stdout.readline() == "ready\n"
    for process in started:
        process.stdin.write("go\n")
        process.stdin.flush()
    return started


def result(process: subprocess.Popen[str]) -> dict[str, object]:
    out, error = process.communicate(timeout=120)
    assert process.returncode == 0, error
    return json.loads(out.splitlines()[-1])


@pytest.fixture
def database() -> Iterator[str]:
    """An empty database on the server, dropped afterwards."""
    if POSTGRES not in os.environ:
        pytest.skip(f"no PostgreSQL: {POSTGRES} is not set")
    pytest.importorskip("psycopg2", reason="the extra postgres is not installed")
    server = sqlalchemy.make_url(os.environ[POSTGRES])
    name = f"tuning_{uuid.uuid4().hex}"
    engine = sqlalchemy.create_engine(server, isolation_level="AUTOCOMMIT")
    with engine.connect() as connection:
        connection.execute(sqlalchemy.text(f"CREATE DATABASE {name}"))
    try:
        yield server.set(database=name).render_as_string(hide_password=False)
    finally:
        with engine.connect() as connection:
            connection.execute(sqlalchemy.text(f"DROP DATABASE {name} WITH (FORCE)"))
        engine.dispose()


def assert_shared(storage: str) -> None:
    first, second = workers(storage, SAMPLES, 0.5, count=2)
    mine, others = result(first), result(second)
    assert mine["fits"] >= 2
    assert others["fits"] >= 2
    # At most one too many: both may see the last free place at the same moment.
    assert SAMPLES <= mine["fits"] + others["fits"] == mine["trials"] == others["trials"] <= SAMPLES + 1
    assert (mine["parameters"], mine["loss"]) == (others["parameters"], others["loss"])


def tried(storage: str) -> list[dict[str, object]]:
    (name,) = optuna.get_all_study_names(open_storage(storage))
    study = optuna.load_study(study_name=name, storage=open_storage(storage))
    assert progress_of(study).at_work == []
    return [trial.user_attrs["parameters"] for trial in progress_of(study).finished]


@pytest.mark.servers
def test_two_processes_share_a_study_in_postgresql_and_agree(database):
    assert_shared(database)
    parameters = tried(database)
    assert LogisticRegression().defaults in parameters
    assert len({json.dumps(each, sort_keys=True) for each in parameters}) >= SAMPLES - 1


@pytest.mark.servers
def test_a_killed_worker_does_not_hold_up_the_others(database, monkeypatch):
    (victim,) = workers(database, SAMPLES, 60)
    assert victim.stdout.readline() == "at work\n"
    victim.kill()
    victim.communicate()
    (name,) = optuna.get_all_study_names(open_storage(database))
    study = optuna.load_study(study_name=name, storage=open_storage(database))
    assert len(progress_of(study).at_work) == 1
    monkeypatch.setattr("health_pipeline.modeling.study.GRACE_SECONDS", 1)
    time.sleep(2)
    study = optuna.load_study(study_name=name, storage=open_storage(database))
    assert progress_of(study).at_work == []
    (survivor,) = workers(database, 4, 0)
    survivor = result(survivor)
    assert survivor["trials"] == survivor["fits"] == 4
    assert LogisticRegression().defaults in tried(database)


@pytest.mark.parametrize("address", ["sqlite:////nowhere/at/all.db", "postgresql://user:secret@127.0.0.1:1/none"])
def test_a_database_that_cannot_be_used_is_named_without_its_password(address):
    with pytest.raises(ModelError, match=r"study storage cannot be used .*STUDY_STORAGE") as refused:
        open_storage(address)
    assert "secret" not in str(refused.value)


@pytest.mark.slow
def test_a_database_file_keeps_a_study_as_well(tmp_path):
    """SQLite serves two processes on one machine."""
    assert_shared(f"sqlite:///{tmp_path / 'study.db'}")
