from __future__ import annotations

import datetime as dt
import socket
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path

import pytest

from health_pipeline.clock import system_clock
from health_pipeline.deployment import History, LocalTarget, Options, Plan, Tools, ship
from health_pipeline.deployment.registry import MLflowRegistry
from health_pipeline.modeling.bundle import Bundle
from health_pipeline.notify import Alert
from health_pipeline.settings import Settings, load_settings
from health_pipeline_tests.deployment.misbehaving import COMMAND
from health_pipeline_tests.serving.bundles import linear_bundle


def free_port() -> int:
    with socket.socket() as sock:
        sock.bind(("127.0.0.1", 0))
        return int(sock.getsockname()[1])


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


@pytest.fixture
def yard(tmp_path, registry_store, request) -> Iterator[Yard]:
    home = tmp_path / "home"
    settings = settings_for(home)
    alerts: list[Alert] = []
    tools = Tools(
        target=LocalTarget(settings, command=COMMAND),
        registry=MLflowRegistry(registry_store, f"{request.node.name}-{tmp_path.parent.name}"),
        history=History(home / "deployment" / "history.ndjson", system_clock),
        limits=settings.deployment,
        alert=alerts.append,
        clock=system_clock,
    )
    made = Yard(settings, tools, alerts)
    yield made
    made.target.stop()


@pytest.fixture
def first() -> Bundle:
    return linear_bundle()


@pytest.fixture
def second() -> Bundle:
    return linear_bundle(0.05)
