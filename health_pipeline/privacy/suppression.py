"""Suppression of small numbers: a published count below the limit could point to a person.

The default limit of 11 is the cell size rule of the US Centers for Medicare & Medicaid Services (no cell below 11).
A zero says nothing about anybody and stays.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping
from typing import TypeVar

Group = TypeVar("Group", str, tuple[str, str])

FREE_TEXT = frozenset({"race"})
"""Characteristics of patients whose words no contract limits: anything may stand there, a misplaced name too."""
POOLED = "other"
"""What stands for words of free text that few rows hold."""


def suppress_small(count: float | None, limit: int) -> float | None:
    """The count, or None when it is positive and below ``limit``."""
    return None if count is not None and 0 < count < limit else count


def shown_count(count: int | None, limit: int) -> str:
    """The count as text for people: ``<11`` instead of a small number, ``-`` for none."""
    if count is None:
        return "-"
    return f"<{limit}" if suppress_small(count, limit) is None else f"{count:,}"


def hidden_groups(counts: Mapping[Group, int], small: Collection[Group], limit: int) -> set[Group]:
    """Groups to hide: the small ones, and a further one where the rows of these could be found by subtraction.

    Args:
        counts: rows by group; all groups together are the rows whose number is published.
        small: groups that are hidden anyhow.
        limit: smallest count that is published.
    """
    hidden = set(small)
    others = [(count, group) for group, count in counts.items() if group not in hidden]
    if others and 0 < sum(counts[group] for group in hidden) < limit:
        hidden.add(min(others)[1])
    return hidden


def shown_words(counts: Mapping[str, int], limit: int) -> dict[str, str]:
    """Each word of a free text, or :data:`POOLED` where fewer rows than ``limit`` hold it."""
    return {word: word if count >= limit else POOLED for word, count in counts.items()}


def suppressed_sql(count: str, limit: int) -> str:
    """The same in SQL: NULL instead of a small number.

    Args:
        count: SQL expression of a count.
        limit: smallest count that is published.
    """
    return f"CASE WHEN {count} = 0 OR {count} >= {int(limit)} THEN {count} END"
