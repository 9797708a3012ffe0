"""Many processes on one warehouse: nobody fails, nobody sees half a slice, whatever the backend."""

from __future__ import annotations

import json
import subprocess
import sys

import pytest

from health_pipeline.settings import Settings
from health_pipeline.warehouse import Warehouse
from health_pipeline_tests.warehouse.conftest import VISITS, rows_of

CROWD = "health_pipeline_tests.warehouse.crowd"


def crowd(settings: Settings, processes: int, rounds: int, rows: int, mode: str = "together") -> dict:
    text = settings.model_dump(mode="json", include={"home": True, "warehouse": True})
    key = settings.warehouse.encryption_key
    text["warehouse"]["encryption_key"] = key.get_secret_value() if key else None
    ran = subprocess.run(
        [sys.executable, "-m", CROWD, json.dumps(text), *map(str, (processes, rounds, rows)), mode],
        capture_output=True,
        text=True,
        check=False,
    )
    assert ran.returncode == 0, ran.stderr
    return json.loads(ran.stdout)


def test_processes_write_and_read_at_once_without_an_error(settings: Settings) -> None:
    seen = crowd(settings, processes=5, rounds=2, rows=100)
    assert seen["errors"] == []
    warehouse = Warehouse.from_settings(settings)
    counts = rows_of(warehouse, f"SELECT month, count(*) FROM {VISITS.qualified} GROUP BY month ORDER BY month")
    assert [count for _, count in counts] == [101] * 5


@pytest.mark.slow
def test_sixteen_processes_write_and_read_at_once_without_an_error(settings: Settings) -> None:
    seen = crowd(settings, processes=16, rounds=4, rows=5_000)
    assert seen["errors"] == []
