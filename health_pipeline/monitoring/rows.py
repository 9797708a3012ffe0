"""Rows of Python into Arrow, in the columns, types and order of a declared table."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    import pyarrow as pa

    from health_pipeline.warehouse.tables import Table


def to_table(table: Table, rows: Sequence[dict[str, Any]]) -> pa.Table:
    """Sorted by month and key; NaN becomes NULL, columns a row lacks become NULL.

    Raises:
        KeyError: a row has a column that the table does not declare.
    """
    import pyarrow as pa

    types = {
        "DATE": pa.date32(),
        "VARCHAR": pa.string(),
        "DOUBLE": pa.float64(),
        "BIGINT": pa.int64(),
        "INTEGER": pa.int32(),
        "BOOLEAN": pa.bool_(),
    }
    known = set(table.column_names)
    for row in rows:
        if unknown := set(row) - known:
            raise KeyError(f"{table.qualified} has no columns {sorted(unknown)}")
    ordered = sorted(rows, key=lambda row: (row[table.partition], *(row[name] for name in table.key)))
    return pa.table(
        {
            column.name: pa.array([_clean(row.get(column.name)) for row in ordered], type=types[column.type])
            for column in table.columns
        }
    )


def _clean(value: Any) -> Any:
    return None if isinstance(value, float) and not math.isfinite(value) else value
