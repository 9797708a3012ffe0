"""The clock is a parameter: data logic never asks for the time, and what records time gets it from here."""

from __future__ import annotations

import datetime as dt
from collections.abc import Callable

Clock = Callable[[], dt.datetime]


def system_clock() -> dt.datetime:
    """Now, in UTC."""
    return dt.datetime.now(dt.UTC)


def frozen_clock(moment: dt.datetime) -> Clock:
    """A clock that stands still, for tests and replays."""
    return lambda: moment
