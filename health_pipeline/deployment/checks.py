"""Checks of the deployment: each step's outcome guards the next, and the history's chain is whole."""

from __future__ import annotations

import json
from collections.abc import Sequence
from functools import partial
from typing import TYPE_CHECKING, Any

from health_pipeline.deployment.history import HISTORY
from health_pipeline.deployment.registry import CHAMPION as CHAMPION_ALIAS
from health_pipeline.deployment.steps import GOOD
from health_pipeline.deployment.tables import STEP_TABLES
from health_pipeline.errors import DeploymentError
from health_pipeline.months import Month, MonthRange
from health_pipeline.verdicts import Check, Number, Verdict
from health_pipeline.warehouse import Slice, Table, Warehouse

if TYPE_CHECKING:
    from health_pipeline.settings import Settings


def _rows(warehouse: Warehouse, table: Table, months: MonthRange) -> dict[Month, dict[str, Any]]:
    warehouse.ensure(table)
    with warehouse.read(f"check {table.qualified} {months}") as connection:
        rows = connection.execute(f"SELECT * FROM {Slice(table, months)}").to_arrow_table().to_pylist()
    return {row["month"]: row for row in rows}


def _step_passed(step: str, warehouse: Warehouse, months: MonthRange, settings: Settings) -> Sequence[Verdict]:
    del settings
    rows = _rows(warehouse, STEP_TABLES[step], months)
    return [_step_verdict(month, rows.get(month)) for month in months]


def _step_verdict(month: Month, row: dict[str, Any] | None) -> Verdict:
    if row is None:
        return Verdict(month, False, "the step was not run")
    numbers: dict[str, Number] = {"outcome": row["outcome"], "seconds": row["seconds"]}
    for finding in json.loads(row["findings"]):
        numbers[finding["name"]] = finding["outcome"]
    return Verdict(month, row["outcome"] in GOOD, f"{row['outcome']}: {row['summary']}", numbers=numbers)


def _chain(warehouse: Warehouse, months: MonthRange, settings: Settings) -> Sequence[Verdict]:
    """The log is whole, and holds every row that the table holds."""
    from health_pipeline.clock import system_clock
    from health_pipeline.deployment.shipping import history_of

    warehouse.ensure(HISTORY)
    with warehouse.read("verify deployment history") as connection:
        stored = connection.execute(f"SELECT sequence, row_hash FROM {HISTORY.qualified}").fetchall()
    history = history_of(settings, system_clock)
    try:
        problems, count = history.verify(dict(stored)), len(history.events())
    except DeploymentError as error:
        problems, count = [error.what], 0
    summary = "; ".join(problems[:3]) if problems else f"{count} rows, each follows the one before"
    return [
        Verdict(month, not problems, summary, numbers={"rows": count, "problems": len(problems)}) for month in months
    ]


def _production(warehouse: Warehouse, months: MonthRange, settings: Settings) -> Sequence[Verdict]:
    """History, registry alias and traffic name the same model."""
    del warehouse
    from health_pipeline.deployment.recovery import last_promoted, open_transition
    from health_pipeline.deployment.shipping import tools_of

    tools = tools_of(settings)
    try:
        events = tools.history.events()
    except DeploymentError as error:
        return [Verdict(month, False, error.what) for month in months]
    promoted, transition = last_promoted(events), open_transition(events)
    if transition is not None:
        summary, passed = f"the {transition.event.step} of {transition.event.model_id} has not ended", False
        return [Verdict(month, passed, summary, "WARN") for month in months]
    expected = promoted.model_id if promoted is not None else None
    numbers: dict[str, Number] = {"history": expected}
    try:
        serving = tools.target.serving()
        numbers |= {
            "traffic": serving.model_id if serving is not None else None,
            "alias": tools.registry.holder(CHAMPION_ALIAS),
        }
    except DeploymentError as error:
        return [Verdict(month, False, error.what, numbers=numbers) for month in months]
    passed = set(numbers.values()) == {expected}
    summary = f"{expected or 'nothing'} serves" if passed else f"they disagree: {numbers}"
    return [Verdict(month, passed, summary, numbers=numbers) for month in months]


CHECKS: tuple[Check, ...] = (
    *(
        Check(
            "passed",
            table.qualified,
            "The step passed, had nothing to do, or was rightly skipped; no data counts as a failure.",
            partial(_step_passed, step),
            blocking=True,
        )
        for step, table in STEP_TABLES.items()
    ),
    Check("chain_is_whole", HISTORY.qualified, "No row was changed, removed, inserted or cut off.", _chain),
    Check(
        "production_agrees", HISTORY.qualified, "History, registry alias and traffic name the same model.", _production
    ),
)
