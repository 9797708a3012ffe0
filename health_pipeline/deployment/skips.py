"""The skip report: why the challenger of a month does not serve, with comparison, criteria and advice."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from typing import Any

from health_pipeline.deployment.history import Event
from health_pipeline.deployment.recovery import last_promoted
from health_pipeline.months import MonthRange
from health_pipeline.promotion import CHAMPION, Outcome
from health_pipeline.warehouse import Slice, Warehouse


def skip_rows(warehouse: Warehouse, months: MonthRange, events: Sequence[Event]) -> list[dict[str, Any]]:
    """One row per month with a decision.

    Args:
        warehouse: holds ``models.champion``.
        months: which ones.
        events: the deployment history.
    """
    with warehouse.read(f"skip report {months}") as connection:
        rows = (
            connection.execute(f"SELECT * FROM {Slice(CHAMPION, months)} ORDER BY month").to_arrow_table().to_pylist()
        )
    promoted = last_promoted(events)
    return [_row(row, promoted.model_id if promoted is not None else None) for row in rows]


def _row(champion: Mapping[str, Any], serving_id: str | None) -> dict[str, Any]:
    criteria = [item for item in json.loads(champion["criteria"] or "[]") if not item["passed"]]
    advice: list[str] = json.loads(champion["recommendations"] or "[]")
    is_skipped = champion["decision"] == Outcome.SKIP
    return {
        "month": champion["month"],
        "is_skipped": is_skipped,
        "decision": champion["decision"],
        "challenger_id": champion["challenger_id"],
        "incumbent_id": champion["incumbent_id"],
        "serving_id": serving_id,
        "comparison": champion["reason"],
        "criteria": json.dumps(criteria, sort_keys=True),
        "recommendations": json.dumps(advice),
        "next_training_date": champion["next_training_date"],
        "report": _markdown(champion, serving_id, criteria, advice, is_skipped=is_skipped),
    }


def _markdown(
    champion: Mapping[str, Any],
    serving_id: str | None,
    criteria: Sequence[Mapping[str, Any]],
    advice: Sequence[str],
    *,
    is_skipped: bool,
) -> str:
    month = f"{champion['month']:%Y-%m}"
    title = f"# {month}: not deployed" if is_skipped else f"# {month}: {champion['decision']}"
    lines = [title, "", champion["reason"], "", f"In production: {serving_id or 'nothing'}."]
    if criteria:
        lines += ["", "| criterion | value | threshold | what |", "|---|---|---|---|"]
        lines += [
            f"| {item['criterion']} | {_number(item['value'])} | {_number(item['threshold'])} | {item['detail']} |"
            for item in criteria
        ]
    if advice:
        lines += ["", "Next:", *(f"- {item}" for item in advice)]
    if champion["next_training_date"] is not None:
        lines += ["", f"Next training worth its while: {champion['next_training_date']:%Y-%m-%d}."]
    return "\n".join(lines)


def _number(value: float | None) -> str:
    return "" if value is None else f"{value:.4g}"
