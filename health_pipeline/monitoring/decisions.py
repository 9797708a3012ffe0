"""The decision log: which model was put in force in which month, and why."""

from __future__ import annotations

import json
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from health_pipeline.months import Month, MonthRange
from health_pipeline.promotion.tables import CHAMPION
from health_pipeline.warehouse.slices import Slice

if TYPE_CHECKING:
    from health_pipeline.warehouse import Warehouse


@dataclass(frozen=True)
class Decision:
    """One row of ``models.champion``, read for people.

    Attributes:
        month: month the decision is for.
        decision: ``INITIAL``, ``DEPLOY``, ``DEPLOY_REFRESH`` or ``SKIP``.
        model_id: model in force; None when none ever passed.
        model_month: month that model was trained for.
        challenger_id: best candidate of the month.
        incumbent_id: champion of the month before.
        failed: criteria that did not pass.
        near_misses: criteria that the gates call near misses, passed or not.
        reason: the reasoning as text.
        next_training_date: when the next challenger is worth training.
        criteria: every criterion with its numbers.
    """

    month: Month
    decision: str
    model_id: str | None
    model_month: Month | None
    challenger_id: str | None
    incumbent_id: str | None
    failed: tuple[str, ...]
    near_misses: tuple[str, ...]
    reason: str
    next_training_date: Month | None
    criteria: tuple[dict[str, Any], ...]


def decisions(
    warehouse: Warehouse, months: MonthRange, *, decision: str | None = None, model_id: str | None = None
) -> list[Decision]:
    """Decisions of the months, oldest first.

    Args:
        warehouse: with ``models.champion``; a table that was never written holds no decisions.
        months: months to list.
        decision: only these decisions, for instance ``DEPLOY``.
        model_id: only months that name this model as champion, challenger or incumbent.
    """
    warehouse.ensure(CHAMPION)
    with warehouse.read(f"decisions {months}") as connection:
        rows = (
            connection.execute(
                f"SELECT * FROM {Slice(CHAMPION, months)} WHERE ($decision IS NULL OR decision = $decision) "
                "AND ($model IS NULL OR $model IN (model_id, challenger_id, incumbent_id)) ORDER BY month",
                {"decision": decision, "model": model_id},
            )
            .to_arrow_table()
            .to_pylist()
        )
    return [_decision(row) for row in rows]


def _decision(row: dict[str, Any]) -> Decision:
    criteria = tuple(json.loads(row["criteria"]))
    return Decision(
        month=row["month"],
        decision=row["decision"],
        model_id=row["model_id"],
        model_month=row["model_month"],
        challenger_id=row["challenger_id"],
        incumbent_id=row["incumbent_id"],
        failed=tuple(item["criterion"] for item in criteria if not item["passed"]),
        near_misses=tuple(item["criterion"] for item in criteria if item.get("near_miss")),
        reason=row["reason"],
        next_training_date=row["next_training_date"],
        criteria=criteria,
    )
