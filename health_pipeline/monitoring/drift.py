"""Rows of ``monitoring.drift``: what changed in a month, against which reference, and whether it matters.

References are fixed by the month and its champion alone (never by the width of the run): the champion's training
window, the same season of the year before (three months around it), and for scores what the champion gave on the
months it was judged on.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING

import structlog

from health_pipeline.monitoring import volume
from health_pipeline.monitoring.champions import Champion, champions
from health_pipeline.monitoring.comparison import Reference, Row, compare
from health_pipeline.monitoring.distributions import (
    Bins,
    Measured,
    MonthlyTallies,
    measured_columns,
    reference_bins,
    sampled,
    tallies,
)
from health_pipeline.monitoring.live import live_rows
from health_pipeline.monitoring.rows import to_table
from health_pipeline.monitoring.scores import score_rows
from health_pipeline.monitoring.tables import DRIFT
from health_pipeline.monitoring.windows import SEASON_MONTHS
from health_pipeline.months import Month, MonthRange, shift
from health_pipeline.settings import Settings
from health_pipeline.warehouse.slices import Slice

if TYPE_CHECKING:
    import pyarrow as pa
    from duckdb import DuckDBPyConnection

    from health_pipeline.warehouse import Warehouse

_log = structlog.get_logger(__name__)


def season_window(month: Month, settings: Settings) -> MonthRange | None:
    """The three months around the same month of the year before; None before there was such a year."""
    first = shift(month, -SEASON_MONTHS)
    return MonthRange(first, shift(month, -11)) if first >= settings.start_month else None


def drift_months(
    warehouse: Warehouse, features: Slice, predictions: Slice, champion: Slice, months: MonthRange, settings: Settings
) -> pa.Table:
    """Compare each month with its references.

    Args:
        warehouse: open for reading.
        features: ``gold.features``; the months that are read follow from month and champion.
        predictions: ``gold.predictions``, likewise.
        champion: ``models.champion`` of at least ``months``.
        months: months to produce.
        settings: limits, windows and sample size.

    Returns:
        Rows of ``DRIFT``. A month without champion, rows or reference gets rows with status ``no_data``.
    """
    rows: list[Row] = []
    with warehouse.read(f"drift {months}") as connection:
        in_force = champions(connection, champion.only(months), settings)
        columns = measured_columns(connection, str(features.only(months)))
        groups: dict[Champion, list[Month]] = defaultdict(list)
        for month in months:
            if month in in_force:
                groups[in_force[month]].append(month)
            else:
                rows.append(_nothing(month, "no champion is in force"))
        for model, members in groups.items():
            window = model.windows.training if model.windows else None
            rows += _feature_rows(connection, features, window, model, members, columns, settings)
        rows += volume.volume_rows(
            connection, features, {m: in_force[m].model_id for m in months if m in in_force}, settings
        )
    for model, members in groups.items():
        rows += score_rows(warehouse, features, predictions, model, members, settings=settings)
    models = {month: in_force[month].model_id for month in months if month in in_force}
    served = live_rows(warehouse, features, predictions, models, settings)
    return to_table(
        DRIFT, [*rows, *_summaries(rows, months), *served]
    )  # traffic is no property of the month's patients


def _feature_rows(
    connection: DuckDBPyConnection,
    features: Slice,
    window: MonthRange | None,
    model: Champion,
    members: Sequence[Month],
    columns: Sequence[Measured],
    settings: Settings,
) -> list[Row]:
    if window is None:
        return [_nothing(month, "the champion has no training window", model) for month in members]
    bins, training = _training(connection, features.only(window), columns, settings)
    if not training:
        return [_nothing(month, "the training window holds no rows", model) for month in members]
    seasons = {month: season_window(month, settings) for month in members}
    wanted = sorted({*members, *(m for season in seasons.values() if season for m in season)})
    seen = tallies(connection, _months_of(features, wanted), bins)
    rows: list[Row] = []
    for month in members:
        if month not in seen:
            rows.append(_nothing(month, "no discharges", model))
            continue
        references = [Reference("training_window", list(training.values()))]
        if seasons[month] is not None:
            season = [seen[m] for m in seasons[month] or () if m in seen]
            references.append(Reference("same_season", season, typical=references[0].months))
        for reference in references:
            found = compare("feature", seen[month], reference, bins, settings.monitoring)
            rows += [{"month": month, "model_id": model.model_id, **row} for row in found]
    return rows


def _training(
    connection: DuckDBPyConnection, features: Slice, columns: Sequence[Measured], settings: Settings
) -> tuple[Mapping[str, Bins], MonthlyTallies]:
    counted = connection.execute(f"SELECT count(*) FROM {features}").fetchone()
    every = -(-int(counted[0] if counted else 0) // settings.monitoring.reference_rows)
    relation = sampled(str(features), every)
    bins = reference_bins(connection, relation, columns)
    return bins, tallies(connection, relation, bins)


def _summaries(rows: Sequence[Row], months: MonthRange) -> list[Row]:
    """The month as a whole: alarms against the model's own past; the season only warns."""
    result: list[Row] = []
    for month in months:
        mine = [row for row in rows if row["month"] == month]
        judged = [row for row in mine if row["status"] != "no_data"]
        alarms = [row for row in judged if row["status"] == "alarm" and row["reference"] != "same_season"]
        features = {row["subject"] for row in judged if row["subject_kind"] == "feature"}
        if not features:
            status = "no_data"
        elif alarms:
            status = "alarm"
        else:
            status = "warning" if any(row["status"] in {"warning", "alarm"} for row in judged) else "ok"
        result.append(
            {
                "month": month,
                "model_id": next((row.get("model_id") for row in mine), None),
                "subject_kind": "summary",
                "subject": "month",
                "metric": "subjects_in_alarm",
                "value": float(len({(row["subject_kind"], row["subject"]) for row in alarms})) if features else None,
                "n": max((row["n"] for row in judged), default=0),
                "threshold": 0.0,
                "alarm_threshold": 0.0,
                "status": status,
                "reference": "none",
                "reference_n": 0,
            }
        )
    return result


def _months_of(features: Slice, months: Sequence[Month]) -> str:
    listed = ", ".join(f"DATE '{month}'" for month in months)
    return f"(SELECT * FROM {features.only(MonthRange(months[0], months[-1]))} WHERE month IN ({listed}))"


def _nothing(month: Month, reason: str, model: Champion | None = None) -> Row:
    _log.warning("drift.no_data", month=str(month), subject="features", reason=reason)
    return {
        "month": month,
        "model_id": model.model_id if model else None,
        **_empty("feature", "all", "psi", "training_window"),
    }


def _empty(kind: str, subject: str, metric: str, reference: str) -> Row:
    return {
        "subject_kind": kind,
        "subject": subject,
        "metric": metric,
        "value": None,
        "n": 0,
        "status": "no_data",
        "reference": reference,
        "reference_n": 0,
    }
