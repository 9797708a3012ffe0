"""A model's encodings written out as one Python function: a record becomes a margin or a matrix row in microseconds.

A loop over 80 encodings costs 80 calls; one function with 80 expressions costs none. The text of the function consists
of fixed templates and positions only. Every constant of the model (bounds, weights, tables of categories) is bound by
name, never spelled out, so nothing that a bundle holds can become code.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from struct import Struct
from typing import Any

from health_pipeline.modeling.encoding import Encoding
from health_pipeline.serving.schema import Value, Values

Encode = Callable[[Any], Sequence[float]]


def compile_encoding(encoding: Encoding) -> Encode:
    """A function from one value to the columns of ``encoding``: what the written out functions must agree with."""
    if encoding.kind == "categorical":
        table, unseen = _categories(encoding)
        return lambda value: table.get(value, unseen)
    on_missing = _on_missing(encoding)

    def numeric(value: float | None) -> Sequence[float]:
        if value is None:
            return on_missing
        if encoding.low is not None and value < encoding.low:
            value = encoding.low
        if encoding.high is not None and value > encoding.high:
            value = encoding.high
        if encoding.logarithm:
            value = math.log1p(value) if value > 0 else 0.0
        columns = [float(value), *(value - knot if value > knot else 0.0 for knot in encoding.knots)]
        return [*columns, 0.0] if encoding.missing_column else columns

    return numeric


def _on_missing(encoding: Encoding) -> tuple[float, ...]:
    impute = math.nan if encoding.impute is None else encoding.impute
    knots = (math.nan if math.isnan(impute) else max(0.0, impute - knot) for knot in encoding.knots)
    return (impute, *knots, 1.0) if encoding.missing_column else (impute, *knots)


def _categories(encoding: Encoding) -> tuple[dict[Value, tuple[float, ...]], tuple[float, ...]]:
    """Columns by category (``None``: null), and those of a category never met."""
    width = len(encoding.columns)
    rare = len(encoding.categories) if encoding.rare_column else None
    missing = width - 1 if encoding.missing_column else rare

    def one_hot(position: int | None) -> tuple[float, ...]:
        return tuple(1.0 if index == position else 0.0 for index in range(width))

    table: dict[Value, tuple[float, ...]] = {name: one_hot(index) for index, name in enumerate(encoding.categories)}
    table[None] = one_hot(missing)
    return table, one_hot(rare)


class _Text:
    """The text of a function of ``values``, and the constants it names."""

    def __init__(self, width: int) -> None:
        self.constants: dict[str, Any] = {"log1p": math.log1p}
        self._names = [f"v{position}" for position in range(width)]

    def bind(self, constant: Any) -> str:
        name = f"k{len(self.constants)}"
        self.constants[name] = constant
        return name

    def compile(self, expression: str) -> Callable[[Values], Any]:
        text = f"def written_out(values):\n    [{', '.join(self._names)}] = values\n    return {expression}\n"
        exec(compile(text, "<encodings>", "exec"), self.constants)
        written_out: Callable[[Values], Any] = self.constants["written_out"]
        return written_out

    def transformed(self, encoding: Encoding, value: str) -> str:
        """The value within its bounds, and as a logarithm where that is asked for."""
        found = value
        if encoding.low is not None and encoding.high is not None:
            low, high = self.bind(encoding.low), self.bind(encoding.high)
            found = f"({low} if {value} < {low} else {high} if {value} > {high} else {value})"
        elif encoding.low is not None:
            low = self.bind(encoding.low)
            found = f"({low} if {value} < {low} else {value})"
        elif encoding.high is not None:
            high = self.bind(encoding.high)
            found = f"({high} if {value} > {high} else {value})"
        return f"(log1p(y) if (y := {found}) > 0 else 0.0)" if encoding.logarithm else found


def compile_margin(
    encodings: Sequence[Encoding], positions: Mapping[str, int], coefficients: Sequence[float], intercept: float
) -> Callable[[Values], float]:
    """The margin of a linear model as a function of the values.

    Args:
        encodings: columns of its matrix.
        positions: index of each feature among the values.
        coefficients: one for each column.
        intercept: margin of a row of zeros.
    """
    text = _Text(len(positions))
    terms = [text.bind(intercept)]
    start = 0
    for encoding in encodings:
        weights = coefficients[start : start + len(encoding.columns)]
        terms.append(_term(text, encoding, weights, f"v{positions[encoding.feature]}"))
        start += len(encoding.columns)
    return text.compile(" + ".join(terms))


def _term(text: _Text, encoding: Encoding, weights: Sequence[float], value: str) -> str:
    if encoding.kind == "categorical":
        table, unseen = _categories(encoding)
        shares = {category: _dot(columns, weights) for category, columns in table.items()}
        return f"{text.bind(shares.get)}({value}, {text.bind(_dot(unseen, weights))})"
    missing = text.bind(_dot(_on_missing(encoding), weights))
    transformed = text.transformed(encoding, value)
    if not encoding.knots:
        return f"({missing} if {value} is None else {transformed} * {text.bind(weights[0])})"
    parts = [f"(x := {transformed}) * {text.bind(weights[0])}"]
    for knot, weight in zip(encoding.knots, weights[1:], strict=False):
        name = text.bind(knot)
        parts.append(f"((x - {name}) * {text.bind(weight)} if x > {name} else 0.0)")
    return f"({missing} if {value} is None else {' + '.join(parts)})"


def _dot(columns: Sequence[float], weights: Sequence[float]) -> float:
    return math.fsum(column * weight for column, weight in zip(columns, weights, strict=True))


def compile_row(encodings: Sequence[Encoding], positions: Mapping[str, int]) -> Callable[[Values], bytes]:
    """A matrix row (native float32, as bytes) as a function of the values.

    Args:
        encodings: columns of the matrix.
        positions: index of each feature among the values.
    """
    text = _Text(len(positions))
    pieces: list[str] = []
    numbers: list[str] = []

    def close() -> None:
        if numbers:
            pack = text.bind(Struct(f"={len(numbers)}f").pack)
            pieces.append(f"{pack}({', '.join(numbers)})")
            numbers.clear()

    for encoding in encodings:
        value = f"v{positions[encoding.feature]}"
        if encoding.kind == "categorical":
            close()
            table, unseen = _categories(encoding)
            pack = Struct(f"={len(encoding.columns)}f").pack
            rows = {category: pack(*columns) for category, columns in table.items()}
            pieces.append(f"{text.bind(rows.get)}({value}, {text.bind(pack(*unseen))})")
        else:
            numbers += _columns(text, encoding, value)
    close()
    return text.compile(f"{text.bind(b''.join)}(({', '.join(pieces)},))")


def _columns(text: _Text, encoding: Encoding, value: str) -> list[str]:
    missing = [text.bind(column) for column in _on_missing(encoding)]
    transformed = text.transformed(encoding, value)
    columns = [f"({missing[0]} if {value} is None else {transformed})"]
    for knot, when_missing in zip(encoding.knots, missing[1:], strict=False):
        name = text.bind(knot)
        above = f"x - {name} if (x := {transformed}) > {name} else 0.0"
        columns.append(f"({when_missing} if {value} is None else {above})")
    if encoding.missing_column:
        columns.append(f"(1.0 if {value} is None else 0.0)")
    return columns
