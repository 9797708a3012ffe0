"""A warehouse with a short history, made once and copied for each test."""

from __future__ import annotations

import shutil
from pathlib import Path
from typing import Any

import pytest

from health_pipeline.settings import Settings
from health_pipeline.warehouse import Warehouse
from health_pipeline_tests.promotion.history import history, run, settings_in


@pytest.fixture(scope="session")
def written(tmp_path_factory: pytest.TempPathFactory) -> Path:
    home = tmp_path_factory.mktemp("promotion")
    history(Warehouse.from_settings(settings_in(home)))
    return home / "warehouse.duckdb"


@pytest.fixture(scope="session")
def decided_history(tmp_path_factory: pytest.TempPathFactory, written: Path) -> tuple[Path, list[dict[str, Any]]]:
    settings = settings_in(tmp_path_factory.mktemp("decided"), max_days_since_update=62)
    shutil.copy(written, settings.warehouse_path)
    rows = run(Warehouse.from_settings(settings), settings, "2022-07", "2022-12")
    return settings.warehouse_path, rows


@pytest.fixture
def settings(tmp_path: Path) -> Settings:
    return settings_in(tmp_path, max_days_since_update=62)


@pytest.fixture
def warehouse(settings: Settings, written: Path) -> Warehouse:
    shutil.copy(written, settings.warehouse_path)
    return Warehouse.from_settings(settings)


@pytest.fixture
def rows(
    warehouse: Warehouse, settings: Settings, decided_history: tuple[Path, list[dict[str, Any]]]
) -> list[dict[str, Any]]:
    """The rows of 2022-07..2022-12, which stand in the warehouse of the test."""
    path, rows = decided_history
    shutil.copy(path, settings.warehouse_path)
    return rows
