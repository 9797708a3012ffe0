"""A synthetic hospital for monitoring: gold tables made of numbers, fast enough for hundreds of months."""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa

from health_pipeline.cohort.tables import LABELS
from health_pipeline.modeling.tables import PREDICTIONS
from health_pipeline.monitoring.rows import to_table
from health_pipeline.months import Month, MonthRange, shift
from health_pipeline.promotion.tables import CHAMPION
from health_pipeline.settings import Settings, load_settings
from health_pipeline.warehouse import Column, Slice, Table, Warehouse

NUMERIC, CATEGORICAL = 20, 6
Change = Callable[[dict[str, Any], np.random.Generator], None]


def feature_table(numeric: int = NUMERIC, categorical: int = CATEGORICAL) -> Table:
    return Table(
        "gold",
        "features",
        (
            Column("month", "DATE", nullable=False),
            Column("encounter_id", "VARCHAR", nullable=False),
            Column("patient_key", "VARCHAR", nullable=False),
            Column("discharged_at", "TIMESTAMP"),
            Column("age", "DOUBLE"),
            Column("sex", "VARCHAR"),
            Column("payer", "VARCHAR"),
            *(Column(f"number_{i}", "DOUBLE") for i in range(numeric)),
            *(Column(f"category_{i}", "VARCHAR") for i in range(categorical)),
            Column("flag", "BOOLEAN"),
        ),
        key=("encounter_id",),
    )


def settings_for(home: Path, **overrides: Any) -> Settings:
    base: dict[str, Any] = {
        "home": home,
        "start_month": "2020-01",
        "end_month": "2023-12",
        "windows": {"training_months": 12, "min_training_months": 6, "validation_months": 2, "holdout_months": 2},
        "monitoring": {"bootstrap_replicates": 60},
    }
    return load_settings(**{**base, **overrides})


def month_rows(
    month: Month,
    rows: int,
    seed: int,
    change: Change | None = None,
    numeric: int = NUMERIC,
    categorical: int = CATEGORICAL,
) -> dict[str, Any]:
    """Columns of one month, with the chance of a readmission under ``chance`` and the outcome under ``outcome``."""
    random = np.random.default_rng([seed, month.year, month.month])
    count = int(random.poisson(rows))
    patients = random.integers(0, rows * 12, count)
    found: dict[str, Any] = {
        "month": np.full(count, np.datetime64(month)),
        "encounter_id": np.array([f"{month:%Y%m}-{i}" for i in range(count)]),
        "patient_key": np.array([f"{p:032x}" for p in patients]),
        "discharged_at": np.datetime64(month, "us") + random.integers(0, 27 * 86_400, count) * np.timedelta64(1, "s"),
        "age": np.clip(random.normal(64, 16, count), 18, 100).round(),
        "sex": random.choice(["female", "male"], count, p=[0.54, 0.46]),
        "payer": random.choice(["medicare", "medicaid", "commercial", "self_pay"], count, p=[0.5, 0.2, 0.25, 0.05]),
        "flag": random.random(count) < 0.3,
    }
    for i in range(numeric):
        kind = i % 4
        values = (
            random.normal(0, 1, count)
            if kind == 0
            else random.lognormal(0, 1, count)
            if kind == 1
            else random.poisson(1 + i / 10, count).astype(float)
            if kind == 2
            else np.where(random.random(count) < 0.4, np.nan, random.gamma(2, 3, count))
        )
        found[f"number_{i}"] = values
    for i in range(categorical):
        size = 3 + 8 * i
        weights = 1 / np.arange(1, size + 1)
        found[f"category_{i}"] = np.array([f"c{k}" for k in range(size)])[
            random.choice(size, count, p=weights / weights.sum())
        ]
    found["intercept"] = -2.0
    if change is not None:
        change(found, random)
    score = 0.9 * found["number_0"] + 0.4 * np.minimum(found["number_2"], 5) + 0.015 * (found["age"] - 64)
    found["model_logit"] = score - 2.0
    found["chance"] = 1 / (1 + np.exp(-(found.get("true_score", score) + found["intercept"])))
    found["outcome"] = random.random(count) < found["chance"]
    return found


