"""Tables of this room: one per step, and the skip report. The history's is in ``history.py``."""

from __future__ import annotations

from health_pipeline.deployment.steps import STEPS
from health_pipeline.warehouse.tables import Column, Table

_MEANING = {
    "registered_model": "the admitted model stands in the registry as challenger, its artefacts are verified",
    "api_image": "the release is built: a folder, or an image",
    "api_tests": "health, predictions, refusals, performance and version of the release by itself",
    "published_image": "the release lies where the target takes it from, digest confirmed",
    "rollout": "stages passed, canary shares observed, all traffic moved",
    "verification": "the very digest serves, alone",
    "health": "success rate, response time, errors and prediction shift over the health window",
    "promotion": "the registry's alias follows the traffic",
}

STEP_TABLES: dict[str, Table] = {
    step: Table(
        "deployment",
        step,
        (
            Column("month", "DATE", "month of the deployed model", nullable=False),
            Column("attempt", "VARCHAR", "deployment attempt", nullable=False),
            Column("outcome", "VARCHAR", "pass, no-op, skipped, fail or inconclusive", nullable=False),
            Column("model_id", "VARCHAR", "admitted model; empty when none was"),
            Column("release", "VARCHAR", "release id"),
            Column("digest", "VARCHAR", "digest of the package: the image where there is one, else the release"),
            Column("release_digest", "VARCHAR", "digest of the release, which the API reports"),
            Column("reference", "VARCHAR", "folder or image"),
            Column("summary", "VARCHAR", "what the outcome rests on", nullable=False),
            Column("findings", "VARCHAR", "JSON list: name, outcome, summary, numbers", nullable=False),
            Column("seconds", "DOUBLE", "duration", unit="s"),
        ),
        key=("month",),
        description=f"Deployment step: {_MEANING[step]}.",
    )
    for step in STEPS
}

SKIP_REPORT = Table(
    "deployment",
    "skip_report",
    (
        Column("month", "DATE", "month of the decision", nullable=False),
        Column("is_skipped", "BOOLEAN", "whether the challenger was refused", nullable=False),
        Column("decision", "VARCHAR", "INITIAL, DEPLOY, DEPLOY_REFRESH or SKIP", nullable=False),
        Column("challenger_id", "VARCHAR", "best candidate of the month"),
        Column("incumbent_id", "VARCHAR", "model it was compared with"),
        Column("serving_id", "VARCHAR", "model that serves in production, by the history"),
        Column("comparison", "VARCHAR", "the reasoning with its numbers", nullable=False),
        Column("criteria", "VARCHAR", "JSON: criteria that stood in the way", nullable=False),
        Column("recommendations", "VARCHAR", "JSON: what to do next", nullable=False),
        Column("next_training_date", "DATE", "when the next challenger is worth training"),
        Column("report", "VARCHAR", "all of it as Markdown", nullable=False),
    ),
    key=("month",),
    description="why a month's challenger was not deployed, and what to do about it",
)
