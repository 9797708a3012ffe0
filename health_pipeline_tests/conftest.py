"""Fixtures that more than one room uses."""

from __future__ import annotations

from pathlib import Path

import pytest

from health_pipeline.settings import Settings
from health_pipeline.warehouse.store import Warehouse
from health_pipeline_tests.checked_warehouse import MONTHS, checked_warehouse, copy_of


@pytest.fixture(scope="session")
def honest(tmp_path_factory: pytest.TempPathFactory) -> tuple[Warehouse, Settings]:
    """A warehouse in which every table is as it should be; for reading only."""
    return checked_warehouse(tmp_path_factory.mktemp("home"), MONTHS)


@pytest.fixture
def broken(honest: tuple[Warehouse, Settings], tmp_path: Path) -> tuple[Warehouse, Settings]:
    """A copy of it, to be broken."""
    return copy_of(honest[1], tmp_path / "home")
