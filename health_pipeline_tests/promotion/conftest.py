"""A warehouse with a short history, made once and copied for each test."""

from __future__ import annotations

import shutil
from pathlib import Path

import pytest

from health_pipeline.settings import Settings
from health_pipeline.warehouse import Warehouse
from health_pipeline_tests.promotion.history import history, settings_in


@pytest.fixture(scope="session")
def written(tmp_path_factory: pytest.TempPathFactory) -> Path:
    home = tmp_path_factory.mktemp("promotion")
    history(Warehouse.from_settings(settings_in(home)))
    return home / "warehouse.duckdb"


@pytest.fixture
def settings(tmp_path: Path) -> Settings:
    return settings_in(tmp_path, max_days_since_update=62)


@pytest.fixture
def warehouse(settings: Settings, written: Path) -> Warehouse:
    shutil.copy(written, settings.warehouse_path)
    return Warehouse.from_settings(settings)
