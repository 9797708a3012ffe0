"""Scores the discharges of each month with the models of that month."""

from __future__ import annotations

import datetime as dt
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
import pyarrow as pa

from health_pipeline.errors import ModelError
from health_pipeline.modeling.bundle import Bundle, load_bundle
from health_pipeline.modeling.families import FAMILIES
from health_pipeline.modeling.preprocessing import IDENTIFIERS
from health_pipeline.modeling.rows import arrow_schema
from health_pipeline.modeling.tables import PREDICTIONS
from health_pipeline.months import Month, MonthRange, shift

if TYPE_CHECKING:
    from health_pipeline.settings import Settings
    from health_pipeline.warehouse import Slice, Warehouse

CHAMPION_ROLE = "champion"


@dataclass(frozen=True, slots=True)
class _Assignment:
    """A model that scores a month in a role."""

    role: str
    path: str
    digest: str


def score_months(
    warehouse: Warehouse,
    features: Slice,
    candidates: Mapping[str, Slice],
    champion: Slice,
    months: MonthRange,
    settings: Settings,
) -> pa.Table:
    """Score every discharge of the months with the month's candidates and its champion.

    Args:
        warehouse: where the slices live.
        features: ``gold.features``.
        candidates: table of each family.
        champion: ``models.champion``.
        months: months to score, one at a time.
        settings: the home, where bundles lie.

    Returns:
        Rows of ``gold.predictions`` in the order month, role, encounter.

    Raises:
        ModelError: a bundle is missing or its bytes are not those that were judged.
    """
    assignments = _assignments(warehouse, candidates, champion, months)
    bundles: dict[str, Bundle] = {}
    parts = []
    for month in months:
        models = assignments.get(month, [])
        if not models:
            continue
        for model in models:
            if model.digest not in bundles:
                bundles[model.digest] = load_bundle(settings.home / Path(model.path), model.digest)
        used = {model.digest for model in models}
        bundles = {digest: bundle for digest, bundle in bundles.items() if digest in used}
        scored: dict[str, list[pa.Table]] = {model.role: [] for model in models}
        for batch in warehouse.stream(_features_sql(features, month), f"features of {month:%Y-%m} for scoring"):
            rows = pa.Table.from_batches([batch])
            for model in models:
                scored[model.role].append(predictions(bundles[model.digest], model.role, month, rows))
        parts += [table for tables in scored.values() for table in tables]
    return pa.concat_tables(parts) if parts else arrow_schema(PREDICTIONS).empty_table()


def predictions(bundle: Bundle, role: str, month: Month, rows: pa.Table) -> pa.Table:
    """Prediction rows of one model.

    Args:
        bundle: the model.
        role: ``model_role``.
        month: month of the discharges.
        rows: features with ``encounter_id``, ``patient_key`` and ``_feature_hash``.
    """
    scores = bundle.score(rows)
    count = rows.num_rows
    closed = dt.datetime.combine(shift(month, 1), dt.time())
    confidence = np.where(scores.labels, scores.probabilities, 1 - scores.probabilities)
    columns = {
        "month": pa.array([month] * count, pa.date32()),
        "encounter_id": rows["encounter_id"],
        "patient_key": rows["patient_key"],
        "model_id": pa.array([bundle.model_id] * count, pa.string()),
        "model_role": pa.array([role] * count, pa.string()),
        "probability": pa.array(scores.probabilities),
        "label": pa.array(scores.labels),
        "confidence": pa.array(confidence),
        "inference_dt": pa.array([closed] * count, pa.timestamp("us")),
        "feature_hash": rows["_feature_hash"],
        "warnings": pa.array(scores.inputs.row_warnings(), pa.string()),
    }
    return pa.table(columns, schema=arrow_schema(PREDICTIONS))


def _features_sql(features: Slice, month: Month) -> str:
    names = [name for name in features.table.column_names if name not in IDENTIFIERS]
    values = ", ".join(f'"{name}" := f."{name}"' for name in names)
    return (
        f"SELECT f.*, md5(to_json(struct_pack({values}))::VARCHAR) AS _feature_hash "
        f"FROM {features.only(MonthRange(month, month))} AS f ORDER BY f.encounter_id"
    )


def _assignments(
    warehouse: Warehouse, candidates: Mapping[str, Slice], champion: Slice, months: MonthRange
) -> dict[Month, list[_Assignment]]:
    """Models by month: trained candidates and the champion in force."""
    roles = {_role_of(family): models for family, models in candidates.items()} | {CHAMPION_ROLE: champion}
    found: dict[Month, list[_Assignment]] = {}
    warehouse.ensure(*(models.table for models in roles.values()))
    with warehouse.read(f"models in force {months}") as connection:
        for role in sorted(roles):
            rows = connection.execute(
                f"SELECT month, artefact_path, artefact_hash FROM {roles[role].only(months)} "
                "WHERE model_id IS NOT NULL ORDER BY month"
            ).fetchall()
            for month, path, digest in rows:
                found.setdefault(month, []).append(_Assignment(role, path, digest))
    return found


def _role_of(family: str) -> str:
    if family not in FAMILIES:
        raise ModelError(f"unknown model family {family!r}", remedy=f"choose among {', '.join(sorted(FAMILIES))}")
    return FAMILIES[family].role
