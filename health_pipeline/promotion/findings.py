"""A number held against a limit. Fails closed: what is missing or not finite never passes.

Belongs here: the comparisons that criteria are made of. Does not belong here: what is compared, and which decision
needs it (`criteria.py`).
"""

from __future__ import annotations

import operator
from collections.abc import Callable
from dataclasses import dataclass

from health_pipeline.promotion.evidence import Estimate, finite

Band = tuple[float, float]


@dataclass(frozen=True)
class Finding:
    """What a rule found, before it is given its name and severity; attributes as in :class:`Criterion`."""

    passed: bool
    detail: str
    value: float | None = None
    threshold: float | None = None
    applicable: bool = True
    near_miss: bool = False


def not_applicable(why: str) -> Finding:
    """The criterion says nothing here."""
    return Finding(True, f"not applicable: {why}", applicable=False)


def above(value: float | None, limit: float, margin: float, detail: str) -> Finding:
    """Passes strictly above the limit; near when within ``margin`` of it on either side."""
    return _compared(value, operator.gt, limit, margin, detail)


def at_least(value: float | None, limit: float, margin: float, detail: str) -> Finding:
    """Passes at or above the limit; near when within ``margin`` of it on either side."""
    return _compared(value, operator.ge, limit, margin, detail)


def at_most(value: float | None, limit: float, margin: float, detail: str) -> Finding:
    """Passes at or below the limit; near when within ``margin`` of it on either side."""
    return _compared(value, operator.le, limit, margin, detail)


def within(estimate: Estimate, band: Band, detail: str) -> Finding:
    """Passes when the value lies in the closed band; near when within a twentieth of its width of an end."""
    value = estimate.value
    if value is None:
        return _not_measured(band[0], detail)
    nearer = min(band, key=lambda end: abs(value - end))
    margin = (band[1] - band[0]) / 20
    return Finding(band[0] <= value <= band[1], detail, value, nearer, near_miss=abs(value - nearer) <= margin)


def _compared(
    value: float | None, passes: Callable[[float, float], bool], limit: float, margin: float, detail: str
) -> Finding:
    value = finite(value)
    if value is None:
        return _not_measured(limit, detail)
    return Finding(passes(value, limit), detail, value, limit, near_miss=abs(value - limit) <= margin)


def _not_measured(limit: float, detail: str) -> Finding:
    return Finding(False, f"not measured; {detail}", None, limit)
