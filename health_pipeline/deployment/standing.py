"""How a model stands with production, by the history: whether it may be deployed without a person asking."""

from __future__ import annotations

from collections.abc import Sequence
from enum import StrEnum

from health_pipeline.deployment.history import Event
from health_pipeline.deployment.steps import GOOD
from health_pipeline.months import Month, month_key

JUDGING = frozenset({"api_tests", "rollout", "verification", "health"})
"""Steps whose failure is a verdict on the release. The others fail for want of a tool or a server, which come back."""


class Standing(StrEnum):
    """What the history says of a model that is to serve.

    ``OPEN``: nothing has ended its way; a kill in the middle or a server that was away is no verdict.
    ``PROMOTED``: it has served. If it does not now, somebody took it back.
    ``OVERTAKEN``: a model of a later month was promoted.
    ``REFUSED``: it failed its tests, its canary, verification or health.
    """

    OPEN = "open"
    PROMOTED = "promoted"
    OVERTAKEN = "overtaken"
    REFUSED = "refused"


def standing(events: Sequence[Event], month: Month, model_id: str) -> tuple[Standing, Event | None]:
    """How the model of a month stands, and the event that says so.

    Args:
        events: the history, oldest first.
        month: whose decision wants the model.
        model_id: the model.
    """
    for event in reversed(events):
        if event.step == "promotion" and event.outcome in {"pass", "no-op"}:
            if event.model_id == model_id:
                return Standing.PROMOTED, event
            if event.month > month_key(month):
                return Standing.OVERTAKEN, event
    for event in reversed(events):
        if event.model_id == model_id and event.step in JUDGING and event.outcome not in GOOD | {"started"}:
            return Standing.REFUSED, event
    return Standing.OPEN, None
