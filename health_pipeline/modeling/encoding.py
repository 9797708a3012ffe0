"""Encodings: how one feature becomes columns of a model's matrix. Fitted on training rows, stored with the model.

An encoding is plain data (it travels as JSON) and is applied in one place for the gate, the batch and the API:
:func:`encode` for Arrow tables. Values a model has never met are encoded as it learned to treat rare ones, and named.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any, Literal

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from numpy.typing import NDArray

Kind = Literal["numeric", "boolean", "categorical"]
Matrix = NDArray[np.float64]

MISSING = "(missing)"
RARE = "(rare)"


@dataclass(frozen=True, slots=True)
class Feature:
    """An input of a model.

    Attributes:
        name: column of ``gold.features``.
        kind: how its values are read; values of another type are converted where they can be.
        nulls_expected: whether training rows held nulls; if not, a null at scoring time is worth a warning.
        categories: values of a categorical feature that training met often enough to name; others are worth a warning.
    """

    name: str
    kind: Kind
    nulls_expected: bool = True
    categories: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class Encoding:
    """Columns made from one feature.

    Attributes:
        feature: name of the feature.
        kind: its kind.
        logarithm: numeric: ``log1p`` of the value (floored at zero) instead of the value.
        low: numeric: values below are raised to it.
        high: numeric: values above are lowered to it.
        impute: numeric and boolean: stands for null, after the transformation; None leaves NaN, for trees.
        knots: numeric: one more column ``max(0, value - knot)`` for each knot.
        missing_column: whether a 0/1 column says that the value was null.
        categories: categorical: one 0/1 column for each; an empty tuple gives none.
        rare_column: categorical: whether a 0/1 column says "none of these".
    """

    feature: str
    kind: Kind
    logarithm: bool = False
    low: float | None = None
    high: float | None = None
    impute: float | None = None
    knots: tuple[float, ...] = ()
    missing_column: bool = False
    categories: tuple[str, ...] = ()
    rare_column: bool = False

    @property
    def columns(self) -> tuple[str, ...]:
        """Names of the columns, in order."""
        if self.kind == "categorical":
            names = [f"{self.feature}={category}" for category in self.categories]
            names += [f"{self.feature}={RARE}"] if self.rare_column else []
        else:
            base = f"log1p({self.feature})" if self.logarithm else self.feature
            names = [base, *(f"max(0, {base} - {knot:g})" for knot in self.knots)]
        return (*names, f"{self.feature}={MISSING}") if self.missing_column else tuple(names)

    def to_json(self) -> dict[str, Any]:
        """Plain data; :meth:`from_json` reads it back."""
        return {name: _plain(getattr(self, name)) for name in Encoding.__slots__}

    @classmethod
    def from_json(cls, data: dict[str, Any]) -> Encoding:
        """The encoding that :meth:`to_json` wrote."""
        values: dict[str, Any] = {k: tuple(value) if isinstance(value, list) else value for k, value in data.items()}
        return cls(**values)


def _plain(value: Any) -> Any:
    return list(value) if isinstance(value, tuple) else value


@dataclass(slots=True)
class Inputs:
    """Values of the features of some rows, typed, and what was unexpected about them.

    Attributes:
        rows: number of rows.
        values: by feature: float64 with NaN for null (numeric, boolean), or codes of ``Feature.categories``
            (categorical; -1 null, -2 unseen).
        warnings: by ``kind:feature``, the rows concerned; True stands for all rows.
    """

    rows: int
    values: dict[str, NDArray[Any]]
    warnings: dict[str, NDArray[np.bool_] | bool] = field(default_factory=dict)

    def part(self, start: int, stop: int) -> Inputs:
        """Values of some rows, without warnings."""
        values = {name: column[start:stop] for name, column in self.values.items()}
        return Inputs(max(0, min(stop, self.rows) - start), values)

    def row_warnings(self) -> list[str | None]:
        """For each row the names of its warnings, joined by ``;``, or None."""
        everywhere = sorted(name for name, rows in self.warnings.items() if rows is True)
        common = ";".join(everywhere) or None
        texts: list[str | None] = [common] * self.rows
        for name in sorted(set(self.warnings) - set(everywhere)):
            for row in np.flatnonzero(self.warnings[name]):
                text = texts[row]
                texts[row] = f"{text};{name}" if text else name
        return texts

    def counts(self) -> dict[str, int]:
        """Number of rows for each warning."""
        return {
            name: self.rows if rows is True else int(np.count_nonzero(rows))
            for name, rows in sorted(self.warnings.items())
        }


NULL, UNSEEN = -1, -2


def _null_array(rows: int) -> NDArray[np.float64]:
    return np.full(rows, np.nan)


def _numbers(column: pa.Array, kind: Kind) -> tuple[NDArray[np.float64], NDArray[np.bool_] | None]:
    """Floats with NaN for null, and the rows whose value could not be read as a number."""
    kind_of = column.type
    if kind == "boolean" and pa.types.is_string(kind_of):
        lowered = pc.utf8_lower(column)
        known = pc.is_in(lowered, pa.array(["true", "false", "1", "0"]))
        truth = pc.is_in(lowered, pa.array(["true", "1"]))
        column = pc.if_else(known, truth, pa.scalar(None, pa.bool_()))
        invalid = pc.and_(pc.invert(known), pc.is_valid(lowered)).to_numpy(zero_copy_only=False)
        return _floats(column), invalid
    if pa.types.is_string(kind_of) or pa.types.is_large_string(kind_of):
        trimmed = pc.utf8_trim_whitespace(column)
        known = pc.match_substring_regex(trimmed, r"^[+-]?(\d+(\.\d*)?|\.\d+)([eE][+-]?\d+)?$")
        numbers = pc.if_else(known, trimmed, pa.scalar(None, kind_of))
        invalid = pc.and_(pc.invert(known), pc.is_valid(column)).to_numpy(zero_copy_only=False)
        return _floats(numbers), np.asarray(invalid, dtype=bool)
    if pa.types.is_null(kind_of):
        return _null_array(len(column)), None
    if not (pa.types.is_primitive(kind_of) or pa.types.is_decimal(kind_of)) or pa.types.is_temporal(kind_of):
        return _null_array(len(column)), np.ones(len(column), dtype=bool)
    return _floats(column), None


def _floats(column: pa.Array) -> NDArray[np.float64]:
    floats = pc.cast(column, pa.float64(), safe=False).to_numpy(zero_copy_only=False)
    return np.asarray(floats, dtype=np.float64)


def _codes(column: pa.Array, categories: Sequence[str]) -> NDArray[np.int32]:
    text = column if pa.types.is_string(column.type) else pc.cast(column, pa.string())
    codes = pc.index_in(text, value_set=pa.array(list(categories), pa.string()), skip_nulls=True)
    if codes.null_count:
        codes = pc.fill_null(codes, UNSEEN)
        codes = pc.if_else(pc.is_null(text), pa.scalar(NULL, pa.int32()), codes)
    return np.asarray(codes.to_numpy(zero_copy_only=False), dtype=np.int32)


def read_inputs(rows: pa.Table, features: Sequence[Feature]) -> Inputs:
    """Type the columns of a table, whatever state they are in, and note what training had not seen.

    Warnings: ``missing_column`` (the table has no such column), ``null`` (null where training had none), ``unseen`` (a
    category that training did not have, or hardly), ``invalid`` (a value that is not of the feature's kind: read as
    null).
    """
    inputs = Inputs(rows.num_rows, {})
    for feature in features:
        if feature.name not in rows.column_names:
            inputs.warnings[f"missing_column:{feature.name}"] = True
            absent = np.full(rows.num_rows, NULL, np.int32) if feature.kind == "categorical" else None
            inputs.values[feature.name] = _null_array(rows.num_rows) if absent is None else absent
            continue
        column = rows[feature.name].combine_chunks()
        invalid: NDArray[np.bool_] | None = None
        values: NDArray[Any]
        if feature.kind == "categorical":
            values = _codes(column, feature.categories)
            null, unseen = values == NULL, values == UNSEEN
            if unseen.any():
                inputs.warnings[f"unseen:{feature.name}"] = unseen
        else:
            values, invalid = _numbers(column, feature.kind)
            null = ~np.isfinite(values)
            if null.any():
                values = np.where(null, np.nan, values)
        if invalid is not None and invalid.any():
            inputs.warnings[f"invalid:{feature.name}"] = invalid
            null = null & ~invalid
        if not feature.nulls_expected and null.any():
            inputs.warnings[f"null:{feature.name}"] = null
        inputs.values[feature.name] = values
    return inputs


def width_of(encodings: Sequence[Encoding]) -> int:
    """Number of columns."""
    return sum(len(encoding.columns) for encoding in encodings)


def encode(inputs: Inputs, features: Sequence[Feature], encodings: Sequence[Encoding], dtype: Any) -> NDArray[Any]:
    """Matrix of shape (rows, columns) in row-major order; NaN only where an encoding leaves nulls to the model."""
    categories = {feature.name: feature.categories for feature in features}
    matrix = np.zeros((inputs.rows, width_of(encodings)), dtype=dtype)
    cells, row_starts = matrix.reshape(-1), np.arange(inputs.rows) * matrix.shape[1]
    start = 0
    for encoding in encodings:
        values, width = inputs.values[encoding.feature], len(encoding.columns)
        if encoding.kind == "categorical":
            cells[_ones(values, categories[encoding.feature], encoding, row_starts + start)] = 1
        else:
            _encode_numbers(values, encoding, matrix[:, start : start + width])
        start += width
    return matrix


def _encode_numbers(values: Matrix, encoding: Encoding, block: NDArray[Any]) -> None:
    null = np.isnan(values) if encoding.impute is not None or encoding.missing_column else None
    if encoding.low is not None or encoding.high is not None:
        values = np.clip(values, encoding.low, encoding.high)
    if encoding.logarithm:
        values = np.log1p(np.maximum(values, 0))
    if null is not None and encoding.impute is not None and null.any():
        values = np.where(null, encoding.impute, values)
    block[:, 0] = values
    for index, knot in enumerate(encoding.knots, start=1):
        block[:, index] = np.maximum(values - knot, 0)
    if encoding.missing_column:
        block[:, -1] = null


def _ones(
    codes: NDArray[np.int32], categories: Sequence[str], encoding: Encoding, starts: NDArray[np.intp]
) -> NDArray[np.intp]:
    """Cells that are 1, given the first cell of each row."""
    kept = {category: index for index, category in enumerate(encoding.categories)}
    rare = len(kept) if encoding.rare_column else -1
    missing = len(encoding.columns) - 1 if encoding.missing_column else rare
    # Position for each code; the last two entries serve the codes -2 (unseen) and -1 (null).
    positions = np.array([*(kept.get(category, rare) for category in categories), rare, missing], dtype=np.intp)
    found = positions.take(codes, mode="wrap")
    cells = starts + found
    return cells if positions.min() >= 0 else cells[found >= 0]
