"""Rows of ``monitoring.performance``: estimated at once, realised when labels have matured, and reconciled."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from functools import partial
from typing import TYPE_CHECKING

import structlog

from health_pipeline.monitoring import baselines
from health_pipeline.monitoring.comparison import Row
from health_pipeline.monitoring.concept_rows import concept_rows
from health_pipeline.monitoring.deployed import ROLE, deployed_predictions
from health_pipeline.monitoring.performance_rows import estimated_rows, no_data, realised_rows, reconciliation_rows
from health_pipeline.monitoring.rows import to_table
from health_pipeline.monitoring.scored import Scored, roles, same_scores, scored_rows
from health_pipeline.monitoring.tables import PERFORMANCE
from health_pipeline.monitoring.windows import performance_reads, realised_windows
from health_pipeline.months import Month, MonthRange
from health_pipeline.settings import Settings
from health_pipeline.warehouse.slices import Slice

if TYPE_CHECKING:
    import pyarrow as pa

    from health_pipeline.modeling.metrics import Estimate
    from health_pipeline.warehouse import Warehouse

_log = structlog.get_logger(__name__)


def performance_months(
    warehouse: Warehouse, predictions: Slice, labels: Slice, champion: Slice, months: MonthRange, settings: Settings
) -> pa.Table:
    """How well each role predicts in each month.

    Args:
        warehouse: open for reading.
        predictions: ``gold.predictions``; ``performance_reads`` months back are read whatever the width.
        labels: ``gold.labels``, as far as they have matured.
        champion: ``models.champion``, for what the gates accepted on the holdout; read from the first decision on.
        months: months to produce.
        settings: windows, replicates, limits.

    Returns:
        Rows of ``PERFORMANCE``. Segments use ``gold.features`` of the same months. A month without predictions gets one
        row with status ``no_data``.
    """
    from health_pipeline.features import FEATURE_TABLE

    span = months.widen(before=performance_reads(settings))
    features, predictions, labels = Slice(FEATURE_TABLE, span), predictions.only(span), labels.only(span)
    served = deployed_predictions(warehouse, features, predictions, span, settings)
    with warehouse.read(f"performance {months}") as connection:
        decisions = champion.only(MonthRange(min(settings.start_month, span.first), months.last))
        known = baselines.holdout_metrics(connection, decisions)
        names, scores = roles(connection, predictions.only(months)), str(predictions)
        if served is not None:
            connection.register("served", served)
            scores = f"(FROM {predictions} UNION ALL BY NAME SELECT *, '{ROLE}' AS model_role FROM served)"
            names.append(ROLE)
        scored = scored_rows(connection, scores, labels, features, span, names)
    same = ROLE in scored and "champion" in scored and same_scores(scored[ROLE], scored["champion"])
    computed = {role: rows for role, rows in scored.items() if not (role == ROLE and same)}
    found = _rows_by_role(computed, months, known, settings)
    if same:  # the rule: nothing to compute
        found[ROLE] = {
            month: [{**row, "model_role": ROLE} for row in rows] for month, rows in found["champion"].items()
        }
    ordered: list[Row] = []
    for month in months:
        of_month = [row for role in scored for row in found[role].get(month, ())]
        if not of_month:
            _log.warning("performance.no_data", month=str(month), reason="no predictions")
            nobody: Row = {"month": month, "model_id": None, "model_role": "champion"}
            of_month = [{**nobody, **no_data("estimated", 1, settings.promotion.primary_metric)}]
        ordered += of_month
    return to_table(PERFORMANCE, ordered)


def _rows_by_role(
    scored: Mapping[str, Scored],
    months: MonthRange,
    known: Mapping[str, Mapping[str, Estimate]],
    settings: Settings,
) -> dict[str, dict[Month, list[Row]]]:
    """Rows of each month that a role scored; the parts of all months and roles share the cores."""
    from health_pipeline.modeling.parallel import in_order, one_blas_thread, plan_threads

    parts = [
        (role, month, part)
        for role, rows in scored.items()
        for month in months
        if month in rows.scored_months
        for part in _parts(rows, month, known, settings)
    ]
    plan = plan_threads(len(parts), settings.training.threads)
    found: dict[str, dict[Month, list[Row]]] = {role: {} for role in scored}
    with one_blas_thread():
        for (role, month, _), done in zip(parts, in_order(lambda part: list(part[2]()), parts, plan), strict=True):
            found[role].setdefault(month, []).extend(done)
    for role, by_month in found.items():
        for month, rows in by_month.items():
            common: Row = {"month": month, "model_id": _model_of(scored[role], month), "model_role": role}
            by_month[month] = [{**common, **row} for row in (*rows, *reconciliation_rows(rows))]
    return found


def _parts(
    rows: Scored, month: Month, known: Mapping[str, Mapping[str, Estimate]], settings: Settings
) -> Iterator[Callable[[], Iterator[Row]]]:
    """Pieces of work of a month, the longest first: the cores end at about the same time."""
    if month in rows.matured_months:
        for window in reversed(realised_windows(settings)):
            yield partial(realised_rows, rows, month, window, known, settings)
    yield partial(estimated_rows, rows, month, known.get(_model_of(rows, month), {}), settings)
    if month in rows.matured_months:
        yield partial(concept_rows, rows, month, settings)


def _model_of(rows: Scored, month: Month) -> str:
    return str(rows.during(MonthRange(month, month)).model_id[0])
