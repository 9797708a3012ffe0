"""Checks that report what a model was not trained on: missing values and categories out of the ordinary. They warn."""

from __future__ import annotations

from health_pipeline.features.catalogue import FEATURE_TABLE, FEATURES
from health_pipeline.months import Month, MonthRange, shift
from health_pipeline.settings import Settings
from health_pipeline.verdicts import Verdict
from health_pipeline.warehouse.slices import Slice
from health_pipeline.warehouse.store import Warehouse

NULL_MONTHS = 6
MAX_NULL_RISE = 0.25
UNSEEN_MONTHS = 12
MAX_UNSEEN_SHARE = 0.05
MIN_SEEN_MONTHS = 2
# Values that the calendar brings.
_EXPECTED = ("discharge_season",)
_SHOWN = 10


def null_rates_usual(warehouse: Warehouse, months: MonthRange, settings: Settings) -> list[Verdict]:
    """Share of missing values of each feature against the six months before."""
    warehouse.ensure(FEATURE_TABLE)
    known = ", ".join(f'count("{item.name}")' for item in FEATURES)
    sql = f"""
        SELECT month, count(*), {known}
        FROM {Slice(FEATURE_TABLE, months.widen(before=NULL_MONTHS))} GROUP BY month"""
    with warehouse.read(f"null rates {months}") as connection:
        counts = {row[0]: row[1:] for row in connection.execute(sql).fetchall()}
    return [_null_verdict(month, counts, settings) for month in months]


def _null_verdict(month: Month, counts: dict[Month, tuple[int, ...]], settings: Settings) -> Verdict:
    now = counts.get(month)
    earlier = [counts[back] for back in (shift(month, -n) for n in range(1, NULL_MONTHS + 1)) if back in counts]
    if now is None or now[0] < settings.privacy.small_number or not earlier:
        return Verdict(month, passed=True, summary="nothing to compare", severity="WARN")
    before = [sum(column) for column in zip(*earlier, strict=True)]
    rises = {
        item.name: known_before / before[0] - known_now / now[0]
        for item, known_now, known_before in zip(FEATURES, now[1:], before[1:], strict=True)
    }
    alarming = sorted((name for name, rise in rises.items() if rise > MAX_NULL_RISE), key=lambda name: -rises[name])
    empty = sum(known == 0 for known in now[1:])
    summary = f"{empty} of {len(FEATURES)} features without any value"
    if alarming:
        said = ", ".join(f"{name} (+{rises[name]:.0%})" for name in alarming[:_SHOWN])
        summary += f"; {len(alarming)} lack values as never in the {len(earlier)} months before: {said}"
    return Verdict(
        month,
        passed=not alarming,
        summary=summary,
        severity="WARN",
        numbers={"empty_features": empty, "features_with_more_nulls": len(alarming)},
    )


def unseen_categories(warehouse: Warehouse, months: MonthRange, settings: Settings) -> list[Verdict]:
    """Share of rows of each categorical feature whose value no month of the year before had."""
    warehouse.ensure(FEATURE_TABLE)
    names = [item.name for item in FEATURES if item.kind == "categorical" and item.name not in _EXPECTED]
    columns = ", ".join(f'"{name}"' for name in names)
    sql = f"""
        WITH seen AS (
            SELECT month, feature, value, count(*) AS rows
            FROM (
                UNPIVOT (SELECT month, {columns} FROM {Slice(FEATURE_TABLE, months.widen(before=UNSEEN_MONTHS))})
                ON {columns} INTO NAME feature VALUE value
            )
            GROUP BY ALL
        ), aged AS (
            SELECT *, lag(month) OVER (PARTITION BY feature, value ORDER BY month) AS before,
                min(month) OVER (PARTITION BY feature) AS first
            FROM seen
        )
        SELECT month, feature, sum(rows)::BIGINT AS rows, count(*) AS values,
            coalesce(sum(rows) FILTER (before IS NULL OR before < month - INTERVAL {UNSEEN_MONTHS} MONTH), 0)::BIGINT
                AS unseen
        FROM aged WHERE month >= first + INTERVAL {MIN_SEEN_MONTHS} MONTH AND month >= DATE '{months.first}'
        GROUP BY month, feature"""
    found = warehouse.fetch(sql, f"unseen categories {months}").to_pylist()
    verdicts = []
    for month in months:
        shares = {
            row["feature"]: row["unseen"] / row["rows"]
            for row in found
            if row["month"] == month and row["rows"] >= settings.privacy.small_number
        }
        alarming = sorted((name for name in shares if shares[name] > MAX_UNSEEN_SHARE), key=lambda name: -shares[name])
        with_unseen = sum(share > 0 for share in shares.values())
        summary = f"{with_unseen} of {len(names)} categorical features have values unseen in the year before"
        if alarming:
            summary += "; many: " + ", ".join(f"{name} ({shares[name]:.0%})" for name in alarming[:_SHOWN])
        verdicts.append(
            Verdict(
                month,
                passed=not alarming,
                summary=summary if shares else "nothing to compare",
                severity="WARN",
                numbers={"features_with_unseen": with_unseen, "largest_share": max(shares.values(), default=None)},
            )
        )
    return verdicts
