"""What a feature is: its name, type, meaning and the SQL that makes it, said in one place."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

Kind = Literal["numeric", "boolean", "categorical"]

SQL_TYPES: dict[Kind, str] = {"numeric": "DOUBLE", "boolean": "BOOLEAN", "categorical": "VARCHAR"}


@dataclass(frozen=True)
class Feature:
    """One column of ``gold.features``.

    Attributes:
        name: snake case, with its unit where it has one.
        kind: how a model treats it.
        sql: expression over the parts of ``build.features_query`` (``s``: the stay).
        meaning: one sentence.
        group: room of the catalogue; ``demographics`` can be kept from models by a setting.
        source: silver table it is made from.
        window: stretch of time that is looked at.
        as_of: column that decides what could be known at the discharge.
        unit: where it has one.
    """

    name: str
    kind: Kind
    sql: str
    meaning: str
    group: str
    source: str
    window: str
    as_of: str = "recorded_at"
    unit: str | None = None

    @property
    def sql_type(self) -> str:
        """DuckDB type of the column."""
        return SQL_TYPES[self.kind]
