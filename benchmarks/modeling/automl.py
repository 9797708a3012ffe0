"""AutoML beside the pipeline: FLAML on the very rows and features of a month's candidates, with a stated time budget.

``pip install 'health-pipeline[bench]'``
"""

from __future__ import annotations

import logging
import time
import warnings
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import pandas as pd
import pyarrow as pa

from health_pipeline.modeling.candidate import Skipped, Subject, read_subject
from health_pipeline.modeling.encoding import Feature, read_inputs
from health_pipeline.modeling.preprocessing import learn_features
from health_pipeline.months import Month, MonthRange
from health_pipeline.settings import Settings
from health_pipeline.warehouse import Slice, Warehouse

LEARNERS = ["lgbm", "xgboost", "xgb_limitdepth", "rf", "extra_tree", "lrl1"]


@dataclass(frozen=True)
class Found:
    """Probabilities of a month's discharges, what was chosen, and the CPU seconds it took."""

    encounters: list[str]
    probabilities: np.ndarray
    learner: str
    cpu_seconds: float


def frame(rows: pa.Table, features: Sequence[Feature]) -> pd.DataFrame:
    """The features as a data frame: floats with NaN, and categories of the training rows."""
    inputs = read_inputs(rows, features)
    columns = {}
    for feature in features:
        values = inputs.values[feature.name]
        if feature.kind == "categorical":
            # Null is a level of its own, as it is for our encodings; a value not met in training is null.
            names = [*feature.categories, "(missing)"]
            codes = np.where(values < 0, len(names) - 1, values)
            columns[feature.name] = pd.Categorical.from_codes(codes, categories=names)
        else:
            columns[feature.name] = values
    return pd.DataFrame(columns)


def search(
    warehouse: Warehouse, features: Slice, labels: Slice, month: Month, settings: Settings, budget: float
) -> Found | None:
    """Let FLAML look for ``budget`` seconds on training and validation rows of a month, then score the month.

    FLAML chooses on the validation rows and fits its choice again on both, as is its default.
    """
    from flaml import AutoML

    subject = read_subject(warehouse, features, labels, month, settings)
    if isinstance(subject, Skipped):
        return None
    known = learn_features(subject.training.rows, subject.kinds, subject.smallest)
    with warehouse.read(f"discharges of {month:%Y-%m}") as connection:
        rows = connection.execute(
            f"SELECT * FROM {features.only(MonthRange(month, month))} ORDER BY encounter_id"
        ).to_arrow_table()
    logging.getLogger("flaml").setLevel(logging.ERROR)
    started = time.process_time()
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        machine = AutoML()
        _fit(machine, subject, known, budget, settings.training.seed)
        cpu_seconds = time.process_time() - started
        probabilities = machine.predict_proba(frame(rows, known))[:, 1]
    return Found(rows["encounter_id"].to_pylist(), np.asarray(probabilities), machine.best_estimator, cpu_seconds)


def _fit(machine: object, subject: Subject, known: Sequence[Feature], budget: float, seed: int) -> None:
    machine.fit(  # type: ignore[attr-defined]
        X_train=frame(subject.training.rows, known),
        y_train=subject.training.y.astype(int),
        X_val=frame(subject.validation.rows, known),
        y_val=subject.validation.y.astype(int),
        task="classification",
        metric="roc_auc",
        estimator_list=LEARNERS,
        time_budget=budget,
        n_jobs=1,
        seed=seed % 2**31,
        verbose=0,
    )
