"""Several processes tune one study that a database keeps."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import uuid
from collections.abc import Iterator
from pathlib import Path

import pytest

from health_pipeline.modeling.families import LogisticRegression
from health_pipeline.modeling.study import at_work, finished, open_storage

POSTGRES = "HEALTH_PIPELINE_TEST_POSTGRES"
SAMPLES = 12

# What a worker does: fit real logistic regressions, slowly enough that the workers overlap.
WORKER = """
import json, sys, time
from dataclasses import replace
import numpy as np
from health_pipeline.modeling.encoding import Feature, Inputs
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
tuned = tune(family, Slow(), effort, 5, parse_month("2023-02"), storage)
print(json.dumps({"fits": Slow.fits, "parameters": tuned.parameters, "loss": tuned.loss, "trials": len(tuned.trials)}))
"""


def worker(storage: str, samples: int, pause: float) -> subprocess.Popen[str]:
    environment = {**os.environ, "PYTHONPATH": str(Path(__file__).parents[2])}
    command = [sys.executable, "-c", WORKER, storage, str(samples), str(pause)]
    return subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, env=environment)


def result(process: subprocess.Popen[str]) -> dict[str, object]:
    out, error = process.communicate(timeout=120)
    assert process.returncode == 0, error
    return json.loads(out.splitlines()[-1])


@pytest.fixture
def database() -> Iterator[str]:
    """An empty database on the server, dropped afterwards."""
    if POSTGRES not in os.environ:
        pytest.skip(f"no PostgreSQL: {POSTGRES} is not set")
    import sqlalchemy

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
    first, second = (worker(storage, SAMPLES, 0.3) for _ in range(2))
    mine, others = result(first), result(second)
    assert mine["fits"] >= 2
    assert others["fits"] >= 2
    # At most one too many: both may see the last free place at the same moment.
    assert SAMPLES <= mine["fits"] + others["fits"] == mine["trials"] == others["trials"] <= SAMPLES + 1
    assert (mine["parameters"], mine["loss"]) == (others["parameters"], others["loss"])


def tried(storage: str) -> list[dict[str, object]]:
    import optuna

    (name,) = optuna.get_all_study_names(open_storage(storage))
    study = optuna.load_study(study_name=name, storage=open_storage(storage))
    assert at_work(study) == []
    return [trial.user_attrs["parameters"] for trial in finished(study)]


@pytest.mark.servers
def test_two_processes_share_a_study_in_postgresql_and_agree(database):
    assert_shared(database)
    parameters = tried(database)
    assert LogisticRegression().defaults in parameters
    assert len({json.dumps(each, sort_keys=True) for each in parameters}) >= SAMPLES - 1


@pytest.mark.servers
def test_a_killed_worker_does_not_hold_up_the_others(database, monkeypatch):
    victim = worker(database, SAMPLES, 60)
    assert victim.stdout is not None
    assert victim.stdout.readline() == "at work\n"
    victim.kill()
    victim.communicate()
    import health_pipeline.modeling.study as kept

    monkeypatch.setattr(kept, "HEARTBEAT_SECONDS", 1)
    monkeypatch.setattr(kept, "GRACE_SECONDS", 2)
    import time

    import optuna

    (name,) = optuna.get_all_study_names(open_storage(database))
    study = optuna.load_study(study_name=name, storage=open_storage(database))
    assert len(at_work(study)) == 1
    time.sleep(3)
    assert at_work(study) == []
    survivor = result(worker(database, 4, 0))
    assert survivor["trials"] == survivor["fits"] == 4
    assert LogisticRegression().defaults in tried(database)


def test_a_database_file_keeps_a_study_as_well(tmp_path):
    """SQLite serves two processes on one machine."""
    assert_shared(f"sqlite:///{tmp_path / 'study.db'}")
