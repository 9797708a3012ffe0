"""What a model reached on its holdout, as the gates saw it: the level later months are measured against."""

from __future__ import annotations

import json
import math
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np

from health_pipeline.modeling.metrics import Estimate
from health_pipeline.warehouse.slices import Slice

if TYPE_CHECKING:
    import pandas as pd
    from duckdb import DuckDBPyConnection


def holdout_metrics(connection: DuckDBPyConnection, champion: Slice) -> dict[str, dict[str, Estimate]]:
    """Metrics by model id and name: those of its training, and over them those of the decision that accepted it.

    Args:
        connection: to the warehouse; candidates are read from the ``models.<family>`` tables, as far as they exist.
        champion: ``models.champion`` from the first decision on, since a champion can serve for years.
    """
    families = connection.execute(
        "SELECT DISTINCT table_schema, table_name FROM information_schema.columns "
        "WHERE table_schema = 'models' AND table_name <> 'champion' AND column_name = 'metrics' ORDER BY ALL"
    ).fetchall()
    rows: list[tuple[str, str]] = []
    for schema, name in families:
        rows += connection.execute(
            f'SELECT model_id, metrics FROM {schema}."{name}" '
            "WHERE model_id IS NOT NULL AND metrics IS NOT NULL ORDER BY month"
        ).fetchall()
    rows += connection.execute(
        f"SELECT model_id, metrics FROM {champion} WHERE model_id IS NOT NULL AND metrics IS NOT NULL "
        "AND decision <> 'SKIP' ORDER BY month"
    ).fetchall()
    known: dict[str, dict[str, Estimate]] = {}
    for model_id, metrics in rows:
        known.setdefault(model_id, {}).update(_read(metrics))
    return known


def level_of(known: Mapping[str, Mapping[str, Estimate]], models: pd.Categorical) -> dict[str, Estimate]:
    """What was promised for rows that several models have scored: the mean of their holdouts, weighted by rows.

    Args:
        known: of :func:`holdout_metrics`.
        models: model of each row, at least one.

    Returns:
        Measures by name, each over the models that have it. Intervals are averaged as well: holdouts of models that
        follow one another share most of their months, so their errors do not cancel out.
    """
    rows_of = dict(zip(models.categories, np.bincount(models.codes, minlength=len(models.categories)), strict=True))
    parts: dict[str, list[tuple[int, Estimate]]] = {}
    for model_id, rows in sorted((name, int(rows)) for name, rows in rows_of.items() if rows):
        for name, estimate in known.get(model_id, {}).items():
            if math.isfinite(estimate.value):
                parts.setdefault(name, []).append((rows, estimate))
    return {name: _mean(found) for name, found in parts.items()}


def _mean(parts: Sequence[tuple[int, Estimate]]) -> Estimate:
    if len(parts) == 1:  # to the last bit
        return parts[0][1]
    weights = [rows for rows, _ in parts]
    value, low, high = (
        float(np.average([getattr(estimate, name) for _, estimate in parts], weights=weights))
        for name in ("value", "ci_low", "ci_high")
    )
    return Estimate(value, low, high, min(estimate.n for _, estimate in parts))


def _read(metrics: str) -> dict[str, Estimate]:
    return {
        name: Estimate(
            _number(found, "value"), _number(found, "ci_low"), _number(found, "ci_high"), int(found.get("n") or 0)
        )
        for name, found in json.loads(metrics).items()
        if isinstance(found, dict)
    }


def _number(found: dict[str, Any], name: str) -> float:
    value = found.get(name)
    return math.nan if value is None else float(value)
