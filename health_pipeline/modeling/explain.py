"""Explanations: what each feature adds to the log-odds of a row, and which features matter over many rows."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from health_pipeline.modeling.bundle import Bundle, Member
from health_pipeline.modeling.encoding import Inputs, encode, read_inputs
from health_pipeline.modeling.predictors import Linear, Trees

Floats = NDArray[np.float64]


@dataclass(frozen=True)
class Contributions:
    """Additive parts of the calibrated log-odds: ``base + values.sum(axis=1)``.

    Attributes:
        features: names of the columns of ``values``.
        base: log-odds without any feature.
        values: contribution of each feature, shape (rows, features).
    """

    features: tuple[str, ...]
    base: float
    values: Floats


def contributions(bundle: Bundle, rows: pa.Table) -> Contributions:
    """Contribution of every feature to every row.

    Trees: TreeSHAP values of the boosters behind the ONNX graph (Lundberg et al., Nature Machine Intelligence 2020).
    Linear models: coefficient times encoded value. Columns of a feature are summed, members weighted,
    calibration applied.
    """
    inputs = read_inputs(rows, bundle.features)
    names = bundle.feature_names
    values = np.zeros((inputs.rows, len(names)))
    base = 0.0
    for member in bundle.members:
        owners = [names.index(item.feature) for item in member.encodings for _ in item.columns]
        member_base, columns = _column_contributions(bundle, member, inputs)
        base += member.weight * member_base
        for position, owner in enumerate(owners):
            values[:, owner] += member.weight * columns[:, position]
    slope = bundle.calibration.slope
    return Contributions(names, bundle.calibration.intercept + slope * base, slope * values)


def _column_contributions(bundle: Bundle, member: Member, inputs: Inputs) -> tuple[float, Floats]:
    predictor: Any = member.predictor
    matrix = encode(inputs, bundle.features, member.encodings, predictor.dtype)
    if isinstance(predictor, Linear):
        return predictor.intercept, matrix * np.asarray(predictor.coefficients)
    assert isinstance(predictor, Trees)
    import xgboost as xgb

    parts = []
    for content in predictor.boosters:
        booster = xgb.Booster({"nthread": 1}, model_file=bytearray(content))
        parts.append(booster.predict(xgb.DMatrix(matrix, nthread=1), pred_contribs=True).astype(np.float64))
    shap = np.mean(parts, axis=0)
    return float(shap[0, -1]) if len(shap) else 0.0, shap[:, :-1]


def importance(bundle: Bundle, rows: pa.Table) -> dict[str, float]:
    """Mean absolute deviation of each feature's contribution from its average over the rows, largest first."""
    found = contributions(bundle, rows)
    spread = np.abs(found.values - found.values.mean(axis=0)).mean(axis=0)
    order = np.argsort(-spread, kind="stable")
    return {found.features[index]: float(spread[index]) for index in order if spread[index] > 0}


def coefficients(bundle: Bundle) -> dict[str, float]:
    """Coefficient of each column of a linear model, by name; empty for others."""
    found: dict[str, float] = {}
    for member in bundle.members:
        if isinstance(member.predictor, Linear):
            found.update(zip(member.columns, member.predictor.coefficients, strict=True))
    return found
