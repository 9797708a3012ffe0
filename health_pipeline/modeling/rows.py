"""Arrow rows of a declared table from plain dictionaries."""

from __future__ import annotations

import json
import math
from collections.abc import Iterable, Mapping
from typing import Any

import pyarrow as pa

from health_pipeline.modeling.metrics import Estimate
from health_pipeline.warehouse.tables import Table

_TYPES = {
    "DATE": pa.date32(),
    "VARCHAR": pa.string(),
    "DOUBLE": pa.float64(),
    "BIGINT": pa.int64(),
    "BOOLEAN": pa.bool_(),
    "TIMESTAMP": pa.timestamp("us"),
}


def arrow_schema(table: Table) -> pa.Schema:
    """Arrow schema of a declared table."""
    return pa.schema([pa.field(column.name, _TYPES[column.type]) for column in table.columns])


def arrow_rows(table: Table, rows: Iterable[Mapping[str, Any]]) -> pa.Table:
    """Rows with every declared column; what a row does not name is NULL."""
    names = table.column_names
    return pa.Table.from_pylist([{name: row.get(name) for name in names} for row in rows], schema=arrow_schema(table))


def to_json(value: Any) -> str:
    """Compact JSON with sorted keys."""
    return json.dumps(value, sort_keys=True, allow_nan=False)


def metrics_json(estimates: Mapping[str, Estimate]) -> str:
    """Estimates as JSON; an undefined number is null."""
    return to_json(
        {
            name: {
                "value": _finite(estimate.value),
                "ci_low": _finite(estimate.ci_low),
                "ci_high": _finite(estimate.ci_high),
                "n": estimate.n,
            }
            for name, estimate in estimates.items()
        }
    )


def _finite(value: float) -> float | None:
    return value if math.isfinite(value) else None
