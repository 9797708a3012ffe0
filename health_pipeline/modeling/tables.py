"""Declarations of the tables this room fills: one per model family, and the predictions."""

from __future__ import annotations

from functools import lru_cache

from health_pipeline.warehouse.tables import Column, Table

_MODEL_COLUMNS = (
    Column("month", "DATE", "model month: the first month the model may score", nullable=False),
    Column("model_id", "VARCHAR", "family, month and digest of the bundle; NULL when skipped"),
    Column("family", "VARCHAR", "model family", nullable=False),
    Column("status", "VARCHAR", "`trained` or `skipped`", nullable=False),
    Column("reason", "VARCHAR", "why the month was skipped"),
    Column("profile", "VARCHAR", "effort profile; the gates refuse `quick`", nullable=False),
    Column("mlflow_run_id", "VARCHAR", "run in the tracking store (differs between repetitions)"),
    Column("mlflow_version", "VARCHAR", "version in the model registry (differs between repetitions)"),
    Column("parameters", "VARCHAR", "JSON: hyper-parameters, tuning month and its outcome, fitted structure"),
    Column("metrics", "VARCHAR", 'JSON on the holdout: {"<metric>": {"value", "ci_low", "ci_high", "n"}}'),
    Column("threshold", "DOUBLE", "probability from which a stay is labelled, chosen on validation"),
    Column("training_first", "DATE", "first month of the training window"),
    Column("training_last", "DATE", "last month of the training window"),
    Column("validation_first", "DATE", "first month of the validation window"),
    Column("validation_last", "DATE", "last month of the validation window"),
    Column("holdout_first", "DATE", "first month of the holdout; nothing is fitted on it"),
    Column("holdout_last", "DATE", "last month of the holdout, two months before the model month"),
    Column("training_rows", "BIGINT", "rows the model was fitted on"),
    Column("validation_rows", "BIGINT", "rows of the validation window"),
    Column("holdout_rows", "BIGINT", "rows of the holdout"),
    Column("data_snapshot", "VARCHAR", "digest of every row of the three windows"),
    Column("feature_schema_hash", "VARCHAR", "digest of the feature catalogue the model expects"),
    Column("code_version", "VARCHAR", "version of this package"),
    Column("artefact_path", "VARCHAR", "bundle folder, relative to the home"),
    Column("artefact_hash", "VARCHAR", "digest of the bundle's files"),
    Column("trained_at", "TIMESTAMP", "when the model was fitted, UTC (differs between repetitions)"),
)


@lru_cache
def model_table(family: str) -> Table:
    """Table ``models.<family>``: one row for each model month."""
    return Table(
        "models",
        family,
        _MODEL_COLUMNS,
        key=("family",),
        description=f"{family.replace('_', ' ')} candidates, one a month, with lineage and holdout metrics",
    )


PREDICTIONS = Table(
    "gold",
    "predictions",
    (
        Column("month", "DATE", "month of the discharge", nullable=False),
        Column("encounter_id", "VARCHAR", "the index stay", nullable=False),
        Column("patient_key", "VARCHAR", "pseudonym of the patient", nullable=False),
        Column("model_id", "VARCHAR", "model that gave the probability", nullable=False),
        Column("model_role", "VARCHAR", "`model_1`, `model_2`, `model_3` or `champion`", nullable=False),
        Column("probability", "DOUBLE", "probability of a readmission within 30 days", nullable=False),
        Column("label", "BOOLEAN", "whether the probability reaches the model's threshold", nullable=False),
        Column("confidence", "DOUBLE", "probability that `label` is right", nullable=False),
        Column("inference_dt", "TIMESTAMP", "when the month had closed: the logical time of the batch", nullable=False),
        Column("feature_hash", "VARCHAR", "digest of the stay's feature values", nullable=False),
        Column("warnings", "VARCHAR", "what the model met for the first time (names only), or NULL"),
    ),
    key=("encounter_id", "model_role"),
    description="probabilities of every discharge by the candidates and the champion of its month",
)
