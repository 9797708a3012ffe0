"""SQL expressions that several features share."""

from __future__ import annotations

from collections.abc import Iterable


def cap(count: str, limit: float) -> str:
    """The count, at most ``limit``; NULL stays NULL (DuckDB's ``least`` would turn it into the limit)."""
    return f"(CASE WHEN {count} > {limit} THEN {limit} ELSE {count} END)"


def capped_log(count: str, limit: float) -> str:
    """Natural log of 1 + the count, capped: keeps the order, tames the tail, and does not drift with long histories."""
    return f"ln(1 + {cap(count, limit)})"


def ratio(part: str, whole: str) -> str:
    """``part / whole``; NULL where the whole is not positive."""
    return f"(CASE WHEN {whole} > 0 THEN {part} / {whole} END)"


def weighted_sum(terms: Iterable[tuple[str, int]]) -> str:
    """Sum of the weights of the conditions that hold; ``terms`` are (condition, weight)."""
    return (
        " + ".join(f"(CASE WHEN {condition} THEN {weight} ELSE 0 END)" for condition, weight in terms if weight) or "0"
    )


def has_bit(mask: str, bit: int) -> str:
    """Whether a bit of a UBIGINT mask is set; NULL where the mask is."""
    return f"(({mask} & {1 << bit}::UBIGINT) <> 0)"
