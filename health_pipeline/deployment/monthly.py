"""The steps as rows of their tables: what the assets compute."""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

from health_pipeline.deployment.admission import Options, Plan, Refusal, admit
from health_pipeline.deployment.attempt import Attempt
from health_pipeline.deployment.records import Samples
from health_pipeline.deployment.tools import Tools
from health_pipeline.features import FEATURE_TABLE
from health_pipeline.modeling import model_table
from health_pipeline.months import Month, MonthRange, shift
from health_pipeline.promotion import CHAMPION
from health_pipeline.warehouse import Slice, Warehouse

if TYPE_CHECKING:
    from health_pipeline.settings import Settings

SAMPLES = 1000
"""Rows of one kind."""
IDENTIFIERS = frozenset({"month", "encounter_id", "patient_key", "discharged_at"})


def step_rows(
    step: str,
    warehouse: Warehouse,
    months: MonthRange,
    settings: Settings,
    options: Options,
    tools: Tools,
    attempt: str,
) -> list[dict[str, Any]]:
    """Run a step for the newest month of a range; the months before it are superseded.

    Args:
        step: name of the step.
        warehouse: decisions, candidates, feature rows to try the API with.
        months: months of the run.
        settings: home and families.
        options: of the run.
        tools: what to work with.
        attempt: id of the attempt.
    """
    rows = [_row(month, attempt, "skipped", summary=f"superseded by {months.last:%Y-%m}") for month in months][:-1]
    month = months.last
    plan = plan_of(warehouse, month, settings, options)
    if isinstance(plan, Refusal):
        if step == "registered_model":
            tools.history.append(
                month=month,
                attempt=attempt,
                actor=options.actor,
                step="skip",
                outcome="skipped",
                summary=plan.reason.splitlines()[0],
            )
        return [*rows, _row(month, attempt, "skipped", summary=f"not deployed: {plan.reason}")]
    result = Attempt(plan, options, tools, attempt, feature_samples(warehouse, plan)).run(step)
    findings = [
        {"name": item.name, "outcome": item.outcome, "summary": item.summary, "numbers": dict(item.numbers)}
        for item in result.findings
    ]
    return [
        *rows,
        _row(
            month,
            attempt,
            result.outcome,
            model_id=plan.model_id,
            release=result.release,
            digest=result.digest,
            release_digest=result.release_digest,
            reference=result.reference,
            summary=result.summary,
            findings=json.dumps(findings, sort_keys=True),
            seconds=result.seconds,
        ),
    ]


def _row(month: Month, attempt: str, outcome: str, **fields: Any) -> dict[str, Any]:
    return {"month": month, "attempt": attempt, "outcome": outcome, "findings": "[]", **fields}


def plan_of(warehouse: Warehouse, month: Month, settings: Settings, options: Options) -> Plan | Refusal:
    """What the month's decision admits."""
    months = MonthRange(month, month)
    tables = [model_table(family) for family in settings.training.families]
    for table in (CHAMPION, *tables):
        warehouse.ensure(table)
    with warehouse.read(f"deployment {month:%Y-%m}") as connection:
        champions = connection.execute(f"SELECT * FROM {Slice(CHAMPION, months)}").to_arrow_table().to_pylist()
        candidates: dict[str, Mapping[str, Any]] = {}
        for table in tables:
            for row in connection.execute(f"SELECT * FROM {Slice(table, months)}").to_arrow_table().to_pylist():
                if row["model_id"] is not None:
                    candidates[row["model_id"]] = row
    return admit(champions[0] if champions else None, candidates, options, settings.home, month)


def feature_samples(warehouse: Warehouse, plan: Plan) -> Samples:
    """Stays of the month before the plan's, the last whose discharges were known, and of the months judged by."""
    before = shift(plan.month, -1)
    recent = _sampled(warehouse, MonthRange(before, before))
    return Samples(recent, _sampled(warehouse, plan.judged) if plan.judged else ())


def _sampled(warehouse: Warehouse, months: MonthRange) -> list[dict[str, Any]]:
    """Feature rows without identifiers, the same ones each time."""
    warehouse.ensure(FEATURE_TABLE)
    with warehouse.read(f"samples of {months}") as connection:
        rows = connection.execute(
            f"SELECT * FROM {Slice(FEATURE_TABLE, months)} ORDER BY hash(encounter_id) LIMIT {SAMPLES}"
        ).to_arrow_table()
    return [{name: value for name, value in row.items() if name not in IDENTIFIERS} for row in rows.to_pylist()]
