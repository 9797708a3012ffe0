"""Binned counts of feature columns, computed inside DuckDB: one scan per table, no row passes through Python."""

from __future__ import annotations

import datetime as dt
import math
import sys
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Literal

import numpy as np
from numpy.typing import NDArray

from health_pipeline.months import Month

if TYPE_CHECKING:
    from duckdb import DuckDBPyConnection

NOT_FEATURES = frozenset({"month", "encounter_id", "patient_key", "discharged_at"})
CALENDAR_FEATURES = frozenset({"discharge_season"})
"""Functions of the month itself: every month differs from a year in them, so their drift says nothing."""
FINE_BINS = 50
EDGE_ROWS = 20_000


@dataclass(frozen=True, slots=True)
class Measured:
    """A column that is monitored."""

    name: str
    kind: Literal["numeric", "categorical"]


@dataclass(frozen=True)
class Bins:
    """How a column is cut: upper edges of a numeric one, known categories of the other."""

    column: Measured
    edges: tuple[float, ...] = ()
    categories: tuple[str, ...] = ()


@dataclass(frozen=True)
class Tally:
    """Rows per bin of one column in one month.

    Attributes:
        bins: shape ``(bins,)``; numeric columns have one bin more than edges.
        missing: rows without a value.
        unseen: rows whose category the reference does not know.
    """

    bins: NDArray[np.float64]
    missing: int
    unseen: int = 0

    @property
    def rows(self) -> int:
        """All rows of the month."""
        return int(self.bins.sum()) + self.missing + self.unseen


MonthlyTallies = Mapping[Month, Mapping[str, Tally]]


def measured_columns(connection: DuckDBPyConnection, relation: str) -> list[Measured]:
    """Columns of a relation that are features, by their type; times and keys are left out."""
    found: list[Measured] = []
    for name, type_, *_ in connection.execute(f"DESCRIBE SELECT * FROM {relation}").fetchall():
        if name in NOT_FEATURES | CALENDAR_FEATURES or type_.startswith(("DATE", "TIME")):
            continue
        categorical = type_ in {"BOOLEAN", "VARCHAR"} or type_.startswith("ENUM")
        found.append(Measured(name, "categorical" if categorical else "numeric"))
    return found


def sampled(relation: str, every: int, key: str = "encounter_id") -> str:
    """The relation, or the same one row in ``every`` each time it is asked (chosen by hash of the key)."""
    return relation if every <= 1 else f"(SELECT * FROM {relation} WHERE hash({key}) % {every} = 0)"


def reference_bins(connection: DuckDBPyConnection, relation: str, columns: Sequence[Measured]) -> dict[str, Bins]:
    """Quantile edges and categories of the reference, from at most about ``EDGE_ROWS`` rows for the edges."""
    rows = connection.execute(f"SELECT count(*) FROM {relation}").fetchone()
    every = -(-int(rows[0]) // EDGE_ROWS) if rows else 1
    levels = [round(step / FINE_BINS, 4) for step in range(1, FINE_BINS)]
    numeric = [column for column in columns if column.kind == "numeric"]
    categorical = [column for column in columns if column.kind == "categorical"]
    bins: dict[str, Bins] = {}
    if numeric:
        wanted = ", ".join(f"quantile_disc({_number(column)}, {levels})" for column in numeric)
        found = connection.execute(f"SELECT {wanted} FROM {sampled(relation, every)}").fetchone()
        for column, edges in zip(numeric, found or (), strict=True):
            bins[column.name] = Bins(column, edges=_edges(edges or ()))
    if categorical:
        wanted = ", ".join(f"map_keys(histogram({_text(column)}))" for column in categorical)
        found = connection.execute(f"SELECT {wanted} FROM {relation}").fetchone()
        for column, names in zip(categorical, found or (), strict=True):
            bins[column.name] = Bins(column, categories=tuple(sorted(names or ())))
    return bins


def _edges(quantiles: Sequence[float]) -> tuple[float, ...]:
    """Upper edges of the bins. A value that is several quantiles gets a bin of its own, apart from all below it."""
    found = set(quantiles)
    for value, times in Counter(quantiles).items():
        if times > 1:  # the number before zero has lost its digits, and some libraries take it for zero
            found.add(math.nextafter(value, -math.inf) if value else -sys.float_info.min)
    return tuple(sorted(found))


def tallies(connection: DuckDBPyConnection, relation: str, bins: Mapping[str, Bins]) -> MonthlyTallies:
    """Rows per month, column and bin."""
    wanted = ["month", "count(*)"]
    # Edges travel as parameters: as text they would be read as decimals, and rows on an edge miss it by the last bit.
    edges: dict[str, list[float]] = {}
    for index, item in enumerate(bins.values()):
        value = _number(item.column) if item.column.kind == "numeric" else _text(item.column)
        cut = ""
        if item.edges:
            cut, edges[f"edges_{index}"] = f", $edges_{index}::DOUBLE[]", list(item.edges)
        wanted += [f"histogram({value}{cut})" if item.edges or item.categories else "NULL", f"count({value})"]
    result: dict[Month, dict[str, Tally]] = {}
    for month, rows, *cells in connection.execute(
        f"SELECT {', '.join(wanted)} FROM {relation} GROUP BY month ORDER BY month", edges
    ).fetchall():
        result[_date(month)] = {
            name: _tally(item, cells[2 * index] or {}, rows, cells[2 * index + 1])
            for index, (name, item) in enumerate(bins.items())
        }
    return result


def _tally(item: Bins, histogram: Mapping[object, int], rows: int, present: int) -> Tally:
    if item.column.kind == "numeric":
        counts = [histogram.get(edge, 0) for edge in item.edges]
        if not item.edges:  # the reference has no value at all: whatever comes now is new
            return Tally(np.zeros(1), rows - present, present)
        return Tally(np.array([*counts, present - sum(counts)], dtype=float), rows - present)
    counts = [histogram.get(name, 0) for name in item.categories]
    return Tally(np.array(counts or [0], dtype=float), rows - present, present - sum(counts))


def _number(column: Measured) -> str:
    value = f'"{column.name}"::DOUBLE'
    return f"CASE WHEN isfinite({value}) THEN {value} END"


def _text(column: Measured) -> str:
    return f'"{column.name}"::VARCHAR'


def _date(value: dt.date | dt.datetime) -> dt.date:
    return value.date() if isinstance(value, dt.datetime) else value
