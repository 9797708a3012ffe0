"""Declaration of warehouse tables: the one place where a table's columns, types, key and meaning are said."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property


@dataclass(frozen=True)
class Column:
    """One column: its name, DuckDB type, meaning and, where it has one, its unit."""

    name: str
    type: str
    description: str = ""
    nullable: bool = True
    unit: str | None = None


@dataclass(frozen=True)
class Table:
    """A monthly-partitioned table; ``schema``/``name`` are also its asset key.

    Attributes:
        key: columns that identify a row within a month; the warehouse refuses duplicates.
        partition: DATE column holding the first day of the row's month.
    """

    schema: str
    name: str
    columns: tuple[Column, ...]
    key: tuple[str, ...]
    description: str = ""
    partition: str = "month"

    def __post_init__(self) -> None:
        names = [column.name for column in self.columns]
        missing = {self.partition, *self.key} - set(names)
        if missing or len(set(names)) != len(names):
            raise ValueError(f"{self.schema}.{self.name}: duplicate or undeclared columns {sorted(missing)}")

    @property
    def qualified(self) -> str:
        """``schema.name``."""
        return f"{self.schema}.{self.name}"

    @cached_property
    def column_names(self) -> tuple[str, ...]:
        """Names in declared order."""
        return tuple(column.name for column in self.columns)
