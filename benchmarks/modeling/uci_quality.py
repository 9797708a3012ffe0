"""Quality and time of the candidates on UCI Diabetes 130, rolling out of time.

Each month is scored by the models that could have existed when it began. Build the home first (uci_home.py).

python benchmarks/modeling/uci_quality.py <home> [--first 2002-01] [--last 2007-05] [--training-months 60]
       [--profile standard] [--samples N] [--families logistic_regression,xgboost]
"""

from __future__ import annotations

import argparse
import time
from collections.abc import Mapping
from pathlib import Path

import numpy as np
from uci_home import MONTHS, uci_settings

from health_pipeline import cohort, features
from health_pipeline.clock import system_clock
from health_pipeline.environment import prepare_environment
from health_pipeline.modeling import PREDICTIONS, model_table, score_months, train_months
from health_pipeline.modeling.metrics import measure_with_intervals
from health_pipeline.months import MonthRange, shift
from health_pipeline.promotion import CHAMPION
from health_pipeline.settings import Settings
from health_pipeline.warehouse import Slice, Warehouse

SHOWN = ("roc_auc", "average_precision", "brier", "ece", "calibration_slope", "observed_expected", "top_decile_lift")


class Stopwatch:
    """Wall and CPU seconds of the parts of a run."""

    def __init__(self) -> None:
        self.wall, self.cpu = time.perf_counter(), time.process_time()

    def lap(self, name: str) -> None:
        wall, cpu = time.perf_counter(), time.process_time()
        print(f"{name:<40}{wall - self.wall:9.1f} s wall{cpu - self.cpu:9.1f} s CPU", flush=True)
        self.wall, self.cpu = wall, cpu


def train_and_score(settings: Settings, months: MonthRange, families: tuple[str, ...]) -> Warehouse:
    warehouse, watch = Warehouse.from_settings(settings), Stopwatch()
    inputs = {"features": Slice(features.FEATURE_TABLE, MONTHS), "labels": Slice(cohort.LABELS, MONTHS)}
    for family in families:
        table = model_table(family)
        rows = train_months(
            family,
            warehouse,
            **inputs,
            previous=Slice(table, MonthRange(MONTHS.first, shift(months.first, -1))),
            months=months,
            settings=settings,
            clock=system_clock,
            log=print,
        )
        warehouse.replace(table, months, rows)
        watch.lap(f"{family}: {len(months)} months")
    candidates = {family: Slice(model_table(family), months) for family in families}
    predictions = score_months(warehouse, inputs["features"], candidates, Slice(CHAMPION, months), months, settings)
    warehouse.replace(PREDICTIONS, months, predictions)
    watch.lap("predictions")
    return warehouse


def pooled(warehouse: Warehouse, months: MonthRange) -> dict[str, Mapping[str, np.ndarray]]:
    """Outcome, patient and probability of the pooled months by model role."""
    rows = warehouse.fetch(
        f"SELECT p.model_role, l.patient_key, l.readmitted_30d::DOUBLE AS y, p.probability AS p "
        f"FROM {Slice(PREDICTIONS, months)} AS p JOIN {Slice(cohort.LABELS, months)} AS l USING (month, encounter_id) "
        "ORDER BY p.model_role, p.month, p.encounter_id",
        "pooled predictions",
    ).to_pydict()
    columns = {name: np.asarray(values) for name, values in rows.items()}
    found = {}
    for role in np.unique(columns["model_role"]):
        mask = columns["model_role"] == role
        found[str(role)] = {name: columns[name][mask] for name in ("patient_key", "y", "p")}
    if {"model_1", "model_2"} <= set(found):
        logit = {role: np.log(found[role]["p"] / (1 - found[role]["p"])) for role in ("model_1", "model_2")}
        blend = 1 / (1 + np.exp(-(0.4 * logit["model_1"] + 0.6 * logit["model_2"])))
        found["0.4 model_1 + 0.6 model_2"] = {**found["model_1"], "p": blend}
    return found


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("home", type=Path)
    parser.add_argument("--first", default="2002-01")
    parser.add_argument("--last", default="2007-05")
    parser.add_argument("--training-months", type=int, default=60)
    parser.add_argument("--profile", default="standard")
    parser.add_argument("--samples", type=int)
    parser.add_argument("--families", default="logistic_regression,xgboost")
    arguments = parser.parse_args()
    prepare_environment()
    settings = uci_settings(
        arguments.home,
        windows={"training_months": arguments.training_months},
        training={"profile": arguments.profile, "samples": arguments.samples},
    )
    months = MonthRange.of(arguments.first, arguments.last)
    warehouse = train_and_score(settings, months, tuple(arguments.families.split(",")))
    for role, rows in pooled(warehouse, months).items():
        estimates = measure_with_intervals(rows["y"], rows["p"], clusters=rows["patient_key"], metrics=SHOWN)
        print(f"\n{role}: {rows['y'].size} discharges {months}")
        for name, estimate in estimates.items():
            print(f"  {name:<20}{estimate.value:8.4f}  [{estimate.ci_low:.4f}, {estimate.ci_high:.4f}]")


if __name__ == "__main__":
    main()
