"""Candidates of a month and the one that becomes the challenger."""

from __future__ import annotations

import datetime as dt
import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from health_pipeline.promotion.evidence import finite

if TYPE_CHECKING:
    import duckdb

    from health_pipeline.months import MonthRange
    from health_pipeline.warehouse.slices import Slice

SIMPLICITY = ("logistic_regression", "random_forest", "xgboost")
"""Families from simple to complex; one that is not listed counts as more complex."""

RANKING_METRICS = ("roc_auc", "average_precision", "brier")
LOWER_IS_BETTER = frozenset({"brier", "log_loss", "ece"})


@dataclass(frozen=True)
class Model:
    """A stored model: what is needed to score through its artefact.

    Attributes:
        month: month it was trained for.
        fitted_last: last month any part of it was fitted on.
        metrics: values on its holdout, as its training wrote them.
    """

    model_id: str
    family: str
    month: dt.date
    profile: str
    fitted_last: dt.date
    artefact_path: str
    artefact_hash: str
    feature_schema_hash: str
    threshold: float
    metrics: Mapping[str, float | None] = field(default_factory=dict)


def read_candidates(
    connection: duckdb.DuckDBPyConnection, candidates: Mapping[str, Slice], months: MonthRange
) -> dict[dt.date, list[Model]]:
    """Trained candidates by month; a month without any is not in the answer."""
    found: dict[dt.date, list[Model]] = {}
    for family in sorted(candidates):
        rows = connection.execute(
            f"""
            SELECT month, model_id, family, profile, greatest(training_last, validation_last) AS fitted_last,
                   artefact_path, artefact_hash, feature_schema_hash, threshold, metrics
            FROM {candidates[family].only(months)}
            WHERE status = 'trained' ORDER BY month, model_id
            """
        ).fetchall()
        for row in rows:
            found.setdefault(row[0], []).append(
                Model(
                    model_id=row[1],
                    family=row[2],
                    month=row[0],
                    profile=row[3],
                    fitted_last=row[4],
                    artefact_path=row[5],
                    artefact_hash=row[6],
                    feature_schema_hash=row[7],
                    threshold=row[8],
                    metrics=_values(row[9]),
                )
            )
    return found


def _values(text: str | None) -> dict[str, float | None]:
    metrics: dict[str, Any] = json.loads(text) if text else {}
    return {name: finite(entry.get("value")) for name, entry in metrics.items()}


def challenger_of(models: Sequence[Model], primary: str, tolerance: float) -> Model | None:
    """Best candidate on the primary metric; ties by secondary metrics, then the simpler family.

    A candidate whose primary metric is unknown is no candidate. Two are tied when they lie within ``tolerance`` of the
    best on a metric.
    """
    left = [model for model in models if model.metrics.get(primary) is not None]
    for metric in dict.fromkeys((primary, *RANKING_METRICS)):
        left = _tied_for_best(left, metric, tolerance)
    return min(left, key=_complexity, default=None)


def _tied_for_best(models: list[Model], metric: str, tolerance: float) -> list[Model]:
    sign = -1.0 if metric in LOWER_IS_BETTER else 1.0
    known = [(sign * value, model) for model in models if (value := model.metrics.get(metric)) is not None]
    if not known:
        return models
    best = max(value for value, _ in known)
    return [model for value, model in known if value >= best - tolerance]


def _complexity(model: Model) -> tuple[int, str]:
    order = {family: index for index, family in enumerate(SIMPLICITY)}
    return order.get(model.family, len(SIMPLICITY)), model.model_id
