"""A linear model as one SQL expression: scored where the rows lie, without Python."""

from __future__ import annotations

import math

from health_pipeline.errors import ModelError
from health_pipeline.modeling.bundle import Bundle
from health_pipeline.modeling.encoding import Encoding
from health_pipeline.modeling.predictors import Linear

LARGEST_LOGIT = 35.0
"""As in :meth:`Calibration.probabilities`: beyond it a probability is 0 or 1 to the last digit."""


def probability_sql(bundle: Bundle) -> str:
    """The calibrated probability of a bundle as a DuckDB expression over columns named like its features.

    Columns must have the feature's type (DOUBLE, BOOLEAN, VARCHAR). Nulls, values that are not finite and categories
    never met are scored as :meth:`Bundle.score` scores them; rounding may differ in the last digits.

    Args:
        bundle: all of its members are linear.

    Raises:
        ModelError: the bundle has trees.
    """
    shares = []
    for member in bundle.members:
        if not isinstance(member.predictor, Linear):
            raise ModelError(f"model {bundle.model_id} is not linear", remedy="score it through the bundle")
        coefficients = iter(member.predictor.coefficients)
        terms = [_number(member.predictor.intercept)]
        for encoding in member.encodings:
            terms.append(_term(encoding, [next(coefficients) for _ in encoding.columns]))
        shares.append(f"{_number(member.weight)} * ({' + '.join(terms)})")
    calibration = bundle.calibration
    logit = f"{_number(calibration.intercept)} + {_number(calibration.slope)} * ({' + '.join(shares)})"
    return f"1 / (1 + exp(-least(greatest({logit}, {_number(-LARGEST_LOGIT)}), {_number(LARGEST_LOGIT)})))"


def _term(encoding: Encoding, weights: list[float]) -> str:
    column = '"' + encoding.feature.replace('"', '""') + '"'
    if encoding.kind == "categorical":
        return _category_term(encoding, column, weights)
    value = f"{column}::DOUBLE"
    known = f"{column} IS NOT NULL" if encoding.kind == "boolean" else f"isfinite({column})"
    if encoding.low is not None:
        value = f"greatest({value}, {_number(encoding.low)})"
    if encoding.high is not None:
        value = f"least({value}, {_number(encoding.high)})"
    if encoding.logarithm:
        value = f"ln(1 + greatest({value}, 0))"
    parts = [f"{_number(weights[0])} * {value}"]
    impute = math.nan if encoding.impute is None else encoding.impute
    missing = impute * weights[0]
    for knot, weight in zip(encoding.knots, weights[1:], strict=False):
        parts.append(f"{_number(weight)} * greatest({value} - {_number(knot)}, 0)")
        missing += max(0.0, impute - knot) * weight
    if encoding.missing_column:
        missing += weights[-1]
    if math.isnan(missing):
        raise ModelError(f"feature {encoding.feature} of a linear model has no value for null")
    return f"CASE WHEN {known} THEN {' + '.join(parts)} ELSE {_number(missing)} END"


def _category_term(encoding: Encoding, column: str, weights: list[float]) -> str:
    width = len(encoding.categories)
    rare = weights[width] if encoding.rare_column else 0.0
    missing = weights[-1] if encoding.missing_column else rare
    whens = " ".join(
        f"WHEN '{category.replace(chr(39), chr(39) * 2)}' THEN {_number(weight)}"
        for category, weight in zip(encoding.categories, weights, strict=False)
    )
    cases = f"CASE {column} {whens} ELSE {_number(rare)} END" if whens else _number(rare)
    return f"CASE WHEN {column} IS NULL THEN {_number(missing)} ELSE {cases} END"


def _number(value: float) -> str:
    """A DOUBLE literal: without an exponent DuckDB would read a decimal."""
    return f"{value!r}::DOUBLE" if "e" in repr(value) else f"{value!r}e0"