def fill(
    warehouse: Warehouse,
    settings: Settings,
    months: MonthRange,
    *,
    rows: int = 400,
    seed: int = 1,
    changes: Mapping[Month, Change] | None = None,
    models: MonthRange | None = None,
    labels: MonthRange | None = None,
    roles: tuple[str, ...] = ("model_1", "champion"),
    numeric: int = NUMERIC,
    categorical: int = CATEGORICAL,
) -> tuple[Slice, Slice, Slice, Slice]:
    """Write features, predictions, labels and champion; the change of a month stays until the next change.

    Returns:
        Slices of features, predictions, labels, champion.
    """
    features = feature_table(numeric, categorical)
    models = models or MonthRange(settings.first_model_month, months.last)
    labels = labels or MonthRange(months.first, shift(months.last, -1))
    change: Change | None = None
    gathered: list[dict[str, Any]] = []
    for month in months:
        change = (changes or {}).get(month, change)
        gathered.append(month_rows(month, rows, seed, change, numeric, categorical))
    _write(warehouse, features, months, [pa.table({c: g[c] for c in features.column_names}) for g in gathered])
    _write(
        warehouse,
        PREDICTIONS,
        models,
        [_predictions(g, role) for m, g in zip(months, gathered, strict=True) if m in models for role in roles],
    )
    _write(warehouse, LABELS, labels, [_labels(g) for m, g in zip(months, gathered, strict=True) if m in labels])
    warehouse.replace(CHAMPION, models, champion_rows(models))
    return Slice(features, months), Slice(PREDICTIONS, models), Slice(LABELS, labels), Slice(CHAMPION, models)


def champion_rows(models: MonthRange, **overrides: Any) -> pa.Table:
    metrics = {"roc_auc": {"value": 0.76, "ci_low": 0.74, "ci_high": 0.78, "n": 2400}}
    rows = []
    for index, month in enumerate(models):
        row = dict.fromkeys(CHAMPION.column_names)
        row |= {
            "month": month,
            "model_id": "logistic_regression-a",
            "family": "logistic_regression",
            "decision": "INITIAL" if index == 0 else "SKIP",
            "criteria": "[]",
            "metrics": json.dumps(metrics),
            "reason": "test",
            "holdout_rows": 2400,
            "model_month": models.first,
            "recommendations": "[]",
            "next_training_date": shift(month, 1),
            "evidence": "{}",
            "plan_hash": "0",
        }
        rows.append(row | overrides)
    return to_table(CHAMPION, rows)


def _write(warehouse: Warehouse, table: Table, months: MonthRange, parts: list[pa.Table]) -> None:
    warehouse.replace(table, months, pa.concat_tables(parts))


def _predictions(found: dict[str, Any], role: str) -> pa.Table:
    probability = 1 / (1 + np.exp(-found["model_logit"]))
    count = probability.size
    return pa.table(
        {
            "month": found["month"],
            "encounter_id": found["encounter_id"],
            "patient_key": found["patient_key"],
            "model_id": ["logistic_regression-a"] * count,
            "model_role": [role] * count,
            "probability": probability,
            "label": probability >= 0.3,
            "confidence": np.maximum(probability, 1 - probability),
            "inference_dt": [np.datetime64("2024-01-01", "us")] * count,
            "feature_hash": ["0"] * count,
            "warnings": pa.nulls(count, pa.string()),
        }
    )


def _labels(found: dict[str, Any]) -> pa.Table:
    count = found["outcome"].size
    return pa.table(
        {
            "month": found["month"],
            "encounter_id": found["encounter_id"],
            "patient_key": found["patient_key"],
            "discharged_at": found["discharged_at"],
            "readmitted_30d": found["outcome"],
            "readmitted_at": pa.nulls(count, pa.timestamp("us")),
            "outcome_source": ["derived"] * count,
            "cohort_version": ["test"] * count,
        }
    )
