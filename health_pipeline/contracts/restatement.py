"""Restated months: what a corrected or late extract reaches downstream.

A month counts as restated for whatever was made from it before: the version that stood there then is compared with the
one that stands there now. Pure functions over record numbers and content hashes; nothing here reads a table.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Literal

from health_pipeline.months import Month, months_between

Change = Literal["corrected", "late", "withdrawn"]


@dataclass(frozen=True, slots=True)
class Version:
    """What a month of a table held from one record on.

    Attributes:
        record: number of the record; numbers grow with time.
        content: content hash; None for a month without rows.
    """

    record: int
    content: str | None


@dataclass(frozen=True, slots=True)
class Window:
    """Months of an input that month M reads: from M - ``before`` to M + ``after``."""

    before: int = 0
    after: int = 0

    def covers(self, month: Month, read: Month) -> bool:
        """Whether ``month`` reads ``read``."""
        return -self.before <= months_between(month, read) <= self.after


@dataclass(frozen=True, slots=True, order=True)
class Restatement:
    """A month of a landing table whose content is not what it was.

    Attributes:
        change: corrected (other rows), late (the month had none before), withdrawn (it has none now).
    """

    table: str
    month: Month
    change: Change


Made = Mapping[str, Mapping[Month, int]]
"""Record number of the newest materialisation, by table and month."""

Histories = Mapping[str, Mapping[Month, Sequence[Version]]]
"""Versions of each month, oldest first; months that never changed may be left out."""

Causes = frozenset[Restatement]


def change_since(history: Sequence[Version], record: int) -> Change | None:
    """How a month differs from what it held when the record was made; None when it does not."""
    then = next((version.content for version in reversed(history) if version.record < record), None)
    now = history[-1].content
    if then == now:
        return None
    return "late" if then is None else "withdrawn" if now is None else "corrected"


@dataclass(frozen=True)
class Restatements:
    """Everything that rests on restated months.

    Attributes:
        reads: inputs of each derived table with their windows; upstream tables first.
        made: stored months of the derived tables.
        histories: versions of the landed tables, of the features and of the labels.
    """

    reads: Mapping[str, Mapping[str, Window]]
    made: Made
    histories: Histories

    @cached_property
    def behind(self) -> Mapping[str, Mapping[Month, Causes]]:
        """Stored months of derived tables that would come out of other inputs today, each with the causes."""
        found: dict[str, dict[Month, Causes]] = {}
        for table, inputs in self.reads.items():
            for month, record in sorted(self.made.get(table, {}).items()):
                causes = self.causes(table, month, record)
                for source, window in inputs.items():
                    upstream = found.get(source, {}).items()
                    causes = causes.union(*(each for read, each in upstream if window.covers(month, read)))
                if causes:
                    found.setdefault(table, {})[month] = causes
        return found

    def causes(self, table: str, month: Month, record: int) -> Causes:
        """Landed months that changed since the record, among those that ``month`` of ``table`` goes back to."""
        found: set[Restatement] = set()
        for source, window in self.reads[table].items():
            for read, history in self.histories.get(source, {}).items():
                if history[-1].record < record or not window.covers(month, read):
                    continue
                change = change_since(history, record)
                if change is None or (change == "late" and self._is_new(source, read, month, record)):
                    continue
                if source in self.reads:
                    found |= self.causes(source, read, record)
                else:
                    found.add(Restatement(source, read, change))
        return frozenset(found)

    def changed_since(self, tables: Iterable[str], record: int) -> dict[Month, Causes]:
        """Months of derived tables that were made again with other rows since the record, or are behind."""
        changed: dict[Month, Causes] = {}
        for table in tables:
            for month, causes in self.behind.get(table, {}).items():
                changed[month] = changed.get(month, frozenset()) | causes
            for month, history in self.histories.get(table, {}).items():
                if history[-1].record > record and change_since(history, record) in {"corrected", "withdrawn"}:
                    changed[month] = changed.get(month, frozenset()) | self.causes(table, month, record)
        return {month: causes for month, causes in changed.items() if causes}

    def _is_new(self, source: str, read: Month, month: Month, record: int) -> bool:
        """Not late but first to come: what is derived, and a month after its reader (by which labels mature)."""
        never_ran = all(version.record > record for version in self.histories[source][read])
        return source in self.reads or (read > month and never_ran)
