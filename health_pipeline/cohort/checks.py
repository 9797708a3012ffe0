"""Checks of labels and attrition: sums hold, nothing is labelled before its time, the base rate is plausible."""

from __future__ import annotations

from collections.abc import Sequence
from math import sqrt

from health_pipeline.cohort.definition import load_definition
from health_pipeline.cohort.labels import LOOKAHEAD_MONTHS
from health_pipeline.cohort.tables import ATTRITION, LABELS
from health_pipeline.contracts.warehouse_tables import SILVER
from health_pipeline.months import Month, MonthRange, shift
from health_pipeline.settings import Settings
from health_pipeline.verdicts import Check, Verdict
from health_pipeline.warehouse.slices import Slice
from health_pipeline.warehouse.store import Warehouse

ADMISSIONS = SILVER["admissions"]

# Published 30-day readmission rates of adult inpatients lie between 5 % (elective surgery) and 30 % (heart failure,
# dialysis); beyond these bounds it is more likely that an outcome is missing or defined otherwise.
PLAUSIBLE_RATE = (0.02, 0.35)
RATE_MONTHS = 12
RATE_SIGMAS = 4.0
# An extract that ends earlier than this before its month does was probably taken before the month had closed.
QUIET_DAYS = 3


def _attrition_sums(warehouse: Warehouse, months: MonthRange, settings: Settings) -> Sequence[Verdict]:  # noqa: ARG001
    warehouse.ensure(ATTRITION, ADMISSIONS)
    sql = f"""
        SELECT coalesce(t.month, a.month) AS month, coalesce(a.discharges, 0) AS discharges, t.first, t.last,
            t.excluded, coalesce(t.broken, 0) AS broken
        FROM (
            SELECT month, min(remaining) FILTER (step = 0) AS first, arg_max(remaining, step) AS last,
                sum(excluded)::BIGINT AS excluded, count(*) FILTER (left_before - excluded <> remaining) AS broken
            FROM (
                SELECT *, lag(remaining, 1, remaining + excluded) OVER (PARTITION BY month ORDER BY step) AS left_before
                FROM {Slice(ATTRITION, months)}
            )
            GROUP BY month
        ) AS t
        FULL JOIN (SELECT month, count(*) AS discharges FROM {Slice(ADMISSIONS, months)} GROUP BY month) AS a
            ON a.month = t.month"""
    found = {row["month"]: row for row in warehouse.fetch(sql, f"attrition sums {months}").to_pylist()}
    verdicts = []
    for month in months:
        row = found.get(month)
        if row is None:
            verdicts.append(Verdict(month, passed=True, summary="no discharges"))
            continue
        holds = row["first"] == row["discharges"] == row["excluded"] + row["last"] if row["last"] is not None else False
        passed = holds and row["broken"] == 0
        summary = f"{row['discharges']:,} discharges = {row['excluded'] or 0:,} excluded + {row['last'] or 0:,} index"
        verdicts.append(
            Verdict(
                month,
                passed=passed,
                summary=summary if passed else f"the counts do not add up: {summary}; materialise attrition again",
                numbers={"discharges": row["discharges"], "excluded": row["excluded"], "index": row["last"]},
            )
        )
    return verdicts


def _labels_cover_cohort(warehouse: Warehouse, months: MonthRange, settings: Settings) -> Sequence[Verdict]:  # noqa: ARG001
    warehouse.ensure(LABELS, ATTRITION)
    labels = _by_month(warehouse, f"SELECT month, count(*) FROM {Slice(LABELS, months)} GROUP BY month")
    index = _by_month(
        warehouse, f"SELECT month, arg_max(remaining, step) FROM {Slice(ATTRITION, months)} GROUP BY month"
    )
    verdicts = []
    for month in months:
        labelled, expected = labels.get(month, 0), index.get(month, 0)
        passed = labelled in (0, expected)
        summary = f"{labelled:,} labels for {expected:,} index admissions" if labelled else "not matured: no labels"
        verdicts.append(
            Verdict(
                month,
                passed=passed,
                summary=summary if passed else f"{summary}; materialise labels and attrition of the month again",
                numbers={"labels": labelled, "index_admissions": expected},
            )
        )
    return verdicts


def _labels_matured(warehouse: Warehouse, months: MonthRange, settings: Settings) -> Sequence[Verdict]:
    warehouse.ensure(LABELS, ADMISSIONS)
    window = load_definition(settings.cohort.definition).outcome.window_days
    closed = _landed(warehouse, months)
    sql = f"""
        SELECT month, count(*) AS labels,
            count(*) FILTER (
                readmitted_at < discharged_at OR readmitted_at::DATE > discharged_at::DATE + {window}
                OR readmitted_at >= month + INTERVAL {LOOKAHEAD_MONTHS + 1} MONTH
                OR (readmitted_at IS NOT NULL AND NOT readmitted_30d)
            ) AS outside
        FROM {Slice(LABELS, months)} GROUP BY month"""
    found = {row["month"]: row for row in warehouse.fetch(sql, f"matured labels {months}").to_pylist()}
    verdicts = []
    for month in months:
        row = found.get(month, {"labels": 0, "outside": 0})
        is_open = shift(month, LOOKAHEAD_MONTHS) not in closed
        early = row["labels"] if is_open else 0
        if early:
            summary = f"{early:,} labels although {shift(month, LOOKAHEAD_MONTHS):%Y-%m} has not landed"
        elif row["outside"]:
            summary = f"{row['outside']:,} readmissions lie outside their window"
        else:
            summary = "not matured: no labels" if is_open else f"{row['labels']:,} labels, all from closed months"
        verdicts.append(
            Verdict(
                month,
                passed=not early and not row["outside"],
                summary=summary,
                numbers={"labels": row["labels"], "early": early, "outside_window": row["outside"]},
            )
        )
    return verdicts


