"""Slices and queries: SQL fragments that travel between assets instead of rows."""

from __future__ import annotations

from dataclasses import dataclass

from health_pipeline.months import MonthRange
from health_pipeline.warehouse.tables import Table


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
    """

    sql: str
    allow_empty: bool = True


@dataclass(frozen=True)
class SliceReport:
    """What a month of a table holds after it was replaced: its row count and content hash (hex)."""

    table: Table
    months: MonthRange
    rows: int
    content_hash: str
