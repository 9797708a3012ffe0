"""Replaced slices leave snapshots and files in a DuckLake; they go when asked, and nothing current goes with them."""

from __future__ import annotations

import datetime as dt
import os
import subprocess
import sys
from pathlib import Path

import pytest

from health_pipeline.clock import frozen_clock, system_clock
from health_pipeline.errors import SettingsError
from health_pipeline.months import MonthRange
from health_pipeline.settings import Settings
from health_pipeline.warehouse import Warehouse
from health_pipeline.warehouse.snapshots import Expired, expire_snapshots
from health_pipeline_tests.warehouse.conftest import VISITS, visits

QUARTER = MonthRange.of("2022-01", "2022-03")
NO_TIME = dt.timedelta(0)


def three_generations(warehouse: Warehouse) -> None:
    for generation in (1.0, 2.0, 3.0):
        warehouse.replace(VISITS, QUARTER, visits("2022-01", 3, rows=300, cost=generation))


def later(days: int):
    return frozen_clock(system_clock() + dt.timedelta(days=days))


def test_nothing_current_goes_with_the_snapshots(warehouse: Warehouse) -> None:
    three_generations(warehouse)
    before = warehouse.reports(VISITS, QUARTER)
    expired = expire_snapshots(warehouse, NO_TIME, later(days=1))
    assert (expired.snapshots > 0) == warehouse.backend.keeps_snapshots
    assert warehouse.reports(VISITS, QUARTER) == before
    assert expire_snapshots(warehouse, NO_TIME, later(days=1)).snapshots == 0
    # The next run works: replaced and read as ever.
    again = warehouse.replace(VISITS, QUARTER, visits("2022-01", 3, rows=300, cost=3.0))
    assert again == before


def test_a_lake_shrinks_to_what_is_current(tmp_path: Path) -> None:
    warehouse = Warehouse.from_settings(Settings(home=tmp_path, warehouse={"backend": "ducklake"}))
    three_generations(warehouse)

    def files() -> int:
        return len(list((tmp_path / "lake").rglob("*.parquet")))

    assert files() == 3
    assert expire_snapshots(warehouse, dt.timedelta(days=30), later(days=1)) == Expired(0, 0)
    assert files() == 3  # young snapshots stay, with all they need
    expired = expire_snapshots(warehouse, NO_TIME, later(days=1))
    assert expired.files == 2
    assert files() == 1


def test_the_time_to_keep_cannot_be_negative(file_warehouse: Warehouse) -> None:
    with pytest.raises(SettingsError, match="less than no time"):
        expire_snapshots(file_warehouse, dt.timedelta(days=-1), system_clock)


def test_an_absent_warehouse_is_not_created(tmp_path: Path) -> None:
    warehouse = Warehouse.from_settings(Settings(home=tmp_path, warehouse={"backend": "ducklake"}))
    assert expire_snapshots(warehouse, NO_TIME, system_clock) == Expired(0, 0)
    assert not (tmp_path / "catalog.ducklake").exists()


def test_the_command_says_what_it_did(tmp_path: Path) -> None:
    settings = Settings(home=tmp_path, warehouse={"backend": "ducklake"})
    three_generations(Warehouse.from_settings(settings))
    program = [sys.executable, "-W", "ignore", "-m", "health_pipeline", "expire-snapshots", "--keep-days"]
    environment = {
        **os.environ,
        "HEALTH_PIPELINE_HOME": str(tmp_path),
        "HEALTH_PIPELINE_WAREHOUSE__BACKEND": "ducklake",
    }
    ran = subprocess.run([*program, "0"], capture_output=True, text=True, check=True, env=environment)
    assert "2 files deleted" in ran.stderr
    refused = subprocess.run([*program, "-1"], capture_output=True, text=True, check=False, env=environment)
    assert refused.returncode == 2
