"""The compose stack: what the file promises, and the whole of it where containers run."""

from __future__ import annotations

import shutil
import subprocess
from pathlib import Path
from typing import Any

import pytest
import yaml

ROOT = Path(__file__).parents[2]
ENGINE = shutil.which("podman") and shutil.which("podman-compose")


@pytest.fixture
def services() -> dict[str, dict[str, Any]]:
    found: dict[str, dict[str, Any]] = yaml.safe_load((ROOT / "docker-compose.yaml").read_text())["services"]
    return found


def test_ports_are_published_on_the_loopback_address_only(services):
    ports = [port for service in services.values() for port in service.get("ports", [])]
    assert len(ports) == 3
    assert all(port.startswith("127.0.0.1:") for port in ports)


def test_our_containers_are_hardened_and_watched(services):
    ours = {name: service for name, service in services.items() if name not in {"postgres", "databases"}}
    for name, service in ours.items():
        assert service["read_only"] is True, name
        assert service["cap_drop"] == ["ALL"], name
        assert "healthcheck" in service, name


def test_every_secret_comes_from_the_environment():
    example = (ROOT / ".env.example").read_text()
    for name in ("POSTGRES_PASSWORD", "PSEUDONYM_KEY", "API_TOKEN"):
        assert f"\n{name}=\n" in f"\n{example}\n"
        assert f"${{{name}:?" in (ROOT / "docker-compose.yaml").read_text()


@pytest.mark.slow
@pytest.mark.servers
@pytest.mark.skipif(ENGINE is None, reason="needs podman with podman-compose")
def test_the_stack_runs_months_and_keeps_them():
    done = subprocess.run(["deploy/compose/try.sh"], cwd=ROOT, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout[-2000:] + done.stderr[-4000:]
    assert "all data is still there" in done.stdout
