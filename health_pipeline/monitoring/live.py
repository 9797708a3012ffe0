"""Live traffic against batch: what the prediction API answered in a month, beside the month's batch scores.

The log of the API holds pseudonyms, scores and hashes, no values. Three numbers follow from it: how many records were
scored, whether their scores are distributed as those of the batch, and, for stays scored both ways by the same model,
whether the answers agree. The same model gives another score only to other inputs, so disagreement is drift of the
inputs between the wards' system and the warehouse, found where it matters. How the inputs themselves are distributed
follows from counts beside the log (:mod:`~health_pipeline.monitoring.live_inputs`).
"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING

from health_pipeline.monitoring.comparison import Reference, Row, compare, status_of
from health_pipeline.monitoring.distributions import Measured, reference_bins, tallies
from health_pipeline.monitoring.live_inputs import input_rows
from health_pipeline.months import Month, MonthRange

if TYPE_CHECKING:
    import pyarrow as pa

    from health_pipeline.settings import Settings
    from health_pipeline.warehouse import Slice, Warehouse

LEAST_MATCHED = 20
TOLERANCE = 1e-3
DISAGREEMENT_WARNING, DISAGREEMENT_ALARM = 0.01, 0.05
_ANSWERED = ("primary", "fallback")
_COLUMNS = dict.fromkeys(("time", "encounter_hash", "model_id", "role"), "VARCHAR") | {"probability": "DOUBLE"}


def live_rows(
    warehouse: Warehouse, features: Slice, predictions: Slice, models: Mapping[Month, str], settings: Settings
) -> list[Row]:
    """Rows of ``monitoring.drift`` for subject kinds ``live`` and ``live_input``; none of a month without traffic.

    Args:
        warehouse: ``gold.features`` and ``gold.predictions``.
        features: slice of the one.
        predictions: slice of the other.
        models: champion of each month.
        settings: home, production environment, key of the pseudonyms, limits.
    """
    from health_pipeline.serving.places import Places

    folder = Places.of(settings.home, settings.deployment.environments[-1]).predictions
    if not models or not any(folder.glob("predictions-*.ndjson")):
        return []
    rows: list[Row] = []
    for month, model_id in models.items():
        answered = _answered(folder, month)
        if answered.num_rows:
            found = _compared(warehouse, predictions.only(MonthRange(month, month)), answered, settings)
            with warehouse.read("live inputs") as connection:
                found += input_rows(connection, features, folder, month, answered.num_rows, settings)
            rows += [{"month": month, "model_id": model_id, "subject_kind": "live", **row} for row in found]
    return rows


def _answered(folder: Path, month: Month) -> pa.Table:
    """Answers of a month; a line that was torn by a crash is skipped."""
    import duckdb

    with duckdb.connect() as connection:
        return connection.execute(
            "SELECT encounter_hash, model_id, probability AS score FROM "
            "read_json($files, format = 'newline_delimited', ignore_errors = true, columns = $columns) "
            "WHERE list_contains($roles, role) AND starts_with(time, $month) AND probability IS NOT NULL",
            {
                "files": str(folder / "predictions-*.ndjson"),
                "columns": _COLUMNS,
                "roles": list(_ANSWERED),
                "month": f"{month:%Y-%m}",
            },
        ).to_arrow_table()


def _compared(warehouse: Warehouse, predictions: Slice, answered: pa.Table, settings: Settings) -> list[Row]:
    from health_pipeline.privacy.pseudonym import load_key, pseudonym_parameters, pseudonym_sql

    own = pseudonym_sql("trim(p.encounter_id)")
    with warehouse.read("live traffic") as connection:
        connection.register("answered", answered)
        live = "(SELECT DATE '2000-01-01' AS month, encounter_hash AS encounter_id, score FROM answered)"
        batch = f"(SELECT month, encounter_id, probability AS score FROM {predictions} WHERE model_role = 'champion')"
        bins = reference_bins(connection, batch, [Measured("score", "numeric")])
        now, before = (list(tallies(connection, relation, bins).values()) for relation in (live, batch))
        counted = connection.execute(
            f"SELECT count(*), count(*) FILTER (WHERE abs(a.score - p.probability) > {TOLERANCE}) FROM answered AS a "
            f"JOIN (SELECT DISTINCT encounter_id, model_id, probability FROM {predictions}) AS p "
            f"ON a.encounter_hash = {own} AND a.model_id = p.model_id",
            pseudonym_parameters(load_key(settings)),
        ).fetchone()
    matched, other = counted or (0, 0)
    common: Row = {"reference": "batch", "reference_n": int(before[0]["score"].rows) if before else 0}
    rows = [
        {
            **common,
            "subject": "requests",
            "metric": "answered",
            "value": float(answered.num_rows),
            "n": answered.num_rows,
        }
    ]
    rows[0]["status"] = "ok"
    if before:
        rows += compare("live", now[0], Reference("batch", before), bins, settings.monitoring)
    share = other / matched if matched >= LEAST_MATCHED else None
    rows.append(
        {
            **common,
            "subject": "agreement",
            "metric": "disagreeing_share",
            "value": share,
            "n": matched,
            "threshold": DISAGREEMENT_WARNING,
            "alarm_threshold": DISAGREEMENT_ALARM,
            "status": "no_data" if share is None else status_of(share, DISAGREEMENT_WARNING, DISAGREEMENT_ALARM),
        }
    )
    return rows
