from __future__ import annotations

import datetime as dt
from pathlib import Path
from typing import Any

import pyarrow as pa
import pytest

from health_pipeline.deployment.history import HISTORY
from health_pipeline.errors import ModelError
from health_pipeline.monitoring import performance_months
from health_pipeline.monitoring.deployed import deployed_models
from health_pipeline.months import Month, MonthRange, parse_month
from health_pipeline.promotion.tables import CHAMPION
from health_pipeline_tests.monitoring.conftest import MONTHS, Hospital, hospital
from health_pipeline_tests.monitoring.hospital import champion_rows
from health_pipeline_tests.monitoring.test_drift import score_as_hospital
from health_pipeline_tests.monitoring.test_performance import performance, rows_where

FIRST = MonthRange.of("2020-01", "2021-12")
NOW = dt.datetime.combine(dt.date(2021, 12, 1), dt.time())


def history(found: Hospital, *events: tuple[str, str, str, str | None]) -> None:
    """Month, step, outcome, model of each event, in order."""
    rows: list[dict[str, Any]] = []
    for sequence, (month, step, outcome, model) in enumerate(events, start=1):
        row = dict.fromkeys(HISTORY.column_names, "-")
        row |= {
            "sequence": sequence,
            "recorded_at": NOW,
            "month": parse_month(month),
            "seconds": 1.0,
        }
        rows.append(row | {"step": step, "outcome": outcome, "model_id": model})
    found.warehouse.replace(HISTORY, FIRST, pa.Table.from_pylist(rows).select(HISTORY.column_names))


def serving(found: Hospital, months: MonthRange = MONTHS) -> dict[Month, str]:
    with found.warehouse.read("test") as connection:
        return deployed_models(connection, months)


def test_nothing_was_ever_deployed(stable: Hospital) -> None:
    assert serving(stable) == {}
    assert rows_where(performance(stable), model_role="deployed") == []


def test_what_serves_follows_the_history(tmp_path: Path) -> None:
    found = hospital(tmp_path, rows=50)
    history(
        found,
        ("2021-07", "promotion", "pass", "a"),
        ("2021-09", "rollout", "pass", "b"),
        ("2021-09", "promotion", "fail", "b"),
        ("2021-10", "promotion", "pass", "c"),
        ("2021-07", "rollback", "pass", "a"),
    )
    by_month = {f"{month:%m}": model for month, model in serving(found).items()}
    assert by_month == {"07": "a", "08": "a", "09": "a", "10": "a", "11": "a"}, "went back in October"
    assert serving(found, MonthRange.of("2021-05", "2021-06")) == {}


def test_the_champion_in_production_has_the_champions_numbers(tmp_path: Path) -> None:
    found = hospital(tmp_path)
    history(found, ("2020-12", "promotion", "pass", "logistic_regression-a"))
    table = performance(found)
    deployed = rows_where(table, model_role="deployed")
    assert [{**row, "model_role": "champion"} for row in deployed] == rows_where(table, model_role="champion")


def test_an_older_model_in_production_is_scored_with_its_own_artefact(tmp_path: Path) -> None:
    found = hospital(tmp_path)
    digest = score_as_hospital(found.settings.home / "models" / "old", number_0=0.2)
    before = MonthRange.of("2021-01", "2021-06")
    old = champion_rows(before, model_id="old", artefact_path="models/old", artefact_hash=digest)
    found.warehouse.replace(CHAMPION, before, old)
    history(found, ("2021-01", "promotion", "pass", "old"))
    table = performance(found)
    rows = rows_where(table, model_role="deployed", kind="realised", window_months=1, segment="all", metric="roc_auc")
    assert {row["model_id"] for row in rows} == {"old"}
    assert len(rows) == len(MONTHS)
    champion = rows_where(
        table, model_role="champion", kind="realised", window_months=1, segment="all", metric="roc_auc"
    )
    assert [row["n"] for row in rows] == [row["n"] for row in champion]
    assert [row["value"] for row in rows] != [row["value"] for row in champion]
    single = [
        performance_months(found.warehouse, **found.outcomes, months=MonthRange(m, m), settings=found.settings)
        for m in MONTHS
    ]
    assert table.equals(pa.concat_tables(single))
    (found.settings.home / "models" / "old" / "bundle.json").unlink(missing_ok=True)
    for file in (found.settings.home / "models" / "old").iterdir():
        file.write_bytes(b"")
    with pytest.raises(ModelError):
        performance(found)
