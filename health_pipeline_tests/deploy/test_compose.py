"""The compose stack: what the file promises, and the whole of it where containers run."""

from __future__ import annotations

import re
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
    for name, service in services.items():
        assert service["read_only"] is True, name
        assert "no-new-privileges:true" in service["security_opt"], name
        assert service["restart"] == "unless-stopped", name
        assert "healthcheck" in service, name
        # The official image of PostgreSQL begins as root, to give its volume to its own user.
        assert name == "postgres" or service["cap_drop"] == ["ALL"], name


def test_services_wait_for_postgresql_only(services):
    """Podman 4 does not start what depends on a dependency of another; and whatever else is late is tried again."""
    waiting = {name: service.get("depends_on", {}) for name, service in services.items()}
    assert waiting.pop("postgres") == {}
    assert waiting.pop("api") == {}
    assert all(needs == {"postgres": {"condition": "service_healthy"}} for needs in waiting.values())


def test_every_database_that_a_service_names_is_made():
    made = set(re.findall(r"CREATE DATABASE (\w+);", (ROOT / "deploy/compose/postgres/databases.sql").read_text()))
    text = (ROOT / "docker-compose.yaml").read_text()
    assert made == set(re.findall(r"@postgres:5432/(\w+)", text)) | set(re.findall(r"DAGSTER_POSTGRES_DB: (\w+)", text))


def test_the_script_is_sound():
    for script in ("try.sh", "postgres/entrypoint.sh"):
        subprocess.run(["bash", "-n", str(ROOT / "deploy" / "compose" / script)], check=True)


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
    assert "all is still there" in done.stdout
