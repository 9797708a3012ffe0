"""Scores and predicted labels of a month against what the champion gave on the months it was judged on.

The reference is scored again with the champion's own artefact, on the months of its validation and holdout windows:
rows on which no weight was fitted, and which exist from a champion's first day. A champion without an artefact is
compared with the scores it gave in earlier months.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

import structlog

from health_pipeline.modeling.bundle import load_bundle
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
from health_pipeline.months import Month, MonthRange, shift

if TYPE_CHECKING:
    import pyarrow as pa
    from duckdb import DuckDBPyConnection

    from health_pipeline.monitoring.champions import Champion
    from health_pipeline.settings import Settings
    from health_pipeline.warehouse import Slice, Warehouse

EARLIER_MONTHS = 12
_SUBJECTS = {"score": Measured("score", "numeric"), "prediction": Measured("predicted_label", "categorical")}
_log = structlog.get_logger(__name__)


@dataclass(frozen=True)
class _Scale:
    """Bins and monthly tallies of the reference."""

    name: str
    bins: Mapping[str, Bins]
    months: MonthlyTallies


def score_rows(
    warehouse: Warehouse,
    features: Slice,
    predictions: Slice,
    model: Champion,
    months: Sequence[Month],
    *,
    settings: Settings,
) -> list[Row]:
    """Rows of ``monitoring.drift`` for subject kinds ``score`` and ``prediction``.

    Raises:
        ModelError: the champion's artefact is missing or not the one that was judged.
    """
    judged = _judged_scores(warehouse, features, model, settings)
    rows: list[Row] = []
    for month in months:
        with warehouse.read(f"scores {month:%Y-%m}") as connection:
            scale = judged or _earlier_scores(connection, predictions, model, month)
            now = tallies(connection, _scored(predictions, model, MonthRange(month, month)), scale.bins)
        for kind, column in _SUBJECTS.items():
            common = {"month": month, "model_id": model.model_id}
            if month not in now or not scale.months:
                why = "no predictions" if month not in now else "nothing to compare the scores with"
                _log.warning("drift.no_data", month=str(month), subject=kind, reason=why)
                rows.append(
                    {
                        **common,
                        "subject_kind": kind,
                        "subject": column.name,
                        "metric": "psi",
                        "n": 0,
                        "reference_n": 0,
                        "status": "no_data",
                        "reference": scale.name,
                    }
                )
                continue
            reference = Reference(scale.name, list(scale.months.values()))
            only = {column.name: scale.bins[column.name]}
            rows += [{**common, **row} for row in compare(kind, now[month], reference, only, settings.monitoring)]
    return rows


def _judged_scores(warehouse: Warehouse, features: Slice, model: Champion, settings: Settings) -> _Scale | None:
    if model.artefact_path is None or model.windows is None:
        return None
    span = MonthRange(model.windows.validation.first, model.windows.holdout.last)
    bundle = load_bundle(settings.home / model.artefact_path, model.artefact_hash)
    with warehouse.read(f"reference scores of {model.model_id}") as connection:
        judged = str(features.only(span))
        counted = connection.execute(f"SELECT count(*) FROM {judged}").fetchone()
        every = -(-int(counted[0] if counted else 0) // settings.monitoring.reference_rows)
        present = {column.name for column in measured_columns(connection, judged)}
        names = ", ".join(f'"{name}"' for name in bundle.feature_names if name in present)
        rows = connection.execute(
            f"SELECT month, encounter_id, {names} FROM {sampled(judged, every)} ORDER BY month, encounter_id"
        ).to_arrow_table()
    if rows.num_rows == 0:
        return _Scale("validation_and_holdout", {}, {})
    scores = bundle.score(rows)
    return _tallied(
        rows.select(["month", "encounter_id"])
        .append_column("score", [scores.probabilities])
        .append_column("predicted_label", [scores.labels])
    )


def _tallied(scored: pa.Table) -> _Scale:
    import duckdb

    with duckdb.connect() as connection:
        connection.register("scored", scored)
        bins = reference_bins(connection, "scored", list(_SUBJECTS.values()))
        return _Scale("validation_and_holdout", bins, tallies(connection, "scored", bins))


def _earlier_scores(connection: DuckDBPyConnection, predictions: Slice, model: Champion, month: Month) -> _Scale:
    earlier = _scored(predictions, model, MonthRange(shift(month, -EARLIER_MONTHS), shift(month, -1)))
    bins = reference_bins(connection, earlier, list(_SUBJECTS.values()))
    return _Scale("earlier_scores", bins, tallies(connection, earlier, bins))


def _scored(predictions: Slice, model: Champion, months: MonthRange) -> str:
    model_id = model.model_id.replace("'", "''")
    return (
        "(SELECT month, encounter_id, probability AS score, label AS predicted_label "
        f"FROM {predictions.only(months)} WHERE model_role = 'champion' AND model_id = '{model_id}')"
    )
