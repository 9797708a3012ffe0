"""Checks of the monitoring tables. Missing rows fail: no data is never "no drift".

A month for which it was decided that no model is in force has nothing to monitor: ``champion_in_force`` warns of it.

WARN: look at it when there is time; significant, but too small to act on alone. ERROR: somebody has to act; beyond
chance and large enough to harm the model, or monitoring itself has nothing to judge from.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from dataclasses import replace
from typing import TYPE_CHECKING, Any

from health_pipeline.monitoring.statuses import CONCEPT_METRIC, JUDGED_METRICS, rows_of, worst
from health_pipeline.monitoring.tables import DRIFT, PERFORMANCE
from health_pipeline.months import Month, MonthRange, shift
from health_pipeline.promotion.tables import CHAMPION
from health_pipeline.verdicts import Check, Number, Verdict
from health_pipeline.warehouse.slices import Slice

if TYPE_CHECKING:
    from health_pipeline.settings import Settings
    from health_pipeline.warehouse import Warehouse
    from health_pipeline.warehouse.tables import Table

Rows = Sequence[dict[str, Any]]
Judge = Callable[[Month, Rows], Verdict]
Evaluate = Callable[["Warehouse", MonthRange, "Settings"], list[Verdict]]
_SHOWN = 10


def _by_month(table: Table, judge: Judge) -> Evaluate:
    """Judge the rows of each month on their own."""

    def evaluate(warehouse: Warehouse, months: MonthRange, _settings: Settings) -> list[Verdict]:
        rows: dict[Month, list[dict[str, Any]]] = {month: [] for month in months}
        for row in rows_of(warehouse, table, months):
            rows[row["month"]].append(row)
        return [judge(month, found) for month, found in rows.items()]

    return _of_models(evaluate)


def _of_models(evaluate: Evaluate) -> Evaluate:
    """Judge the months that have a model in force; the others have nothing to monitor."""

    def judged(warehouse: Warehouse, months: MonthRange, settings: Settings) -> list[Verdict]:
        idle = _without_model(warehouse, months)
        said = "no model is in force: nothing to monitor"
        return [
            Verdict(verdict.month, passed=True, summary=said, severity="WARN") if verdict.month in idle else verdict
            for verdict in evaluate(warehouse, months, settings)
        ]

    return judged


def _without_model(warehouse: Warehouse, months: MonthRange) -> set[Month]:
    warehouse.ensure(CHAMPION)
    with warehouse.read(f"models in force {months}") as connection:
        found = connection.execute(f"SELECT month FROM {Slice(CHAMPION, months)} WHERE model_id IS NULL").fetchall()
    return {month for (month,) in found}


def _nothing(month: Month, what: str) -> Verdict:
    return Verdict(
        month,
        passed=False,
        summary=f"no data: {what}",
        severity="ERROR",
        numbers={"status": "no_data"},
    )


def _verdict(
    month: Month,
    rows: Rows,
    what: str,
    name: Callable[[dict[str, Any]], str],
    subject: Callable[[dict[str, Any]], str] | None = None,
) -> Verdict:
    """From the worst status of the rows.

    Args:
        month: judged month.
        rows: judged numbers.
        what: for the summary.
        name: what a number is called in the summary.
        subject: its stable name, by which a later month is known to say the same; ``name`` where that holds no value.
    """
    status = worst(row["status"] for row in rows)
    summary = f"{what}: {status}"
    if status != "ok":
        summary += f" in {_listed(name(row) for row in rows if row['status'] == status)}"
    if status == "alarm" and (warned := [name(row) for row in rows if row["status"] == "warning"]):
        summary += f"; warning in {_listed(warned)}"
    numbers: dict[str, Number] = {
        "status": status,
        "alarms": sum(row["status"] == "alarm" for row in rows),
        "warnings": sum(row["status"] == "warning" for row in rows),
        "numbers_judged": len(rows),
    }
    if status in {"warning", "alarm"}:  # missing numbers have no subjects: to be blind is told every month
        numbers["subjects"] = "; ".join(sorted({(subject or name)(row) for row in rows if row["status"] == status}))
    return Verdict(month, status == "ok", summary, "WARN" if status == "warning" else "ERROR", numbers)


def _listed(names: Iterable[str]) -> str:
    every = list(dict.fromkeys(names))
    return ", ".join(every[:_SHOWN]) + (f" and {len(every) - _SHOWN} more" if len(every) > _SHOWN else "")


def _drifted(row: dict[str, Any]) -> str:
    return str(row["subject"])


def _features(month: Month, rows: Rows) -> Verdict:
    judged = [row for row in rows if row["subject_kind"] == "feature" and row["reference"] == "training_window"]
    known = [row for row in judged if row["status"] != "no_data"]
    if not known:
        return _nothing(month, "no feature could be compared with the champion's training window")
    return _verdict(month, known, "features", _drifted)


def _scores(month: Month, rows: Rows) -> Verdict:
    judged = [row for row in rows if row["subject_kind"] in {"score", "prediction"}]
    if not judged:
        return _nothing(month, "the champion's scores were not compared")
    return _verdict(month, judged, "scores", lambda row: f"{row['subject']} ({row['metric']})")


def _volume(month: Month, rows: Rows) -> Verdict:
    judged = [row for row in rows if row["subject_kind"] == "volume"]
    if not judged:
        return _nothing(month, "discharges were not counted")
    return _verdict(month, judged, "volume", lambda row: f"{row['subject']} ({row['value'] or 0:+.1%})", _drifted)


def _live(month: Month, rows: Rows) -> Verdict:
    judged = [row for row in rows if row["subject_kind"] in {"live", "live_input"} and row["status"] != "no_data"]
    if not judged:
        return Verdict(month, passed=True, summary="the API answered nothing in the month", severity="WARN")
    return _verdict(month, judged, "live traffic", lambda row: f"{row['subject']} ({row['metric']})", _drifted)


def _measured(rows: Rows, kind: str) -> list[dict[str, Any]]:
    return [
        row
        for row in rows
        if row["model_role"] == "champion"
        and row["kind"] == kind
        and row["segment"] == "all"
        and row["metric"] in JUDGED_METRICS
    ]


def _subject(row: dict[str, Any]) -> str:
    return f"{row['segment']} {row['metric']} over {row['window_months']} months"


def _name(row: dict[str, Any]) -> str:
    value = "unknown" if row["value"] is None else f"{row['value']:.3f}"
    return f"{row['metric']} {value} over {row['window_months']} months"


def _estimated(month: Month, rows: Rows) -> Verdict:
    judged = _measured(rows, "estimated")
    if not judged:
        return _nothing(month, "the champion's performance was not estimated")
    return _verdict(month, judged, "estimated performance", _name, _subject)


def _reconciled(month: Month, rows: Rows) -> Verdict:
    judged = _measured(rows, "reconciliation")
    if not judged:
        if _measured(rows, "realised"):
            return _nothing(month, "outcomes have matured, but the estimate was not reconciled")
        return Verdict(month, passed=True, summary="not matured: nothing to reconcile yet", severity="WARN")
    return _verdict(month, judged, "estimated against realised", _name, _subject)


def _concept(month: Month, rows: Rows) -> Verdict:
    mine = [row for row in rows if row["model_role"] == "champion" and row["segment"] == "all"]
    judged = [row for row in mine if row["kind"] == "concept" and row["metric"] == CONCEPT_METRIC]
    if not judged:
        if any(row["kind"] == "realised" for row in mine):
            return _nothing(month, "outcomes have matured, but no test of a changed concept was made")
        return Verdict(month, passed=True, summary="not matured: nothing to test yet", severity="WARN")
    (row,) = judged
    if row["status"] == "no_data":
        return Verdict(month, passed=True, summary="too few matured months before it to tell a change", severity="WARN")
    verdict = _verdict(
        month, judged, "relation of risk and outcome", lambda row: f"the tests, p {row['value']:.2g}", _subject
    )
    if verdict.passed:
        return verdict
    moved = ", ".join(f"{each['segment']} ({each['value']:+.2f})" for each in _moved(rows))
    return replace(verdict, summary=f"{verdict.summary}; log-odds moved most in {moved or 'no single stratum'}")


def _moved(rows: Rows) -> list[dict[str, Any]]:
    """Strata of the month whose interval excludes no change, clearest first."""
    shifts = [
        row
        for row in rows
        if row["model_role"] == "champion"
        and row["kind"] == "concept"
        and row["metric"] == "log_odds_shift"
        and row["window_months"] == 1
        and not row["ci_low"] <= 0 <= row["ci_high"]
    ]
    return sorted(shifts, key=lambda row: -abs(row["value"]) / (row["ci_high"] - row["ci_low"]))[:3]


def _subgroups(month: Month, rows: Rows) -> Verdict:
    judged = [
        row
        for row in rows
        if row["model_role"] == "champion"
        and row["segment"] != "all"
        and row["status"] != "no_data"
        and row["metric"] in JUDGED_METRICS
    ]
    if not judged:
        return Verdict(month, passed=False, summary="no subgroup is large enough to be judged", severity="WARN")
    return _verdict(month, judged, "subgroups", lambda row: f"{row['segment']} {_name(row)}", _subject)


def _realised(warehouse: Warehouse, months: MonthRange, settings: Settings) -> list[Verdict]:
    rows = rows_of(warehouse, PERFORMANCE, months)
    newest = _newest_prediction(warehouse)
    window = settings.monitoring.performance_window

    def judge(month: Month) -> Verdict:
        measured = [row for row in _measured(rows, "realised") if row["month"] == month]
        judged = [row for row in measured if row["window_months"] in {1, window} and row["status"] != "no_data"]
        if judged:
            return _verdict(month, judged, "realised performance", _name, _subject)
        if measured:
            return _nothing(month, "outcomes have matured, but no measure could be judged")
        if newest is not None and newest < shift(month, 2):
            return Verdict(month, passed=True, summary="not matured: the outcome of the month is still open")
        return _nothing(month, "the outcome is due, but realised performance was not computed")

    return [judge(month) for month in months]


def _newest_prediction(warehouse: Warehouse) -> Month | None:
    from health_pipeline.modeling.tables import PREDICTIONS

    warehouse.ensure(PREDICTIONS)
    with warehouse.read("newest prediction") as connection:
        found = connection.execute(f"SELECT max(month) FROM {PREDICTIONS.qualified}").fetchone()
    return found[0] if found else None


CHECKS = (
    Check(
        "features_resemble_training",
        DRIFT.qualified,
        "Features against the champion's training window. ERROR: a shift beyond chance and large enough (PSI, null "
        "rate, unseen categories) to mislead the model, or nothing to compare. WARN: significant, but small.",
        _by_month(DRIFT, _features),
    ),
    Check(
        "scores_resemble_reference",
        DRIFT.qualified,
        "The champion's scores and labels against its reference scores. ERROR: the risk of the whole population moved, "
        "or nothing to compare. WARN: a significant, small shift.",
        _by_month(DRIFT, _scores),
    ),
    Check(
        "volume_is_usual",
        DRIFT.qualified,
        "Discharges against the year before. ERROR: outside the 99.9 % prediction interval (an extract is incomplete "
        "or doubled). WARN: outside the 99 % interval.",
        _by_month(DRIFT, _volume),
    ),
    Check(
        "live_traffic_resembles_batch",
        DRIFT.qualified,
        "What the prediction API was fed and answered in the month against the batch. ERROR: scores or inputs moved "
        "beyond chance and by a relevant amount, stays scored both ways by one model got other scores (other inputs), "
        "or the inputs were not counted. WARN: significant, but small. Passes without traffic.",
        _by_month(DRIFT, _live),
    ),
    Check(
        "estimated_performance_holds",
        PERFORMANCE.qualified,
        "Performance estimated without labels. ERROR: the champion is expected to lose what its holdout promised, "
        "beyond chance and by a relevant amount, or no estimate. WARN: a smaller loss.",
        _by_month(PERFORMANCE, _estimated),
    ),
    Check(
        "realised_performance_holds",
        PERFORMANCE.qualified,
        "Performance on matured outcomes, the month alone and the rolling window. ERROR: discrimination or calibration "
        "lost beyond chance and by a relevant amount, or a due outcome was not measured. WARN: a smaller loss.",
        _of_models(_realised),
    ),
    Check(
        "estimate_matches_outcome",
        PERFORMANCE.qualified,
        "Estimated against realised performance. WARN: the outcome left the interval of the estimate, so the relation "
        "between features and outcome may have changed. ERROR: the reconciliation is missing.",
        _by_month(PERFORMANCE, _reconciled),
    ),
    Check(
        "concept_holds",
        PERFORMANCE.qualified,
        "Whether the same risk still means the same outcome, by tests of calibration and strata on matured outcomes "
        "against the months before. ERROR: beyond chance (concept_alarm) and by a relevant amount, or not tested. "
        "WARN: concept_warning.",
        _by_month(PERFORMANCE, _concept),
    ),
    Check(
        "subgroups_hold",
        PERFORMANCE.qualified,
        "Discrimination and calibration of patient groups. WARN only: many groups are judged at once.",
        _by_month(PERFORMANCE, _subgroups),
    ),
)
