"""Suppression of small numbers: a published count below the limit could point to a person.

The default limit of 11 is the cell size rule of the US Centers for Medicare & Medicaid Services (no cell below 11).
A zero says nothing about anybody and stays.
"""

from __future__ import annotations


def suppress_small(count: float | None, limit: int) -> float | None:
    """The count, or None when it is positive and below ``limit``."""
    return None if count is not None and 0 < count < limit else count


def shown_count(count: int | None, limit: int) -> str:
    """The count as text for people: ``<11`` instead of a small number, ``-`` for none."""
    if count is None:
        return "-"
    return f"<{limit}" if suppress_small(count, limit) is None else str(count)


def suppressed_sql(count: str, limit: int) -> str:
    """The same in SQL: NULL instead of a small number.

    Args:
        count: SQL expression of a count.
        limit: smallest count that is published.
    """
    return f"CASE WHEN {count} = 0 OR {count} >= {int(limit)} THEN {count} END"