def _next_month_complete(warehouse: Warehouse, months: MonthRange, settings: Settings) -> Sequence[Verdict]:  # noqa: ARG001
    warehouse.ensure(ADMISSIONS)
    following = MonthRange(shift(months.first, LOOKAHEAD_MONTHS), shift(months.last, LOOKAHEAD_MONTHS))
    ends = _by_month(
        warehouse,
        "SELECT month, date_diff('day', max(discharged_at)::DATE, last_day(month))"
        f" FROM {Slice(ADMISSIONS, following)} GROUP BY month",
    )
    verdicts = []
    for month in months:
        quiet = ends.get(shift(month, LOOKAHEAD_MONTHS))
        passed = quiet is None or quiet <= QUIET_DAYS
        if quiet is None:
            summary = "the next month has not landed"
        elif passed:
            summary = "the next month has landed to its end"
        else:
            summary = (
                f"the last discharge of {shift(month, LOOKAHEAD_MONTHS):%Y-%m} lies {quiet} days before its end:"
                " readmissions may be missing, land the whole month and materialise the labels again"
            )
        verdicts.append(Verdict(month, passed, summary, severity="WARN", numbers={"quiet_days": quiet}))
    return verdicts


def _label_rate_plausible(warehouse: Warehouse, months: MonthRange, settings: Settings) -> Sequence[Verdict]:
    warehouse.ensure(LABELS)
    smallest = settings.privacy.small_number
    sql = f"""
        SELECT month, count(*) AS labels, count(*) FILTER (readmitted_30d) AS readmitted
        FROM {Slice(LABELS, months.widen(before=RATE_MONTHS))} GROUP BY month"""
    found = {row["month"]: row for row in warehouse.fetch(sql, f"label rate {months}").to_pylist()}
    verdicts = []
    for month in months:
        row = found.get(month)
        if row is None or min(row["readmitted"], row["labels"] - row["readmitted"]) < smallest:
            verdicts.append(Verdict(month, True, "not matured, or too few for a rate", severity="WARN"))
            continue
        rate, count = row["readmitted"] / row["labels"], row["labels"]
        earlier = [found[back] for back in (shift(month, -n) for n in range(1, RATE_MONTHS + 1)) if back in found]
        before = sum(item["labels"] for item in earlier)
        usual = sum(item["readmitted"] for item in earlier) / before if before else rate
        tolerance = RATE_SIGMAS * sqrt(max(usual * (1 - usual), 0.01) * (1 / count + (1 / before if before else 0)))
        low, high = PLAUSIBLE_RATE
        if not low <= rate <= high:
            problem = f" outside {low:.0%} to {high:.0%}: is the outcome complete, and defined as meant?"
        elif abs(rate - usual) > tolerance:
            problem = f" against {usual:.1%} in the months before: more than chance explains"
        else:
            problem = ""
        verdicts.append(
            Verdict(
                month,
                passed=not problem,
                summary=f"{rate:.1%} of {count:,} readmitted{problem}",
                severity="WARN",
                numbers={"rate": rate, "labels": count, "usual_rate": usual if before else None},
            )
        )
    return verdicts


def _by_month(warehouse: Warehouse, sql: str) -> dict[Month, int]:
    month, value = warehouse.fetch(sql, "counts by month").columns
    return dict(zip(month.to_pylist(), value.to_pylist(), strict=True))


def _landed(warehouse: Warehouse, months: MonthRange) -> set[Month]:
    stays = Slice(ADMISSIONS, months.widen(after=LOOKAHEAD_MONTHS))
    return set(_by_month(warehouse, f"SELECT month, count(*) FROM {stays} GROUP BY month"))


CHECKS: tuple[Check, ...] = (
    Check(
        "attrition_sums",
        ATTRITION.qualified,
        "Discharges = excluded + index admissions, step by step: every discharge is accounted for once.",
        _attrition_sums,
        blocking=True,
        reads=(ADMISSIONS.qualified,),
    ),
    Check(
        "labels_cover_cohort",
        LABELS.qualified,
        "Every index admission of a matured month has exactly one label.",
        _labels_cover_cohort,
        blocking=True,
        reads=(ATTRITION.qualified,),
    ),
    Check(
        "labels_matured",
        LABELS.qualified,
        "No label before the next month has landed, no readmission outside its window.",
        _labels_matured,
        blocking=True,
        reads=(ADMISSIONS.qualified,),
    ),
    Check(
        "next_month_complete",
        LABELS.qualified,
        "The month that the outcome rests on was landed to its end.",
        _next_month_complete,
        reads=(ADMISSIONS.qualified,),
    ),
    Check(
        "label_rate_plausible",
        LABELS.qualified,
        "The share of readmissions is plausible and changes no more than chance explains.",
        _label_rate_plausible,
    ),
)
