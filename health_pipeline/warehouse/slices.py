"""Slices and queries: SQL fragments that travel between assets instead of rows."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from health_pipeline.months import MonthRange
from health_pipeline.warehouse.tables import Table

if TYPE_CHECKING:
    import duckdb


@dataclass(frozen=True)
class Slice:
    """The rows of a table in a range of months, as SQL.

    Put it into a query with an f-string: ``f"SELECT count(*) FROM {admissions} AS a"``.
    """

    table: Table
    months: MonthRange
    columns: tuple[str, ...] | None = None

    def __str__(self) -> str:
        names = ", ".join(f'"{name}"' for name in self.columns) if self.columns else "*"
        partition, first, last = self.table.partition, self.months.first, self.months.last
        return (
            f"(SELECT {names} FROM {self.table.schema}.{self.table.name} "
            f"WHERE {partition} BETWEEN DATE '{first}' AND DATE '{last}')"
        )

    def only(self, months: MonthRange) -> Slice:
        """The same table, other months."""
        return Slice(self.table, months, self.columns)


@dataclass(frozen=True)
class Query:
    """A SELECT whose result becomes a slice; it runs inside DuckDB, in the slice's transaction.

    Attributes:
        sql: the statement; column names match the declared table (order does not matter).
        allow_empty: whether a month of the range may end up without rows.
        parameters: values of the ``$name`` parameters in ``sql``, handed to DuckDB with the statement. Secrets travel
            here and nowhere else: they are no part of the text, of ``repr`` or of any metadata.
        for_months: the same query for some of its months. A long range is then asked stretch by stretch in the one
            transaction, so that what DuckDB cannot spill depends on the stretch.
        prepare: called with the connection before the transaction begins, to load an extension or register a secret.
    """

    sql: str
    allow_empty: bool = True
    parameters: Mapping[str, Any] = field(default_factory=dict, repr=False, compare=False)
    for_months: Callable[[MonthRange], Query] | None = field(default=None, repr=False, compare=False)
    prepare: Callable[[duckdb.DuckDBPyConnection], None] | None = field(default=None, repr=False, compare=False)


@dataclass(frozen=True)
class SliceReport:
    """What a month of a table holds after it was replaced: its row count and content hash (hex)."""

    table: Table
    months: MonthRange
    rows: int
    content_hash: str
