"""``models.champion``: the model in force in each month, and the decision that put it there."""

from __future__ import annotations

from health_pipeline.warehouse.tables import Column, Table

CHAMPION = Table(
    schema="models",
    name="champion",
    description="The model in force in a month: the best candidate where the gates let it replace the champion of the "
    "month before, else that champion carried over; with every criterion and its numbers.",
    key=("month",),
    columns=(
        Column("month", "DATE", "month in which the model is in force", nullable=False),
        Column("model_id", "VARCHAR", "model in force; empty when no model has ever passed the gates"),
        Column("family", "VARCHAR", "family of the model in force"),
        Column("decision", "VARCHAR", "INITIAL, DEPLOY, DEPLOY_REFRESH or SKIP", nullable=False),
        Column("challenger_id", "VARCHAR", "best candidate of the month; empty when none was trained"),
        Column("incumbent_id", "VARCHAR", "champion of the month before; empty when there was none"),
        Column(
            "criteria", "VARCHAR", "JSON list: criterion, value, threshold, passed, severity, detail", nullable=False
        ),
        Column("metrics", "VARCHAR", "JSON: metrics of the model in force on the holdout, with intervals"),
        Column("reason", "VARCHAR", "the whole reasoning as text", nullable=False),
        Column("holdout_first", "DATE", "first month both models were judged on"),
        Column("holdout_last", "DATE", "last month both models were judged on"),
        Column("holdout_rows", "BIGINT", "discharges both models were judged on", nullable=False),
        Column("model_month", "DATE", "month the model in force was trained for"),
        Column("artefact_path", "VARCHAR", "folder of the model in force, relative to the home"),
        Column("artefact_hash", "VARCHAR", "content hash of that folder"),
        Column("threshold", "DOUBLE", "probability from which the model in force raises its flag"),
        Column("feature_schema_hash", "VARCHAR", "features the model in force was fitted on"),
        Column("fitted_last", "DATE", "last month any part of the model in force was fitted on"),
        Column("profile", "VARCHAR", "training effort of the model in force"),
        Column("recommendations", "VARCHAR", "JSON list of what to do next"),
        Column("next_training_date", "DATE", "when the next challenger is worth training"),
        Column("evidence", "VARCHAR", "JSON: all numbers and the policy the decision rests on"),
        Column("plan_hash", "VARCHAR", "change-control plan in force"),
    ),
)
