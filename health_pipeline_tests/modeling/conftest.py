"""A small hospital in a warehouse: features with signal, nulls and rare categories, and matured labels."""

from __future__ import annotations

import datetime as dt
from pathlib import Path

import numpy as np
import pyarrow as pa
import pytest

from health_pipeline.clock import frozen_clock
from health_pipeline.months import MonthRange
from health_pipeline.settings import Settings
from health_pipeline.warehouse import Column, Slice, Table, Warehouse

MONTHS = MonthRange.of("2022-01", "2023-12")
CLOCK = frozen_clock(dt.datetime(2024, 1, 2, tzinfo=dt.UTC))

FEATURES = Table(
    "gold",
    "features",
    (
        Column("month", "DATE"),
        Column("encounter_id", "VARCHAR"),
        Column("patient_key", "VARCHAR"),
        Column("discharged_at", "TIMESTAMP"),
        Column("age_years", "DOUBLE"),
        Column("prior_inpatient_1y", "DOUBLE"),
        Column("last_hemoglobin", "DOUBLE"),
        Column("never_filled", "DOUBLE"),
        Column("emergency", "BOOLEAN"),
        Column("discharge_disposition", "VARCHAR"),
        Column("payer", "VARCHAR"),
    ),
    key=("encounter_id",),
)
LABELS = Table(
    "gold",
    "labels",
    (
        Column("month", "DATE"),
        Column("encounter_id", "VARCHAR"),
        Column("patient_key", "VARCHAR"),
        Column("discharged_at", "TIMESTAMP"),
        Column("readmitted_30d", "BOOLEAN"),
        Column("readmitted_at", "TIMESTAMP"),
        Column("outcome_source", "VARCHAR"),
        Column("cohort_version", "VARCHAR"),
    ),
    key=("encounter_id",),
)


def hospital(seed: int = 3, per_month: int = 150) -> tuple[pa.Table, pa.Table]:
    """Features and labels of every month; the same seed gives the same hospital."""
    random = np.random.default_rng(seed)
    count = per_month * len(MONTHS)
    months = [month for month in MONTHS for _ in range(per_month)]
    patients = random.integers(0, count // 2, count)
    prior = random.poisson(0.6, count)
    emergency = random.random(count) < 0.5
    home = random.random(count) < 0.7
    haemoglobin = random.normal(12, 2, count)
    logit = -2.6 + 0.5 * np.minimum(prior, 4) + 0.4 * emergency + 0.8 * ~home - 0.15 * (haemoglobin - 12)
    readmitted = random.random(count) < 1 / (1 + np.exp(-logit))
    disposition = np.where(home, "home", np.where(random.random(count) < 0.97, "skilled_nursing", "hospice"))
    payer = random.choice(["medicare", "medicaid", "commercial"], count, p=[0.6, 0.2, 0.2])
    keys = {
        "month": pa.array(months, pa.date32()),
        "encounter_id": pa.array([f"e{index:06d}" for index in range(count)]),
        "patient_key": pa.array([f"{patient:032x}" for patient in patients]),
        "discharged_at": pa.array([dt.datetime.combine(month, dt.time(12)) for month in months], pa.timestamp("us")),
    }
    features = pa.table(
        keys
        | {
            "age_years": pa.array(random.integers(20, 95, count).astype(float)),
            "prior_inpatient_1y": pa.array(prior.astype(float)),
            "last_hemoglobin": pa.array(haemoglobin, mask=random.random(count) < 0.3),
            "never_filled": pa.nulls(count, pa.float64()),
            "emergency": pa.array(emergency),
            "discharge_disposition": pa.array(disposition.tolist()),
            "payer": pa.array(payer.tolist(), mask=random.random(count) < 0.1),
        }
    )
    labels = pa.table(
        keys
        | {
            "readmitted_30d": pa.array(readmitted),
            "readmitted_at": pa.nulls(count, pa.timestamp("us")),
            "outcome_source": pa.array(["derived"] * count),
            "cohort_version": pa.array(["test"] * count),
        }
    )
    return features, labels


def store(warehouse: Warehouse, features: pa.Table, labels: pa.Table) -> None:
    """Write both tables."""
    warehouse.replace(FEATURES, MONTHS, features)
    warehouse.replace(LABELS, MONTHS, labels)


def settings_in(home: Path, **training: object) -> Settings:
    """Small windows and a quick profile."""
    return Settings(
        home=home,
        start_month=MONTHS.first,
        end_month=MONTHS.last,
        windows={"holdout_months": 2, "validation_months": 2, "training_months": 12, "min_training_months": 4},
        training={"profile": "quick", "min_rows": 200, "threads": 2, **training},
    )


@pytest.fixture(scope="session")
def rows() -> tuple[pa.Table, pa.Table]:
    return hospital()


@pytest.fixture
def settings(tmp_path: Path) -> Settings:
    return settings_in(tmp_path)


@pytest.fixture
def warehouse(settings: Settings, rows: tuple[pa.Table, pa.Table]) -> Warehouse:
    warehouse = Warehouse.from_settings(settings)
    store(warehouse, *rows)
    return warehouse


def whole(table: Table) -> Slice:
    """All months of a table."""
    return Slice(table, MONTHS)
