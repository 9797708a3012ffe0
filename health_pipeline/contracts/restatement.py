"""Restated months: what a corrected or late extract reaches downstream, and which champion decisions rest on it.

Pure functions over content hashes of slices and windows of decisions; nothing here reads a table.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any, Literal

from health_pipeline.months import Month, MonthRange, shift

SliceKey = tuple[str, Month]
"""Table (``schema.name``) and month."""

Change = Literal["corrected", "late", "withdrawn"]


@dataclass(frozen=True, slots=True)
class Restatement:
    """A slice of a closed month whose content is not what it was.

    Attributes:
        change: corrected (other rows), late (the month had none before), withdrawn (it has none now).
    """

    table: str
    month: Month
    change: Change


@dataclass(frozen=True, slots=True)
class Reach:
    """How far a month of a table is felt downstream.

    Attributes:
        features_after: later months whose features read it; None means all of them.
        labels_before: earlier months whose labels read it.
        labels_after: later months whose labels read it.
    """

    features_after: int | None
    labels_before: int
    labels_after: int


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
    """

    month: Month
    decision: str
    model_id: str | None
    fitted: tuple[Month, ...]
    judged: tuple[Month, ...]


def restatements(
    before: Mapping[SliceKey, str], after: Mapping[SliceKey, str], *, closed_until: Month
) -> list[Restatement]:
    """Slices up to ``closed_until`` whose content hash changed.

    Args:
        before: content hash by table and month as last used downstream; a slice without rows is left out.
        after: the same as stored now.
        closed_until: last month that was complete when it was last used; later ones arrive for the first time.
    """
    found = []
    for table, month in sorted(before.keys() | after.keys()):
        old, new = before.get((table, month)), after.get((table, month))
        if old == new or month > closed_until:
            continue
        change: Change = "late" if old is None else "withdrawn" if new is None else "corrected"
        found.append(Restatement(table, month, change))
    return found


def touched_months(
    restated: Iterable[Restatement], reaches: Mapping[str, Reach], last: Month
) -> tuple[set[Month], set[Month]]:
    """Months whose features, and months whose labels, have to be made again.

    Args:
        restated: what changed.
        reaches: by table; a table without a reach touches nothing.
        last: last month of the partitions.

    Returns:
        Months of features, months of labels.
    """
    features: set[Month] = set()
    labels: set[Month] = set()
    for each in restated:
        reach = reaches.get(each.table)
        if reach is None:
            continue
        until = last if reach.features_after is None else min(last, shift(each.month, reach.features_after))
        features |= set(_span(each.month, until))
        labels |= set(_span(shift(each.month, -reach.labels_before), min(last, shift(each.month, reach.labels_after))))
    return features, labels


def touched_decisions(
    features: set[Month], labels: set[Month], decisions: Iterable[DecisionWindow]
) -> list[TouchedDecision]:
    """Past decisions that rest on any touched month, by month.

    They stay as they are, because they were right on what was known; this list says where to look again.
    """
    touched = features | labels
    found = []
    for each in sorted(decisions, key=lambda decision: decision.month):
        fitted = tuple(month for month in each.fitted or () if month in touched)
        judged = tuple(month for month in each.judged or () if month in touched)
        if fitted or judged:
            found.append(TouchedDecision(each.month, each.decision, each.model_id, fitted, judged))
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


def _span(first: Month, last: Month) -> Iterable[Month]:
    return MonthRange(first, last) if first <= last else ()
