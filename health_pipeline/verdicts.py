"""What a quality check says: one verdict per month, in the words of the domain.

A room offers its checks as ``CHECKS: tuple[Check, ...]`` in ``<room>/checks.py``; ``defs/checks.py`` binds
them to Dagster asset checks. A verdict never holds a value of a patient.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Literal

from health_pipeline.months import Month, MonthRange

if TYPE_CHECKING:
    from health_pipeline.settings import Settings
    from health_pipeline.warehouse import Warehouse

Severity = Literal["WARN", "ERROR"]
Number = float | int | str | bool | None


@dataclass(frozen=True, slots=True)
class Verdict:
    """Outcome of one check in one month.

    ``numbers`` are aggregates (counts, rates, statistics) to be shown beside the verdict.
    """

    month: Month
    passed: bool
    summary: str
    severity: Severity = "ERROR"
    numbers: Mapping[str, Number] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class Check:
    """A named guard on one table.

    Attributes:
        name: snake case, unique within the table.
        table: ``schema.name`` of the guarded table.
        description: what it guards and why.
        blocking: a failure with severity ERROR keeps downstream assets from running.
        evaluate: reads the warehouse and returns one verdict for **each** month of the range.
        reads: other tables (``schema.name``) that it compares with; a run brings them up to date first.
    """

    name: str
    table: str
    description: str
    evaluate: Callable[[Warehouse, MonthRange, Settings], Sequence[Verdict]]
    blocking: bool = False
    reads: tuple[str, ...] = ()
