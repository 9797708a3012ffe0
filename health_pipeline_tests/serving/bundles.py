"""Small real bundles: a linear one written down, a tree one fitted on random rows."""

from __future__ import annotations

import dataclasses
from pathlib import Path

import numpy as np

from health_pipeline.modeling.bundle import Bundle, Linear, Member, Trees
from health_pipeline.modeling.calibration import Calibration
from health_pipeline.modeling.encoding import Encoding, Feature
from health_pipeline.serving.release import Release, ReleaseFacts, pack_release

FEATURES = (
    Feature("age", "numeric"),
    Feature("length_of_stay", "numeric"),
    Feature("prior_admissions", "numeric", nulls_expected=False),
    Feature("is_emergency", "boolean"),
    Feature("payer", "categorical", categories=("medicare", "medicaid", "private")),
)

RECORD = {"age": 71.0, "length_of_stay": 4.5, "prior_admissions": 2, "is_emergency": True, "payer": "medicare"}


def linear_bundle(shift: float = 0.0) -> Bundle:
    """A logistic regression; ``shift`` moves its intercept (and so makes another model)."""
    encodings = (
        Encoding("age", "numeric", low=18, high=100, impute=65.0, knots=(50.0, 80.0), missing_column=True),
        Encoding("length_of_stay", "numeric", logarithm=True, high=60, impute=1.2),
        Encoding("prior_admissions", "numeric", impute=0.0),
        Encoding("is_emergency", "boolean", impute=0.4, missing_column=True),
        Encoding("payer", "categorical", categories=("medicare", "medicaid"), rare_column=True, missing_column=True),
    )
    coefficients = (0.011, 0.02, -0.015, 0.1, 0.31, 0.22, 0.4, -0.1, 0.2, 0.3, -0.2, 0.05)
    bundle = Bundle(
        family="logistic_regression",
        features=FEATURES,
        members=(Member(encodings, Linear(-3.0 + shift, coefficients)),),
        calibration=Calibration(0.9, -0.1, "platt"),
        threshold=0.2,
        metadata={"month": "2023-05-01"},
    )
    return bundle.named("lr", "2023-05")


def tree_bundle(seed: int = 3, trees: int = 30, depth: int = 4) -> Bundle:
    """Two boosters averaged, fitted on random rows with nulls."""
    import xgboost

    from health_pipeline.modeling.onnx_trees import trees_to_onnx

    encodings = (
        Encoding("age", "numeric"),
        Encoding("length_of_stay", "numeric"),
        Encoding("prior_admissions", "numeric"),
        Encoding("is_emergency", "boolean"),
        Encoding("payer", "categorical", categories=("medicare", "medicaid", "private"), rare_column=True),
    )
    columns = sum(len(encoding.columns) for encoding in encodings)
    generator = np.random.default_rng(seed)
    x = generator.normal(size=(600, columns)) * [20, 5, 2, 1, 1, 1, 1, 1] + [60, 5, 1, 0, 0, 0, 0, 0]
    x[:, 3:] = (x[:, 3:] > 0).astype(float)
    x[generator.random(x.shape) < 0.1] = np.nan
    logit = 0.03 * (np.nan_to_num(x[:, 0]) - 60) + 0.3 * np.nan_to_num(x[:, 2]) - 1
    y = (generator.random(600) < 1 / (1 + np.exp(-logit))).astype(float)
    boosters = [
        xgboost.train(
            {
                "objective": "binary:logistic",
                "max_depth": depth,
                "eta": 0.2,
                "seed": index,
                "subsample": 0.7,
                "nthread": 1,
            },
            xgboost.DMatrix(x, y),
            trees,
        )
        for index in range(2)
    ]
    predictor = Trees(trees_to_onnx(boosters, columns), tuple(bytes(booster.save_raw("ubj")) for booster in boosters))
    bundle = Bundle(
        family="xgboost",
        features=FEATURES,
        members=(Member(encodings, predictor),),
        calibration=Calibration(1.1, 0.05, "platt"),
        threshold=0.3,
        metadata={"month": "2023-05-01"},
    )
    return bundle.named("xgb", "2023-05")


def pack(bundle: Bundle, home: Path, month: str = "2023-05-01") -> Release:
    """Save a bundle below a home and pack it as a release."""
    folder = home / "models" / bundle.model_id
    digest = bundle.save(folder)
    return pack_release(folder, facts_of(bundle, digest, month), home / "releases")


def facts_of(bundle: Bundle, digest: str, month: str = "2023-05-01") -> ReleaseFacts:
    return ReleaseFacts(
        model_id=bundle.model_id,
        family=bundle.family,
        month=month,
        threshold=bundle.threshold,
        bundle_hash=digest,
        trained_at="2023-05-02T03:00:00",
        metrics={"roc_auc": {"value": 0.7, "ci_low": 0.68, "ci_high": 0.72, "n": 2500}},
    )


def with_threshold(bundle: Bundle, threshold: float) -> Bundle:
    return dataclasses.replace(bundle, threshold=threshold)
