"""The words in which a landing table is declared: columns, types, vocabularies and rules.

One declaration drives silver typing, quarantine, the schema and source checks, the simulator's shape and
``docs/contracts.md``. Nothing here touches data.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from functools import cached_property
from typing import Literal

ColumnType = Literal["VARCHAR", "TIMESTAMP", "DATE", "DOUBLE", "BOOLEAN"]

IDENTIFIERS = ("patient_id",)
"""Columns that identify a person; silver replaces them by a keyed hash and nothing later holds them."""


@dataclass(frozen=True)
class LandingColumn:
    """One column of a landed file.

    Attributes:
        required: the column must be in the file; a file without it fails its month.
        nullable: its value may be missing; a row without a value that is not nullable is quarantined.
        vocabulary: known words; others are kept in lower case and reported, never refused.
        aliases: spellings and codes (in lower case) that stand for a word of the vocabulary.
        expression: SQL that normalises the trimmed text (``{text}``) before typing.
    """

    name: str
    type: ColumnType
    description: str
    unit: str | None = None
    required: bool = False
    nullable: bool = True
    vocabulary: tuple[str, ...] = ()
    aliases: Mapping[str, str] = field(default_factory=dict, hash=False)
    expression: str | None = None


@dataclass(frozen=True)
class Rule:
    """A row for which ``fails`` is true is quarantined.

    Attributes:
        name: snake case, unique within the table; stored with the rejected row.
        fails: SQL condition over the typed columns of the table and ``month``; NULL counts as passed.
        reason: why such a row cannot be used; names columns, never values.
    """

    name: str
    fails: str
    reason: str


@dataclass(frozen=True)
class LandingTable:
    """Declaration of a landed table.

    Attributes:
        name: folder in the landing zone, and name of the bronze and silver tables.
        version: raised whenever a column or rule changes meaning.
        is_label_source: a month without a file is an error and not an empty slice.
        month_column: the moment whose month names the file, where the contract fixes one.
        key: what identifies a row within a month. Of rows with the same key the last one of the file counts.
        rules: conditions on whole rows, in the order in which they are reported.
    """

    name: str
    version: str
    description: str
    columns: tuple[LandingColumn, ...]
    key: tuple[str, ...]
    rules: tuple[Rule, ...] = ()
    is_label_source: bool = False
    month_column: str | None = None

    def __post_init__(self) -> None:
        rules = [rule.name for rule in self.all_rules]
        if len(set(rules)) != len(rules) or set(self.key) - set(self.column_names):
            raise ValueError(f"{self.name}: a rule is named twice or the key has undeclared columns")

    @cached_property
    def column_names(self) -> tuple[str, ...]:
        """Names in declared order."""
        return tuple(column.name for column in self.columns)

    @cached_property
    def required_columns(self) -> tuple[str, ...]:
        """Columns that every file must have."""
        return tuple(column.name for column in self.columns if column.required)

    @cached_property
    def coded_columns(self) -> tuple[LandingColumn, ...]:
        """Columns with a vocabulary."""
        return tuple(column for column in self.columns if column.vocabulary)

    @cached_property
    def all_rules(self) -> tuple[Rule, ...]:
        """Rules that follow from the columns (missing values, wrong types), then the table's own."""
        missing = (
            Rule(f"{column.name}_missing", f'"{column.name}__text" IS NULL', f"{column.name} has no value")
            for column in self.columns
            if not column.nullable
        )
        wrong_type = (
            Rule(
                f"{column.name}_not_{column.type.lower()}",
                _wrong_type(column),
                f"{column.name} cannot be read as {column.type}",
            )
            for column in self.columns
            if column.type != "VARCHAR"
        )
        return (*wrong_type, *missing, *self.rules)

    @property
    def bronze(self) -> str:
        """Qualified name of the bronze table."""
        return f"bronze.{self.name}"

    @property
    def silver(self) -> str:
        """Qualified name of the silver table."""
        return f"silver.{self.name}"


def _wrong_type(column: LandingColumn) -> str:
    unreadable = f'"{column.name}__text" IS NOT NULL AND "{column.name}" IS NULL'
    return f'({unreadable}) OR NOT isfinite("{column.name}")' if column.type == "DOUBLE" else unreadable
