"""One month against a reference: the rows of ``monitoring.drift`` that come from binned counts.

A number alarms when it is both beyond chance and large enough to matter: significance alone flags trifles in large
hospitals, size alone flags noise in small ones.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from health_pipeline.monitoring import statistics
from health_pipeline.monitoring.distributions import Bins, Tally
from health_pipeline.monitoring.statistics import Counts
from health_pipeline.settings import MonitoringSettings

Row = dict[str, Any]
PSI_SHARE = 0.10
RARE_CATEGORY = 0.01
NORMAL_QUANTILE_99 = 2.5758


@dataclass(frozen=True)
class Reference:
    """What a month is compared with.

    Attributes:
        name: as in the column ``reference``.
        months: tallies of its months.
        typical: months from which the spread between months is learned, where the reference has too few of its own.
    """

    name: str
    months: Sequence[Mapping[str, Tally]]
    typical: Sequence[Mapping[str, Tally]] = ()

    def tallies(self, name: str) -> list[Tally]:
        """Months of one subject."""
        return [month[name] for month in self.months]

    def spread(self, name: str) -> Counts:
        """Rows per month and bin from which the spread is learned, the last column for missing values."""
        return np.array([[*month[name].bins, month[name].missing] for month in self.typical or self.months])


def status_of(value: float, warning: float, alarm: float | None) -> str:
    """``ok`` up to the warning limit, ``alarm`` beyond the alarm limit; ``no_data`` when the value is unknown."""
    if not math.isfinite(value):
        return "no_data"
    if alarm is not None and value > alarm:
        return "alarm"
    return "warning" if value > warning else "ok"


def compare(
    kind: str,
    current: Mapping[str, Tally],
    reference: Reference,
    bins: Mapping[str, Bins],
    settings: MonitoringSettings,
) -> list[Row]:
    """Distribution, null rate and unseen categories of each subject, p-values adjusted over all of them."""
    rows: list[Row] = []
    tests: list[Row] = []
    for name, item in bins.items():
        test, others = _compare_one(
            current[name], reference.tallies(name), reference.spread(name), item, settings, len(bins)
        )
        for row in (*others, test):
            rows.append({"subject_kind": kind, "subject": name, "reference": reference.name, **row})
        tests.append(rows[-1])
    adjusted = statistics.benjamini_hochberg(np.array([row["p_value"] for row in tests], dtype=float))
    for row, p_adjusted in zip(tests, adjusted, strict=True):
        row["p_adjusted"] = None if math.isnan(p_adjusted) else float(p_adjusted)
        row["status"] = (
            "no_data" if math.isnan(p_adjusted) else "warning" if p_adjusted <= settings.drift_alpha else "ok"
        )
    return rows


def _compare_one(
    now: Tally, months: Sequence[Tally], typical: Counts, item: Bins, settings: MonitoringSettings, subjects: int
) -> tuple[Row, list[Row]]:
    known, missing = (typical[:, :-1], typical[:, -1]) if months else (np.zeros((0, now.bins.size)), np.zeros(0))
    missing_or_not = np.column_stack([missing, known.sum(axis=1)])
    before = np.array([month.bins for month in months]) if months else np.zeros((0, now.bins.size))
    before_missing = np.array([month.missing for month in months], dtype=float)
    common: Row = {"n": now.rows, "reference_n": int(before.sum() + before_missing.sum())}
    return (
        {**common, **_distribution_test(now, before, known, item, settings)},
        [
            {**common, **_psi(now, before, known, item, settings, subjects)},
            {**common, **_null_rate_change(now, before, before_missing, missing_or_not, settings, subjects)},
            *({**common, **row} for row in _unseen(now, before, item, settings, subjects)),
        ],
    )


def _distribution_test(now: Tally, before: Counts, typical: Counts, item: Bins, settings: MonitoringSettings) -> Row:
    pooled = before.sum(axis=0)
    n, m = now.bins.sum() + now.unseen, pooled.sum()
    if item.column.kind == "numeric":
        inflation = statistics.cumulative_inflation(typical)
        value, p_value = statistics.ks(now.bins, pooled, inflation)
        critical = statistics.ks_critical(n, m, settings.drift_alpha, inflation)
        row: Row = {"metric": "ks", "value": _known(value), "threshold": _known(critical)}
    elif n == 0 or m == 0:
        p_value = math.nan
        row = {"metric": "chi_squared", "value": None, "threshold": None}
    else:
        spread = statistics.spread_of(statistics.regroup(typical, *_groups(pooled, item)))
        value, p_value, free = statistics.chi_squared(np.append(now.bins, now.unseen), np.append(pooled, 0.0), spread)
        row = {
            "metric": "chi_squared",
            "value": value,
            "threshold": spread.quantile(free, settings.drift_alpha) if free else 0.0,
        }
    return {**row, "chance_level": row["threshold"], "p_value": _known(p_value)}


def _psi(now: Tally, before: Counts, typical: Counts, item: Bins, settings: MonitoringSettings, subjects: int) -> Row:
    pooled = before.sum(axis=0)
    groups, size = _groups(pooled, item)
    coarse_now = statistics.regroup(now.bins, groups, size)
    if item.column.kind == "categorical":
        coarse_now[-1] += now.unseen
    coarse = statistics.regroup(before, groups, size)
    n, m = coarse_now.sum(), pooled.sum()
    if n == 0 or m == 0:
        return {"metric": "psi", "value": None, "status": "no_data"}
    value = statistics.psi(coarse_now, coarse.sum(axis=0))
    spread = statistics.spread_of(statistics.regroup(typical, groups, size))
    bins = max(2, int(((coarse.sum(axis=0) + coarse_now) > 0).sum()))
    single = statistics.psi_chance_level(n, m, bins, 0.01, spread)
    family = statistics.psi_chance_level(n, m, bins, settings.drift_alpha / subjects, spread)
    warning, alarm = max(family, settings.psi_warning), max(family, settings.psi_alarm)
    return {
        "metric": "psi",
        "value": value,
        "threshold": warning,
        "alarm_threshold": alarm,
        "chance_level": single,
        "status": status_of(value, warning, alarm),
    }


def _null_rate_change(
    now: Tally,
    before: Counts,
    before_missing: Counts,
    missing_or_not: Counts,
    settings: MonitoringSettings,
    subjects: int,
) -> Row:
    totals = before.sum(axis=1) + before_missing
    if now.rows == 0 or totals.sum() == 0:
        return {"metric": "null_rate_change", "value": None, "status": "no_data"}
    rate = float(before_missing.sum() / totals.sum())
    pooled = (before_missing.sum() + now.missing + 1) / (totals.sum() + now.rows + 2)
    spread = statistics.spread_of(missing_or_not)
    error = math.sqrt(pooled * (1 - pooled) * (1 / now.rows + 1 / totals.sum()))
    chance, family = (error * math.sqrt(spread.quantile(1, alpha)) for alpha in (0.01, settings.drift_alpha / subjects))
    warning, alarm = max(family, settings.null_rate_warning), max(family, settings.null_rate_alarm)
    value = now.missing / now.rows - rate
    return {
        "metric": "null_rate_change",
        "value": value,
        "threshold": warning,
        "alarm_threshold": alarm,
        "chance_level": chance,
        "reference_value": rate,
        "status": status_of(abs(value), warning, alarm),
    }


def _unseen(now: Tally, before: Counts, item: Bins, settings: MonitoringSettings, subjects: int) -> list[Row]:
    return [_unseen_share(now, before, settings, subjects)] if item.column.kind == "categorical" else []


def _unseen_share(now: Tally, before: Counts, settings: MonitoringSettings, subjects: int) -> Row:
    n, pooled = now.bins.sum() + now.unseen, before.sum(axis=0)
    if n == 0 or pooled.sum() == 0:
        return {"metric": "unseen_share", "value": None, "status": "no_data"}
    # Good-Turing: categories met once in the reference tell how much of the world it has not met.
    expected = (float((pooled == 1).sum()) + 1) / (float(pooled.sum()) + 1)
    error = math.sqrt(expected * (1 - expected) / n)
    chance = expected + NORMAL_QUANTILE_99 * error + 1 / n
    family = expected + _family_quantile(settings, subjects) * error + 1 / n
    warning, alarm = max(family, settings.unseen_warning), max(family, settings.unseen_alarm)
    value = float(now.unseen / n)
    return {
        "metric": "unseen_share",
        "value": value,
        "threshold": warning,
        "alarm_threshold": alarm,
        "chance_level": chance,
        "reference_value": 0.0,
        "status": status_of(value, warning, alarm),
    }


def _family_quantile(settings: MonitoringSettings, subjects: int) -> float:
    """Two-sided normal quantile, Bonferroni over the subjects."""
    from scipy.special import ndtri

    return float(ndtri(1 - settings.drift_alpha / (2 * subjects)))


def _groups(pooled: Counts, item: Bins) -> tuple[NDArray[np.int64], int]:
    """Coarse bin of each bin, and their number.

    Tenths of a numeric reference; categories above one percent and, last, one bin for all others.
    """
    if item.column.kind == "numeric":
        groups = statistics.merge_bins(pooled, PSI_SHARE)
        return groups, int(groups.max()) + 1
    common = pooled >= RARE_CATEGORY * max(float(pooled.sum()), 1.0)
    others = int(common.sum())
    groups = np.full(pooled.size, others, dtype=np.int64)
    groups[common] = np.arange(others)
    return groups, others + 1


def _known(value: float) -> float | None:
    return float(value) if math.isfinite(value) else None
