"""Performance of one role in one month: expected without labels, realised over windows, and the two compared."""

from __future__ import annotations

import math
from collections.abc import Collection, Iterator, Mapping, Sequence
from dataclasses import replace
from itertools import groupby
from typing import TYPE_CHECKING

from health_pipeline.modeling.metrics import METRICS, Estimate, measure, measure_with_intervals
from health_pipeline.monitoring import baselines
from health_pipeline.monitoring.comparison import Row
from health_pipeline.monitoring.estimation import ESTIMABLE, expected_performance, recalibration
from health_pipeline.monitoring.limits import judge
from health_pipeline.monitoring.patient_sample import narrowed, patient_sample
from health_pipeline.monitoring.scored import Scored
from health_pipeline.monitoring.statuses import JUDGED_METRICS
from health_pipeline.monitoring.windows import realised_windows
from health_pipeline.months import Month, MonthRange, shift
from health_pipeline.privacy import hidden_groups

if TYPE_CHECKING:
    from health_pipeline.settings import Settings

SEGMENT_METRICS = ("roc_auc", "observed_expected", "brier", "recall")


def estimated_rows(rows: Scored, month: Month, baseline: Mapping[str, Estimate], settings: Settings) -> Iterator[Row]:
    """What the month is expected to bring, for all patients and each group.

    Args:
        rows: of one role, ``calibration_months`` back.
        month: month the role scored.
        baseline: what its model reached on the holdout.
        settings: limits, replicates, smallest number shown.
    """
    # At the end of M the outcomes up to M-1 are known: the same rows, whenever M is computed again.
    past = MonthRange(shift(month, -settings.monitoring.calibration_months), shift(month, -1))
    calibration = recalibration(rows.during(past).matured)
    small = settings.privacy.small_number
    now = _ranked(rows.during(MonthRange(month, month))).with_shown_words(small)
    sizes = {name: count for name, (count, _) in now.group_sizes().items()}
    hidden = _hidden(sizes, {name for name, count in sizes.items() if count < small}, small)
    shown = len(sizes.keys() - hidden - {"all"})
    common = {"kind": "estimated", "window_months": 1}
    for segment, group in now.groups():
        if segment in hidden:
            yield from ({**common, **_suppressed(segment, metric)} for metric in SEGMENT_METRICS)
            continue
        found = expected_performance(
            group,
            calibration,
            settings.monitoring.bootstrap_replicates,
            settings.training.seed,
            ESTIMABLE if segment == "all" else SEGMENT_METRICS,
        )
        for metric, estimate in found.items():
            yield {**common, **_judged(segment, metric, estimate, baseline, shown)}


def realised_rows(
    rows: Scored, month: Month, window: int, known: Mapping[str, Mapping[str, Estimate]], settings: Settings
) -> Iterator[Row]:
    """What the month and those before it brought; groups in the windows that checks and figures look at.

    Args:
        rows: of one role, ``window`` months back.
        month: month with known outcomes.
        window: months that are pooled; one without outcomes leaves the window without numbers.
        known: what the models reached on their holdouts, by model id.
        settings: limits, replicates, smallest number shown.
    """
    covered = MonthRange(shift(month, 1 - window), month)
    if not set(covered) <= rows.matured_months:
        yield no_data("realised", window, settings.promotion.primary_metric)
        return
    pooled = _ranked(rows.during(covered).matured)
    baseline = baselines.level_of(known, pooled.model_id)
    if window not in {settings.monitoring.performance_window, realised_windows(settings)[-1]}:
        pooled = replace(pooled, segments={})
    small = settings.privacy.small_number
    pooled = pooled.with_shown_words(small)
    sizes = pooled.group_sizes()
    # Everybody is a group that few outcomes do not hide: a month without any has to be seen.
    rare = {
        name
        for name, (count, events) in sizes.items()
        if (count if name == "all" else min(events, count - events)) < small
    }
    hidden = _hidden({name: count for name, (count, _) in sizes.items()}, rare, small)
    shown = len(sizes.keys() - hidden - {"all"})
    common = {"kind": "realised", "window_months": window}
    for segment, group in pooled.groups():
        wanted = METRICS if segment == "all" else SEGMENT_METRICS
        if segment in hidden:
            yield from ({**common, **_suppressed(segment, metric)} for metric in wanted)
            continue
        for metric, estimate in _measured(group, wanted, settings).items():
            yield {**common, **_judged(segment, metric, estimate, baseline, shown)}


def reconciliation_rows(rows: Sequence[Row]) -> Iterator[Row]:
    """Estimated minus realised, for each measure of all patients that the rows of a month hold both of."""
    of_all = [row for row in rows if row["segment"] == "all" and row["window_months"] == 1]
    realised = {row["metric"]: row for row in of_all if row["kind"] == "realised"}
    for row in of_all:
        if row["kind"] == "estimated" and row["metric"] in realised:
            yield {**row, "kind": "reconciliation", **_reconciled(row, realised[row["metric"]])}


def no_data(kind: str, window: int, metric: str) -> Row:
    """A row that says why there is no number: nothing to compute it from."""
    return {
        "kind": kind,
        "window_months": window,
        "segment": "all",
        "metric": metric,
        "value": None,
        "n": 0,
        "status": "no_data",
    }


def _ranked(rows: Scored) -> Scored:
    return replace(rows, strata={}).by_descending_probability()


def _hidden(counts: Mapping[str, int], small: Collection[str], limit: int) -> set[str]:
    """Groups without numbers, told for each characteristic by itself; ``all`` is one of its own."""
    hidden: set[str] = set()
    for _, names in groupby(counts, key=lambda name: name.partition("=")[0]):
        of_one = {name: counts[name] for name in names}
        hidden |= hidden_groups(of_one, of_one.keys() & small, limit)
    return hidden


def _measured(rows: Scored, wanted: Sequence[str], settings: Settings) -> dict[str, Estimate]:
    events = int(rows.outcome.sum())
    sample = patient_sample(rows.patient, rarer=min(events, len(rows) - events))
    drawn = rows if sample is None else rows.where(sample)
    found = measure_with_intervals(
        drawn.outcome,
        drawn.probability,
        threshold=drawn.threshold,
        clusters=drawn.patient,
        metrics=wanted,
        replicates=settings.monitoring.bootstrap_replicates,
        seed=settings.training.seed,
    )
    if sample is None:
        return found
    whole = measure(rows.outcome, rows.probability, rows.threshold, wanted)
    return {name: narrowed(whole[name], found[name], len(rows)) for name in wanted}


def _judged(segment: str, metric: str, estimate: Estimate, baseline: Mapping[str, Estimate], groups: int) -> Row:
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
    """The interval is that of the outcome the estimate predicted."""
    values = realised["value"], estimated["value"]
    if not all(value is not None and math.isfinite(value) for value in values):  # None: suppressed
        return {"value": None, "ci_low": None, "ci_high": None, "threshold": None, "status": "no_data"}
    low, high = estimated["ci_low"] - realised["value"], estimated["ci_high"] - realised["value"]
    return {
        "value": estimated["value"] - realised["value"],
        "ci_low": low,
        "ci_high": high,
        "n": realised["n"],
        "threshold": None,
        "status": "ok" if low <= 0 <= high else "warning",
    }


def _suppressed(segment: str, metric: str) -> Row:
    return {"segment": segment, "metric": metric, "value": None, "n": None, "status": "no_data"}
