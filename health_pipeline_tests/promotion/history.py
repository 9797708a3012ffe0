"""A small history in a real warehouse: features and labels of a hospital whose truth is known, and candidate rows."""

from __future__ import annotations

import datetime as dt
import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa

from health_pipeline.modeling.rows import arrow_rows
from health_pipeline.modeling.tables import model_table
from health_pipeline.months import Month, MonthRange, shift
from health_pipeline.promotion import CHAMPION, champion_months
from health_pipeline.promotion.candidates import Model
from health_pipeline.settings import Settings
from health_pipeline.warehouse import Column, Slice, Table, Warehouse
from health_pipeline_tests.promotion.hospital import BASE, hospital, sigmoid

ROWS = 700
FIRST, LAST = dt.date(2022, 1, 1), dt.date(2022, 12, 1)
FAMILIES = ("logistic_regression", "xgboost")

FEATURES = Table(
    "gold",
    "features",
    (
        Column("month", "DATE", nullable=False),
        Column("encounter_id", "VARCHAR", nullable=False),
        Column("patient_key", "VARCHAR", nullable=False),
        Column("discharged_at", "TIMESTAMP"),
        Column("age_years", "DOUBLE"),
        Column("sex", "VARCHAR"),
        Column("payer", "VARCHAR"),
        Column("lace_index", "DOUBLE"),
        *(Column(f"signal_{index}", "DOUBLE") for index in range(3)),
    ),
    key=("encounter_id",),
)
LABELS = Table(
    "gold",
    "labels",
    (
        Column("month", "DATE", nullable=False),
        Column("encounter_id", "VARCHAR", nullable=False),
        Column("readmitted_30d", "BOOLEAN"),
        Column("cohort_version", "VARCHAR"),
    ),
    key=("encounter_id",),
)


def settings_in(home: Path, **promotion: Any) -> Settings:
    """Short windows: the first model month is 2022-07."""
    return Settings(
        home=home,
        start_month="2022-01",
        end_month="2022-12",
        windows={"holdout_months": 3, "validation_months": 1, "training_months": 1, "min_training_months": 1},
        promotion={"bootstrap_replicates": 100, **promotion},
    )


def month_seed(month: Month) -> int:
    return month.year * 100 + month.month


def month_rows(month: Month, seed: int | None = None) -> tuple[pa.Table, pa.Table]:
    """Features and labels of a month; the same seed gives the same rows."""
    given = hospital(month_seed(month) if seed is None else seed, ROWS)
    ids = [f"{month:%Y%m}-{index:04d}" for index in range(ROWS)]
    age = np.random.default_rng(1).integers(18, 95, ROWS)
    features: dict[str, Any] = {
        "month": [month] * ROWS,
        "encounter_id": ids,
        "patient_key": [f"{month:%m}{code}" for code in given.patients],
        "discharged_at": [dt.datetime.combine(month, dt.time(12))] * ROWS,
        "age_years": age.astype(float),
        "sex": given.sex.tolist(),
        "payer": given.payer.tolist(),
        "lace_index": np.round(np.clip(5 + 2 * given.signals[:, 1], 0, 19)),
        **{f"signal_{index}": given.signals[:, index] for index in range(3)},
    }
    labels = {
        "month": [month] * ROWS,
        "encounter_id": ids,
        "readmitted_30d": given.y.astype(bool),
        "cohort_version": ["test"] * ROWS,
    }
    return pa.table(features), pa.table(labels)


def write_months(warehouse: Warehouse, months: MonthRange, seed: int | None = None) -> None:
    """Replace features and labels of some months."""
    features, labels = zip(*(month_rows(month, seed) for month in months), strict=True)
    warehouse.replace(FEATURES, months, pa.concat_tables(features))
    warehouse.replace(LABELS, months, pa.concat_tables(labels))


def candidate_row(month: Month, family: str, **changes: Any) -> dict[str, Any]:
    """A trained candidate; its id says which signals it sees: ``<family>@<month>:<signals>``."""
    seen = changes.pop("seen", "0")
    auroc = changes.pop("auroc", 0.65 + 0.03 * len(seen))
    holdout_last = shift(month, -2)
    return {
        "month": month,
        "model_id": f"{family}@{month:%Y%m}:{seen}",
        "family": family,
        "status": "trained",
        "profile": "standard",
        "metrics": json.dumps(
            {"roc_auc": {"value": auroc, "ci_low": auroc - 0.03, "ci_high": auroc + 0.03, "n": 2100}}
        ),
        "threshold": 0.2,
        "training_first": shift(holdout_last, -4),
        "training_last": shift(holdout_last, -4),
        "validation_first": shift(holdout_last, -3),
        "validation_last": shift(holdout_last, -3),
        "holdout_first": shift(holdout_last, -2),
        "holdout_last": holdout_last,
        "artefact_path": f"models/{family}/{month:%Y-%m}",
        "artefact_hash": f"hash of {family} {month:%Y-%m}",
        "feature_schema_hash": "schema-1",
        "trained_at": dt.datetime.combine(month, dt.time()),
        **changes,
    }


def write_candidates(warehouse: Warehouse, family: str, rows: list[dict[str, Any]]) -> None:
    """Replace all candidates of a family."""
    warehouse.replace(model_table(family), MonthRange(FIRST, LAST), arrow_rows(model_table(family), rows))


def score(model: Model, rows: pa.Table) -> np.ndarray:
    """The scorer of the tests: a calibrated model that sees the signals its id names."""
    effects = np.asarray((0.7, 0.45, 0.45))
    seen = [int(sign) for sign in model.model_id.rpartition(":")[2]]
    spread = sum(effects[index] ** 2 for index in range(3) if index not in seen)
    logit = BASE + sum(effects[index] * rows[f"signal_{index}"].to_numpy() for index in seen)
    return sigmoid(logit / np.sqrt(1 + 0.346 * spread))


def slices(months: MonthRange) -> dict[str, Any]:
    """Inputs of the champion, cut as wide as the graph cuts them."""
    seen = MonthRange(shift(months.first, -4), shift(months.last, -2))
    return {
        "candidates": {family: Slice(model_table(family), months) for family in FAMILIES},
        "previous": Slice(CHAMPION, MonthRange(shift(months.first, -1), shift(months.last, -1))),
        "features": Slice(FEATURES, seen),
        "labels": Slice(LABELS, seen),
    }


def run(
    warehouse: Warehouse, settings: Settings, first: str, last: str | None = None, **more: Any
) -> list[dict[str, Any]]:
    """Decide some months and store them, as the asset does."""
    months = MonthRange.of(first, last)
    given: Mapping[str, Any] = {**slices(months), "scorer": score, **more}
    table = champion_months(warehouse, months=months, settings=settings, **given)
    warehouse.replace(CHAMPION, months, table)
    return table.to_pylist()


def history(warehouse: Warehouse) -> None:
    """2022-01..2022-10 of stays; a simple model all along, from 2022-09 on one that sees everything."""
    write_months(warehouse, MonthRange(FIRST, dt.date(2022, 10, 1)))
    months = list(MonthRange(dt.date(2022, 7, 1), LAST))
    write_candidates(warehouse, FAMILIES[0], [candidate_row(month, FAMILIES[0]) for month in months])
    write_candidates(
        warehouse,
        FAMILIES[1],
        [
            candidate_row(month, FAMILIES[1], seen="012")
            if month >= dt.date(2022, 9, 1)
            else candidate_row(month, FAMILIES[1], status="skipped", model_id=None, reason="thin")
            for month in months
        ],
    )
