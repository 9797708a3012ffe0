"""Champion decisions that rest on restated months: pure functions over the stored rows and what changed."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from typing import Any

from health_pipeline.contracts.restatement import Causes
from health_pipeline.months import Month, MonthRange


@dataclass(frozen=True, slots=True)
class DecisionWindow:
    """Months a champion decision rests on: what its models were fitted and judged on.

    Attributes:
        month: month of the decision.
        decision: INITIAL, DEPLOY, DEPLOY_REFRESH or SKIP.
        fitted: training and validation months of the models compared; None when nothing was fitted.
        judged: holdout months; None when nothing was judged.
    """

    month: Month
    decision: str
    model_id: str | None
    fitted: MonthRange | None
    judged: MonthRange | None


@dataclass(frozen=True, slots=True)
class TouchedDecision:
    """A decision that rests on restated months.

    Attributes:
        fitted: features or labels of these months went into the fit.
        judged: features or labels of these months went into the verdict.
        causes: landed months that were restated.
    """

    month: Month
    decision: str
    model_id: str | None
    fitted: tuple[Month, ...]
    judged: tuple[Month, ...]
    causes: Causes


def touched_decisions(
    decisions: Iterable[DecisionWindow], changed_for: Callable[[Month], Mapping[Month, Causes]]
) -> list[TouchedDecision]:
    """Past decisions that rest on any restated month, by month.

    They stay as they are, because they were right on what was known; this list says where to look again.

    Args:
        decisions: windows of all decisions.
        changed_for: months whose features or labels are not what the decision of a month saw, with the causes.
    """
    found = []
    for each in sorted(decisions, key=lambda decision: decision.month):
        changed = changed_for(each.month)
        fitted = tuple(month for month in each.fitted or () if month in changed)
        judged = tuple(month for month in each.judged or () if month in changed)
        if fitted or judged:
            causes: Causes = frozenset().union(*(changed[month] for month in (*fitted, *judged)))
            found.append(TouchedDecision(each.month, each.decision, each.model_id, fitted, judged, causes))
    return found


def decision_windows(
    champions: Iterable[Mapping[str, Any]], models: Iterable[Mapping[str, Any]]
) -> list[DecisionWindow]:
    """Windows of past decisions, from the stored rows.

    Args:
        champions: rows of ``models.champion``: month, decision, model_id, challenger_id, incumbent_id, holdout_first,
            holdout_last.
        models: rows of ``models.<family>`` of all families: model_id, training_first, validation_last; skipped months
            have no model_id and are passed over.
    """
    fitted = {
        row["model_id"]: MonthRange(row["training_first"], row["validation_last"])
        for row in models
        if row["model_id"] and row["training_first"] and row["validation_last"]
    }
    found = []
    for row in champions:
        compared = {row["model_id"], row["challenger_id"], row["incumbent_id"]}
        spans = [fitted[model] for model in compared if model in fitted]
        first, last = row["holdout_first"], row["holdout_last"]
        found.append(
            DecisionWindow(
                row["month"],
                row["decision"],
                row["model_id"],
                fitted=MonthRange(min(each.first for each in spans), max(each.last for each in spans))
                if spans
                else None,
                judged=MonthRange(first, last) if first and last else None,
            )
        )
    return found
