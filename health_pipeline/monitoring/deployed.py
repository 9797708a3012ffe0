"""What really served: the model of production in each month, and its scores of that month's discharges.

The champion is what should serve. A failed deployment or a rollback leaves an older model in production; its
performance is what patients get, so it is followed as a role of its own, ``deployed``.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING

import structlog

from health_pipeline.modeling.bundle import load_bundle
from health_pipeline.months import Month, MonthRange

if TYPE_CHECKING:
    import pyarrow as pa
    from duckdb import DuckDBPyConnection

    from health_pipeline.settings import Settings
    from health_pipeline.warehouse import Slice, Warehouse

ROLE = "deployed"
_COLUMNS = "month, encounter_id, patient_key, model_id, probability, label"
_log = structlog.get_logger(__name__)


def deployed_models(connection: DuckDBPyConnection, months: MonthRange) -> dict[Month, str]:
    """Model that production served at the end of each month, by the deployment history; none before the first.

    A row of the history carries the month of the model it brings. Going back by hand brings an older one, so a row
    holds from the newest month that was reached before it.
    """
    known = connection.execute(
        "SELECT 1 FROM information_schema.tables WHERE table_schema = 'deployment' AND table_name = 'history'"
    ).fetchone()
    if known is None:
        return {}
    events = connection.execute(
        "SELECT max(month) OVER (ORDER BY sequence) AS holds_from, model_id FROM deployment.history "
        "WHERE outcome = 'pass' AND step IN ('promotion', 'rollback', 'recovery') ORDER BY sequence"
    ).fetchall()
    found: dict[Month, str] = {}
    for month in months:
        reached = [model_id for holds_from, model_id in events if holds_from <= month]
        if reached and reached[-1]:
            found[month] = reached[-1]
    return found


def deployed_predictions(
    warehouse: Warehouse, features: Slice, predictions: Slice, months: MonthRange, settings: Settings
) -> pa.Table | None:
    """Rows of ``gold.predictions`` for the role ``deployed``; None when nothing was ever deployed.

    Scores that were stored under the same model id are taken over. A model that is no candidate of the month any more
    scores it again, with the artefact that was judged.

    Raises:
        ModelError: its artefact is missing or another one.
    """
    import pyarrow as pa

    with warehouse.read(f"deployed models {months}") as connection:
        models = deployed_models(connection, months)
        if not models:
            return None
        listed = ", ".join(f"(DATE '{month}', '{_quoted(model)}')" for month, model in models.items())
        stored = connection.execute(
            f"SELECT {_COLUMNS} FROM {predictions.only(months)} AS p JOIN (VALUES {listed}) AS d(month, model_id) "
            "USING (month, model_id) "
            "QUALIFY row_number() OVER (PARTITION BY month, encounter_id ORDER BY model_role) = 1"
        ).to_arrow_table()
        artefacts = _artefacts(connection, set(models.values()))
    had = set(stored.column("month").to_pylist())
    scored = [
        _scored(warehouse, features.only(MonthRange(month, month)), model, artefacts, settings)
        for month, model in models.items()
        if month not in had
    ]
    return pa.concat_tables([stored, *(table.cast(stored.schema) for table in scored if table is not None)])


def _artefacts(connection: DuckDBPyConnection, models: set[str]) -> dict[str, tuple[str, str | None]]:
    rows = connection.execute(
        "SELECT model_id, artefact_path, artefact_hash FROM models.champion "
        "WHERE artefact_path IS NOT NULL ORDER BY month"
    ).fetchall()
    return {model: (path, digest) for model, path, digest in rows if model in models}


def _scored(
    warehouse: Warehouse,
    features: Slice,
    model: str,
    artefacts: Mapping[str, tuple[str, str | None]],
    settings: Settings,
) -> pa.Table | None:
    import pyarrow as pa

    if model not in artefacts:
        _log.warning(
            "performance.no_data", role=ROLE, model_id=model, reason="no artefact of the deployed model is known"
        )
        return None
    path, digest = artefacts[model]
    bundle = load_bundle(settings.home / path, digest)
    with warehouse.read(f"scores of the deployed {model}") as connection:
        rows = connection.execute(f"SELECT * FROM {features} ORDER BY encounter_id").to_arrow_table()
    if rows.num_rows == 0:
        return None
    scores = bundle.score(rows)
    return (
        rows.select(["month", "encounter_id", "patient_key"])
        .append_column("model_id", pa.array([model] * rows.num_rows))
        .append_column("probability", pa.array(scores.probabilities))
        .append_column("label", pa.array(scores.labels))
    )


def _quoted(text: str) -> str:
    return text.replace("'", "''")
