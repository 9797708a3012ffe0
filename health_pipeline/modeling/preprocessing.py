"""Fits the preprocessing of a model on its training rows, and on nothing else."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from numpy.typing import NDArray

from health_pipeline.features import FEATURES, model_features
from health_pipeline.modeling.encoding import NULL, Encoding, Feature, Inputs, Kind
from health_pipeline.settings import Settings
from health_pipeline.warehouse.tables import Table

IDENTIFIERS = ("month", "encounter_id", "patient_key", "discharged_at")
"""Columns of ``gold.features`` that say whose row it is; every other column is a feature."""

_KINDS: dict[str, Kind] = {"BOOLEAN": "boolean", "VARCHAR": "categorical"}
_SKEW = 1.0
_FEWEST_KNOT_VALUES = 12


def feature_kinds(table: Table, settings: Settings) -> dict[str, Kind]:
    """Kind of each feature that the settings let a model see.

    Args:
        table: declared feature table: VARCHAR is categorical, BOOLEAN boolean, the rest numeric.
        settings: may keep groups of the catalogue, such as demographics, from models.
    """
    kept_away = {feature.name for feature in FEATURES} - {feature.name for feature in model_features(settings)}
    return {
        column.name: _KINDS.get(column.type.upper(), "numeric")
        for column in table.columns
        if column.name not in IDENTIFIERS and column.name not in kept_away
    }


def learn_features(rows: pa.Table, kinds: Mapping[str, Kind], smallest: int) -> tuple[Feature, ...]:
    """Features with what the training rows say of them; columns that never hold a value are left out.

    Args:
        rows: training rows.
        kinds: kind by feature name.
        smallest: count that is published. A model travels, in an image and to whoever reads its documentation: it does
            not name what fewer rows hold, which its encodings pool anyhow.
    """
    features = []
    for name, kind in kinds.items():
        column = rows[name]
        if column.null_count == len(column):
            continue
        categories: tuple[str, ...] = ()
        if kind == "categorical":
            counts = pc.value_counts(column.cast(pa.string()).drop_null()).to_pylist()
            categories = tuple(sorted(item["values"] for item in counts if item["counts"] >= smallest))
        features.append(Feature(name, kind, column.null_count > 0, categories))
    return tuple(features)


@dataclass(frozen=True, slots=True)
class Style:
    """How features become columns.

    Attributes:
        for_trees: numbers stay as they are, within those of the training rows, and nulls stay null; otherwise they are
            capped, logged, imputed.
        fewest_rows: categories with fewer training rows are pooled as rare.
        knots: hinge columns of each numeric feature (linear models only).
        tail: share of training rows beyond each cap (linear models only).
    """

    for_trees: bool
    fewest_rows: int = 50
    knots: int = 0
    tail: float = 0.005


def fit_encodings(inputs: Inputs, features: Sequence[Feature], style: Style) -> tuple[Encoding, ...]:
    """Encodings learned from training inputs. Columns that would be constant are left out."""
    encodings = []
    for feature in features:
        values = inputs.values[feature.name]
        if feature.kind == "categorical":
            encoding = _categorical(feature, values, style)
        else:
            encoding = _numeric(feature, values, style)
        if encoding is not None:
            encodings.append(encoding)
    return tuple(encodings)


def _categorical(feature: Feature, codes: NDArray[Any], style: Style) -> Encoding | None:
    counts = np.bincount(codes[codes >= 0], minlength=len(feature.categories))
    frequent = [feature.categories[index] for index in np.flatnonzero(counts >= style.fewest_rows)]
    missing = int(np.count_nonzero(codes == NULL))
    has_missing = missing >= style.fewest_rows
    has_rare = bool(codes.size - counts[counts >= style.fewest_rows].sum() - (missing if has_missing else 0))
    if len(frequent) + has_missing + has_rare < 2:
        return None
    return Encoding(
        feature.name,
        "categorical",
        categories=tuple(frequent),
        rare_column=has_rare,
        missing_column=has_missing,
    )


def _numeric(feature: Feature, values: NDArray[Any], style: Style) -> Encoding | None:
    known = values[~np.isnan(values)]
    if known.size == 0 or (known.min() == known.max() and known.size == values.size):
        return None
    if style.for_trees:
        return _for_trees(feature, float(known.min()), float(known.max()))
    missing_rows = int(values.size - known.size)
    missing_column = style.fewest_rows <= missing_rows <= values.size - style.fewest_rows
    if feature.kind == "boolean":
        share = float(known.mean())
        return Encoding(feature.name, "boolean", impute=share, missing_column=missing_column)
    low, high = (float(bound) for bound in np.quantile(known, [style.tail, 1 - style.tail]))
    if low == high:  # nearly constant: keep the little there is
        low, high = float(known.min()), float(known.max())
    capped = np.clip(known, low, high)
    logarithm = bool(low >= 0 and _skewness(capped) > _SKEW)
    if logarithm:
        capped = np.log1p(capped)
    knots: tuple[float, ...] = ()
    if style.knots and np.unique(capped).size >= _FEWEST_KNOT_VALUES:
        places = np.quantile(capped, np.linspace(0, 1, style.knots + 2)[1:-1])
        inner = np.unique(places[(places > capped.min()) & (places < capped.max())])
        knots = tuple(float(place) for place in inner)
    return Encoding(
        feature.name,
        "numeric",
        logarithm=logarithm,
        low=low,
        high=high,
        impute=float(np.median(capped)),
        knots=knots,
        missing_column=missing_column,
    )


def _for_trees(feature: Feature, smallest: float, largest: float) -> Encoding:
    """The number as it is, within what training knew.

    XGBoost asks "is it null?" as "is it less than about twice the largest?" (or the smallest, below zero). A number far
    beyond would go the way of the nulls, other than in the bins of the validation rows.
    """
    if feature.kind == "boolean" and smallest < largest:
        return Encoding(feature.name, feature.kind)
    return Encoding(feature.name, feature.kind, low=smallest, high=largest)


def _skewness(values: NDArray[Any]) -> float:
    spread = values.std()
    return float(np.mean(((values - values.mean()) / spread) ** 3)) if spread > 0 else 0.0
