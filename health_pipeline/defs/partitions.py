"""Monthly partitions of the graph, and the windows through which assets see each other's months.

Belongs here: which months exist for which asset. Does not belong here: what a month contains.
"""

from __future__ import annotations

from dataclasses import dataclass

import dagster as dg

from health_pipeline.months import Month, MonthRange, month_key, parse_month, shift
from health_pipeline.settings import Settings

HISTORY_MONTHS = 1200
"""Offset that reaches before any first month: "all earlier months"."""


@dataclass(frozen=True)
class Partitions:
    """Months of the four kinds of assets.

    Attributes:
        extracts: every month of the settings; bronze, silver, quarantine, features, attrition.
        labels: months whose outcome is known because the month after them has closed.
        scored: closed months with enough history for a model; scoring, monitoring.
        models: the same and the month that has not closed yet, whose model can exist when it begins; models,
            deployment.
    """

    extracts: dg.TimeWindowPartitionsDefinition
    labels: dg.TimeWindowPartitionsDefinition
    scored: dg.TimeWindowPartitionsDefinition
    models: dg.TimeWindowPartitionsDefinition

    @classmethod
    def of(cls, settings: Settings) -> Partitions:
        """Months between ``start_month`` and ``end_month`` (or the last closed month when that is open)."""
        end = None if settings.end_month is None else shift(settings.end_month, 1)
        return cls(
            extracts=_monthly(settings.start_month, end),
            labels=_monthly(settings.start_month, end and shift(end, -1), beyond=-1),
            scored=_monthly(settings.first_model_month, end),
            models=_monthly(settings.first_model_month, end, beyond=1),
        )


def _monthly(start: Month, end: Month | None, beyond: int = 0) -> dg.TimeWindowPartitionsDefinition:
    """Months up to ``end``, or, where that is open, up to ``beyond`` months after the last closed one."""
    if end is not None and end <= start:
        end = start
    return dg.MonthlyPartitionsDefinition(
        start_date=month_key(start),
        end_date=None if end is None else month_key(end),
        end_offset=0 if end is not None else beyond,
    )


def window(before: int = 0, after: int = 0) -> dg.TimeWindowPartitionMapping:
    """Month M reads its input from ``before`` months earlier to ``after`` months later.

    Months that do not exist (before the first extract, after the last) are simply not there.
    """
    return dg.TimeWindowPartitionMapping(
        start_offset=-before, end_offset=after, allow_nonexistent_upstream_partitions=True
    )


def range_of(context: dg.AssetExecutionContext | dg.AssetCheckExecutionContext) -> MonthRange:
    """Months a run materialises or checks."""
    keys = context.partition_key_range
    return MonthRange(parse_month(keys.start), parse_month(keys.end))


def clip(partitions: dg.TimeWindowPartitionsDefinition, months: MonthRange) -> MonthRange | None:
    """The part of ``months`` that exists in ``partitions``; None when there is none."""
    first, last = partitions.get_first_partition_key(), partitions.get_last_partition_key()
    if first is None or last is None:
        return None
    start, end = max(months.first, parse_month(first)), min(months.last, parse_month(last))
    return MonthRange(start, end) if start <= end else None
