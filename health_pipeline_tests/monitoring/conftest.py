from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

import pytest

import health_pipeline.features as features_room
from health_pipeline.months import MonthRange
from health_pipeline.settings import Settings
from health_pipeline.warehouse import Slice, Table, Warehouse
from health_pipeline_tests.monitoring.hospital import Change, feature_table, fill, settings_for

HISTORY = MonthRange.of("2020-01", "2021-12")
MONTHS = MonthRange.of("2021-07", "2021-11")


@dataclass(frozen=True)
class Hospital:
    settings: Settings
    warehouse: Warehouse
    features: Slice
    predictions: Slice
    labels: Slice
    champion: Slice

    @property
    def inputs(self) -> dict[str, Slice]:
        return {"features": self.features, "predictions": self.predictions, "champion": self.champion}

    @property
    def outcomes(self) -> dict[str, Slice]:
        return {"predictions": self.predictions, "labels": self.labels, "champion": self.champion}


@pytest.fixture(scope="module")
def module_features() -> Iterator[None]:
    """The synthetic hospital has its own feature columns."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(features_room, "FEATURE_TABLE", feature_table(8, 3))
        yield


@pytest.fixture(autouse=True)
def _synthetic_features(module_features: None) -> None:
    """In every test of the room."""


def hospital(
    home: object, changes: dict[object, Change] | None = None, rows: int = 400, **settings: object
) -> Hospital:
    from pathlib import Path

    found = settings_for(Path(str(home)), **settings)
    warehouse = Warehouse.from_settings(found)
    slices = fill(warehouse, found, HISTORY, rows=rows, changes=changes, numeric=8, categorical=3)  # type: ignore[arg-type]
    return Hospital(found, warehouse, *slices)


def rewrite(found: Hospital, table: Table, months: MonthRange, sql: str) -> None:
    """Replace months of a table by rows computed from what is stored."""
    with found.warehouse.read("test") as connection:
        rows = connection.execute(sql).to_arrow_table()
    found.warehouse.replace(table, months, rows)


@pytest.fixture(scope="session")
def stable(tmp_path_factory: pytest.TempPathFactory) -> Hospital:
    """A hospital in which nothing changes; read it, do not write to it."""
    return hospital(tmp_path_factory.mktemp("stable"))
