"""Rows of ``monitoring.performance``: estimated at once, realised when labels have matured, and reconciled."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Mapping
from itertools import groupby
from typing import TYPE_CHECKING

import structlog

from health_pipeline.modeling.metrics import METRICS, Estimate, measure_with_intervals
from health_pipeline.monitoring import baselines
from health_pipeline.monitoring.comparison import Row
from health_pipeline.monitoring.concept_rows import concept_rows
from health_pipeline.monitoring.deployed import ROLE, deployed_predictions
from health_pipeline.monitoring.estimation import ESTIMABLE, LABEL_METRICS, expected_performance, recalibration
from health_pipeline.monitoring.limits import judge
from health_pipeline.monitoring.rows import to_table
from health_pipeline.monitoring.scored import Scored, roles, same_scores, scored_rows
from health_pipeline.monitoring.statuses import JUDGED_METRICS
from health_pipeline.monitoring.tables import PERFORMANCE
from health_pipeline.monitoring.windows import performance_reads
from health_pipeline.months import Month, MonthRange, shift
from health_pipeline.privacy import hidden_groups
from health_pipeline.settings import Settings
from health_pipeline.warehouse.slices import Slice

if TYPE_CHECKING:
    import pyarrow as pa

    from health_pipeline.warehouse import Warehouse

SEGMENT_METRICS = ("roc_auc", "observed_expected", "brier", "recall")
RANK_METRICS = tuple(name for name in METRICS if name not in LABEL_METRICS)
_REPLICATE_ROWS = 2_000_000
_LEAST_REPLICATES = 100
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
    from health_pipeline.modeling.parallel import in_order, one_blas_thread, plan_threads

    span = months.widen(before=performance_reads(settings))
    served = deployed_predictions(warehouse, Slice(FEATURE_TABLE, span), predictions, span, settings)
    with warehouse.read(f"performance {months}") as connection:
        decisions = champion.only(MonthRange(min(settings.start_month, span.first), months.last))
        known = baselines.holdout_metrics(connection, decisions)
        found = roles(connection, predictions.only(months))
        scored = {
            role: scored_rows(connection, predictions.only(span), labels.only(span), Slice(FEATURE_TABLE, span), role)
            for role in found
        }
        if served is not None:
            connection.register("served", served)
            scored[ROLE] = scored_rows(connection, "served", labels.only(span), Slice(FEATURE_TABLE, span), None)
    plan = plan_threads(len(months), settings.training.threads)
    with one_blas_thread():
        by_month = list(in_order(lambda month: _month_rows(month, scored, known, settings), months, plan))
    return to_table(PERFORMANCE, [row for rows in by_month for row in rows])


def _month_rows(
    month: Month, scored: Mapping[str, Scored], known: Mapping[str, Mapping[str, Estimate]], settings: Settings
) -> list[Row]:
    if not any(month in rows.scored_months for rows in scored.values()):
        _log.warning("performance.no_data", month=str(month), reason="no predictions")
        return [_no_data(month, "champion", "estimated", 1, "all", settings.promotion.primary_metric)]
    found: dict[str, list[Row]] = {}
    for role, rows in scored.items():
        if month not in rows.scored_months:
            continue
        if role == ROLE and "champion" in found and same_scores(rows, scored["champion"]):
            found[role] = [{**row, "model_role": ROLE} for row in found["champion"]]  # the rule: nothing to compute
        else:
            found[role] = list(_role_rows(role, rows, month, known, settings))
    return [row for rows_of_role in found.values() for row in rows_of_role]


def _role_rows(
    role: str, rows: Scored, month: Month, known: Mapping[str, Mapping[str, Estimate]], settings: Settings
) -> Iterator[Row]:
    now = rows.during(MonthRange(month, month))
    model_id = str(now.model_id[0])
    common: Row = {"month": month, "model_id": model_id, "model_role": role}
    estimated = list(_estimated(now, rows, month, known.get(model_id, {}), settings))
    yield from ({**common, "kind": "estimated", "window_months": 1, **row} for row in estimated)
    if month not in rows.matured_months:
        return
    realised: list[Row] = []
    for window in settings.monitoring.rolling_months:
        covered = MonthRange(shift(month, 1 - window), month)
        if not set(covered) <= rows.matured_months:
            yield {
                **common,
                **_no_data(month, role, "realised", window, "all", settings.promotion.primary_metric),
                **common,
            }
            continue
        pooled = rows.during(covered).matured
        baseline = baselines.level_of(known, pooled.model_id)
        segmented = window in {settings.monitoring.performance_window, max(settings.monitoring.rolling_months)}
        for row in _realised(pooled, baseline, settings, segmented=segmented):
            realised.append({**common, "kind": "realised", "window_months": window, **row})
    yield from realised
    single = {(row["segment"], row["metric"]): row for row in realised if row["window_months"] == 1}
    for row in estimated:
        partner = single.get((row["segment"], row["metric"]))
        if row["segment"] == "all" and partner is not None:
            yield {**common, "kind": "reconciliation", "window_months": 1, **_reconciled(row, partner)}
    yield from ({**common, **row} for row in concept_rows(rows, month, settings))


def _estimated(
    now: Scored, rows: Scored, month: Month, baseline: Mapping[str, Estimate], settings: Settings
) -> Iterator[Row]:
    # At the end of M the outcomes up to M-1 are known: the same rows, whenever M is computed again.
    past = MonthRange(shift(month, -settings.monitoring.calibration_months), shift(month, -1))
    calibration = recalibration(rows.during(past).matured)
    small = settings.privacy.small_number
    groups = dict(now.groups())
    hidden = _hidden(groups, lambda group: len(group) < small, small)
    shown = len(groups) - len(hidden | {"all"})
    for segment, group in groups.items():
        wanted = None if segment == "all" else SEGMENT_METRICS
        if segment in hidden:
            yield from (_suppressed(segment, metric) for metric in wanted or SEGMENT_METRICS)
            continue
        found = expected_performance(
            group,
            calibration,
            _replicates(group, settings),
            settings.training.seed,
            wanted or (*ESTIMABLE, *LABEL_METRICS),
        )
        yield from (_row(segment, metric, estimate, baseline, shown) for metric, estimate in found.items())


def _realised(rows: Scored, baseline: Mapping[str, Estimate], settings: Settings, *, segmented: bool) -> Iterator[Row]:
    small = settings.privacy.small_number
    groups = dict(rows.groups()) if segmented else {"all": rows}
    hidden = _hidden(groups, lambda group: _rarer(group) < small, small) - {"all"}
    shown = len(groups) - len(hidden) - 1
    for segment, group in groups.items():
        wanted = METRICS if segment == "all" else SEGMENT_METRICS
        if segment in hidden:
            yield from (_suppressed(segment, metric) for metric in wanted)
            continue
        for metric, estimate in _measured(group, wanted, settings).items():
            yield _row(segment, metric, estimate, baseline, shown)


def _rarer(rows: Scored) -> int:
    events = int(rows.outcome.sum())
    return min(events, len(rows) - events)


def _hidden(groups: Mapping[str, Scored], is_small: Callable[[Scored], bool], limit: int) -> set[str]:
    """Groups without numbers, told for each characteristic by itself; ``all`` is one of its own."""
    hidden: set[str] = set()
    for _, names in groupby(groups, key=lambda name: name.partition("=")[0]):
        counts = {name: len(groups[name]) for name in names}
        hidden |= hidden_groups(counts, {name for name in counts if is_small(groups[name])}, limit)
    return hidden


def _measured(rows: Scored, wanted: tuple[str, ...], settings: Settings) -> dict[str, Estimate]:
    """Measures of labels take the labels that were given: months of a window may have had different thresholds."""
    found: dict[str, Estimate] = {}
    for names, score in ((RANK_METRICS, rows.probability), (LABEL_METRICS, rows.label)):
        metrics = [name for name in names if name in wanted]
        if metrics:
            found |= measure_with_intervals(
                rows.outcome,
                score,
                threshold=0.5,
                clusters=rows.patient,
                metrics=metrics,
                replicates=_replicates(rows, settings),
                seed=settings.training.seed,
            )
    return found


def _replicates(rows: Scored, settings: Settings) -> int:
    most = settings.monitoring.bootstrap_replicates
    return min(most, max(_LEAST_REPLICATES, _REPLICATE_ROWS // len(rows)))


def _row(segment: str, metric: str, estimate: Estimate, baseline: Mapping[str, Estimate], groups: int) -> Row:
    # What a group's Brier score or recall should be depends on its own risk: the holdout's is that of all patients.
    comparable = segment == "all" or metric in JUDGED_METRICS
    looked_at = 1 if segment == "all" else groups
    threshold, status = judge(metric, estimate, baseline.get(metric) if comparable else None, looked_at)
    if segment != "all" and status == "alarm":
        status = "warning"  # many small groups are watched at once: one alone never alarms
    return {
        "segment": segment,
        "metric": metric,
        "value": estimate.value,
        "ci_low": estimate.ci_low,
        "ci_high": estimate.ci_high,
        "n": estimate.n,
        "threshold": threshold,
        "status": status,
    }


def _reconciled(estimated: Row, realised: Row) -> Row:
    """Estimated minus realised; the interval is that of the outcome the estimate predicted."""
    if not (math.isfinite(realised["value"]) and math.isfinite(estimated["value"])):
        return {**estimated, "value": None, "ci_low": None, "ci_high": None, "threshold": None, "status": "no_data"}
    low, high = estimated["ci_low"] - realised["value"], estimated["ci_high"] - realised["value"]
    return {
        "segment": "all",
        "metric": estimated["metric"],
        "value": estimated["value"] - realised["value"],
        "ci_low": low,
        "ci_high": high,
        "n": realised["n"],
        "threshold": None,
        "status": "ok" if low <= 0 <= high else "warning",
    }


def _suppressed(segment: str, metric: str) -> Row:
    return {"segment": segment, "metric": metric, "value": None, "n": None, "status": "no_data"}


def _no_data(month: Month, role: str, kind: str, window: int, segment: str, metric: str) -> Row:
    return {
        "month": month,
        "model_id": None,
        "model_role": role,
        "kind": kind,
        "window_months": window,
        "segment": segment,
        "metric": metric,
        "value": None,
        "n": 0,
        "status": "no_data",
    }
