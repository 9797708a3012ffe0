"""What rests on restated months and how to bring it up to date, for the check, the command line and the re-run."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from functools import cached_property

from health_pipeline.contracts.restated_decisions import TouchedDecision
from health_pipeline.contracts.restatement import Causes, Restatement
from health_pipeline.months import Month, MonthRange, shift
from health_pipeline.verdicts import Verdict

EXTRACTS = "group:bronze,group:silver,gold/features,gold/cohort_attrition"
TABLES = ("gold.features", "gold.cohort_attrition", "gold.labels")
"""Cheap to make again, and safe: no decision is changed by it."""

RESULTS = "group:models,group:scoring,group:monitoring"
"""Everything that follows from features and labels, the decisions included."""

REMEDY = "health-pipeline restated list"
SHOWN = 6


@dataclass(frozen=True, slots=True)
class Rerun:
    """Months of assets to be made again, as ``health-pipeline run`` takes them."""

    select: str
    months: MonthRange

    @property
    def command(self) -> str:
        """The exact command."""
        return (
            f"health-pipeline run --from {self.months.first:%Y-%m} --to {self.months.last:%Y-%m} --select {self.select}"
        )


@dataclass(frozen=True)
class Review:
    """Restated months and what rests on them.

    Attributes:
        waiting: months whose file is newer than what was read from it; not run yet.
        behind: stored months of derived tables that would come out of other inputs today.
        decisions: champion decisions that saw other features or labels than there are today.
        last_model_month: newest month with a decision; None without any.
    """

    waiting: tuple[Month, ...]
    behind: Mapping[str, Mapping[Month, Causes]]
    decisions: tuple[TouchedDecision, ...]
    last_model_month: Month | None

    @cached_property
    def restated(self) -> tuple[Restatement, ...]:
        """Landed months that something still rests on in an earlier version."""
        causes = [each for months in self.behind.values() for each in months.values()]
        causes += [decision.causes for decision in self.decisions]
        return tuple(sorted(frozenset().union(*causes)))

    def months_behind(self, cause: Restatement, table: str) -> list[Month]:
        """Months of a table that a restated month has left behind."""
        return [month for month, causes in self.behind.get(table, {}).items() if cause in causes]

    def decisions_on(self, cause: Restatement) -> list[TouchedDecision]:
        """Decisions that rest on a restated month."""
        return [decision for decision in self.decisions if cause in decision.causes]

    def resting_on(self, cause: Restatement) -> dict[str, list[Month]]:
        """Months that a restated month has left behind, by table; all that follows from models as one."""
        found = {table: self.months_behind(cause, table) for table in TABLES}
        results = {month for table in self.behind if table not in TABLES for month in self.months_behind(cause, table)}
        found["models and what follows"] = sorted(results)
        return {name: months for name, months in found.items() if months}

    @property
    def extract_reruns(self) -> list[Rerun]:
        """Months that landed again and were not read yet."""
        return [Rerun(EXTRACTS, months) for months in stretches(self.waiting)]

    @property
    def table_reruns(self) -> list[Rerun]:
        """Features, labels and attrition that are behind."""
        return [
            Rerun(table.replace(".", "/"), months)
            for table in TABLES
            for months in stretches(self.behind.get(table, {}))
        ]

    @property
    def result_rerun(self) -> Rerun | None:
        """Models, decisions, predictions and monitoring, from the first month that is touched to the newest."""
        touched = {decision.month for decision in self.decisions}
        touched |= {month for table, months in self.behind.items() if table not in TABLES for month in months}
        if not touched:
            return None
        last = max(touched | {self.last_model_month} if self.last_model_month else touched)
        return Rerun(RESULTS, MonthRange(min(touched), last))

    def verdict(self, table: str, month: Month) -> Verdict:
        """Whether a landed month was restated after something had been made from it, and what that is."""
        found = [cause for cause in self.restated if (cause.table, cause.month) == (table, month)]
        if not found:
            return unchanged(month)
        resting = self.resting_on(found[0])
        decisions = self.decisions_on(found[0])
        parts = [f"{name} of {spans(months)}" for name, months in resting.items()]
        told = [f"{decision.month:%Y-%m} {decision.decision}" for decision in decisions]
        if told:
            more = f" and {len(told) - SHOWN} more" if len(told) > SHOWN else ""
            parts.append(f"the decisions {', '.join(told[:SHOWN])}{more}")
        return Verdict(
            month,
            passed=False,
            summary=f"{found[0].change} after it had been used; resting on what it was: {'; '.join(parts)}"
            f" ({REMEDY} shows the re-run)",
            severity="WARN",
            numbers={
                "change": found[0].change,
                "months_behind": sum(len(months) for months in resting.values()),
                "decisions_touched": len(decisions),
            },
        )


def unchanged(month: Month) -> Verdict:
    """The verdict on a month that nothing rests on in an earlier version."""
    return Verdict(month, passed=True, summary="nothing rests on an earlier version of this month", severity="WARN")


def stretches(months: Iterable[Month]) -> list[MonthRange]:
    """Months as ranges without gaps."""
    found: list[MonthRange] = []
    for month in sorted(months):
        if found and shift(found[-1].last, 1) == month:
            found[-1] = MonthRange(found[-1].first, month)
        else:
            found.append(MonthRange(month, month))
    return found


def spans(months: Iterable[Month]) -> str:
    """Months in words, such as ``2022-01..2022-03, 2022-05``."""
    found = [str(span) for span in stretches(months)]
    return ", ".join(found[:SHOWN]) + (f" and {len(found) - SHOWN} more stretches" if len(found) > SHOWN else "")
