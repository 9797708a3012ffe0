"""Calendar months: the one unit of time of every table, partition and decision.

A month is a :class:`datetime.date` on its first day; its key is ``YYYY-MM-01``.
"""

from __future__ import annotations

import datetime as dt
import re
from collections.abc import Iterator
from dataclasses import dataclass

Month = dt.date

_MONTH_PATTERN = re.compile(r"^(\d{4})-(\d{2})(-01)?$")


def parse_month(text: str) -> Month:
    """Read ``YYYY-MM`` or ``YYYY-MM-01``.

    Raises:
        ValueError: the text is not a month.
    """
    match = _MONTH_PATTERN.match(text.strip())
    if match is None or not 1 <= int(match[2]) <= 12 or int(match[1]) < 1:
        raise ValueError(f"not a month: {text!r} (expected YYYY-MM)")
    return dt.date(int(match[1]), int(match[2]), 1)


def month_key(month: Month) -> str:
    """``YYYY-MM-01``, the partition key of a month."""
    return f"{month:%Y-%m}-01"


def shift(month: Month, months: int) -> Month:
    """The month that lies ``months`` later (earlier when negative)."""
    index = month.year * 12 + month.month - 1 + months
    return dt.date(index // 12, index % 12 + 1, 1)


def months_between(first: Month, last: Month) -> int:
    """Number of steps from ``first`` to ``last``; negative when ``last`` is earlier."""
    return (last.year - first.year) * 12 + last.month - first.month


@dataclass(frozen=True, slots=True)
class MonthRange:
    """All months from ``first`` to ``last``, both included; never empty."""

    first: Month
    last: Month

    def __post_init__(self) -> None:
        if self.first.day != 1 or self.last.day != 1:
            raise ValueError("a month is a date on the first day")
        if self.last < self.first:
            raise ValueError(f"the range ends ({self.last:%Y-%m}) before it begins ({self.first:%Y-%m})")

    @classmethod
    def of(cls, first: str, last: str | None = None) -> MonthRange:
        """From texts such as ``2022-01``; one month when ``last`` is left out."""
        return cls(parse_month(first), parse_month(last or first))

    @property
    def end(self) -> dt.date:
        """First day after the range."""
        return shift(self.last, 1)

    def __iter__(self) -> Iterator[Month]:
        for index in range(len(self)):
            yield shift(self.first, index)

    def __len__(self) -> int:
        return months_between(self.first, self.last) + 1

    def __contains__(self, month: object) -> bool:
        return isinstance(month, dt.date) and self.first <= month <= self.last

    def __str__(self) -> str:
        return f"{self.first:%Y-%m}" if len(self) == 1 else f"{self.first:%Y-%m}..{self.last:%Y-%m}"

    def keys(self) -> list[str]:
        """Partition keys, in order."""
        return [month_key(month) for month in self]

    def stretches(self, length: int) -> list[MonthRange]:
        """The range cut into pieces of at most ``length`` months, in order."""
        starts = [shift(self.first, index) for index in range(0, len(self), length)]
        return [MonthRange(start, min(shift(start, length - 1), self.last)) for start in starts]

    def widen(self, before: int = 0, after: int = 0) -> MonthRange:
        """The range with ``before`` months added in front and ``after`` behind."""
        return MonthRange(shift(self.first, -before), shift(self.last, after))
