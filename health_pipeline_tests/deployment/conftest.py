from __future__ import annotations

import datetime as dt
import threading
import time
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path

import pytest

from health_pipeline.clock import system_clock
from health_pipeline.deployment import Endpoint, History, LocalTarget, Options, Plan, Tools, ship
from health_pipeline.deployment.client import ApiClient, Reply
from health_pipeline.deployment.registry import MLflowRegistry
from health_pipeline.modeling.bundle import Bundle
from health_pipeline.notify import Alert
from health_pipeline.settings import Settings, load_settings
from health_pipeline_tests.deployment.misbehaving import COMMAND
from health_pipeline_tests.integration.dagster_services import free_port
from health_pipeline_tests.serving.bundles import RECORD, linear_bundle


def settings_for(home: Path, **deployment) -> Settings:
    quick = {
        "canary_weights": (0.3,),
        "canary_seconds": 0.3,
        "health_seconds": 0.5,
        "health_interval_seconds": 0.05,
        "min_requests": 50,
        "max_p99_seconds": 0.15,
        "start_timeout_seconds": 30,
    }
    return load_settings(home=home, serving={"port": free_port()}, deployment={**quick, **deployment})


@dataclass
class Yard:
    """A home with everything a deployment works with."""

    settings: Settings
    tools: Tools
    alerts: list[Alert] = field(default_factory=list)

    @property
    def target(self) -> LocalTarget:
        return self.tools.target

    def plan(self, bundle: Bundle, month: str = "2023-05") -> Plan:
        folder = self.settings.home / "models" / bundle.model_id
        digest = bundle.save(folder)
        return Plan(
            month=dt.date.fromisoformat(f"{month}-01"),
            model_id=bundle.model_id,
            family=bundle.family,
            bundle=folder,
            bundle_hash=digest,
            threshold=bundle.threshold,
            decision="DEPLOY",
            gain=0.03,
        )

    def ship(self, bundle: Bundle, month: str = "2023-05", attempt: str = "a", **options):
        return ship(self.plan(bundle, month), Options(actor="test", **options), self.tools, attempt)

    def holder(self, alias: str) -> str | None:
        return self.tools.registry.holder(alias)

    def kinds(self) -> list[str]:
        return [alert.kind for alert in self.alerts]


@pytest.fixture(scope="session")
def registry_store(tmp_path_factory) -> str:
    """One MLflow store for all tests (making its tables takes seconds); each test has its own registered model."""
    return f"sqlite:///{tmp_path_factory.mktemp('mlflow') / 'mlflow.db'}"


def make_yard(home: Path, registry_store: str, name: str, **deployment) -> Yard:
    settings = settings_for(home, **deployment)
    alerts: list[Alert] = []
    stages = settings.deployment.environments[:-1]
    tools = Tools(
        target=LocalTarget(settings, settings.deployment.environments[-1], command=COMMAND),
        stages=tuple(LocalTarget(settings, stage, command=COMMAND) for stage in stages),
        registry=MLflowRegistry(registry_store, name),
        history=History(home / "deployment" / "history.ndjson", system_clock),
        limits=settings.deployment,
        alert=alerts.append,
        clock=system_clock,
    )
    return Yard(settings, tools, alerts)


@pytest.fixture
def yard(tmp_path, registry_store) -> Iterator[Yard]:
    made = make_yard(tmp_path / "home", registry_store, tmp_path.name)
    yield made
    made.target.stop()
    for stage in made.tools.stages:
        stage.stop()


class Load:
    """Clients that never retry, each on a kept-alive connection, until told to stop."""

    def __init__(self, endpoint: Endpoint, clients: int = 3) -> None:
        self._endpoint, self._stop = endpoint, threading.Event()
        self.replies: list[Reply] = []
        self.models: Counter[str] = Counter()
        self._threads = [threading.Thread(target=self._run, args=(number,)) for number in range(clients)]

    def __enter__(self) -> Load:
        for thread in self._threads:
            thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._stop.set()
        for thread in self._threads:
            thread.join()

    def _run(self, number: int) -> None:
        count = 0
        with ApiClient(self._endpoint, timeout=20) as client:
            while not self._stop.is_set():
                count += 1
                features = {**RECORD, "age": 40.0 + count % 50, "length_of_stay": count % 13 + 0.5}
                reply = client.predict({"patient_id": f"{number}-{count}", "features": features})
                self.replies.append(reply)
                if reply.is_ok:
                    self.models[reply.body["predictions"][0]["model_id"]] += 1
                time.sleep(0.002)

    @property
    def failed(self) -> list[Reply]:
        return [reply for reply in self.replies if not reply.is_ok]


@pytest.fixture
def first() -> Bundle:
    return linear_bundle()


@pytest.fixture
def second() -> Bundle:
    return linear_bundle(0.05)
