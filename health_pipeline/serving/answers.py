"""Questions to the engine, its answers, and why it may have none."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import NamedTuple

import msgspec

from health_pipeline.serving.live import Live
from health_pipeline.serving.schema import Record


class Answer(msgspec.Struct, omit_defaults=True):
    """One record's part of the answer."""

    probability: float
    label: bool
    model_id: str
    contributions: Mapping[str, float] | None = None


class Answers(msgspec.Struct):
    """Body of the answer; the order is the order of the records."""

    predictions: list[Answer]


class Question(NamedTuple):
    """A request for the scores of a few records, decoded.

    Attributes:
        live: state whose schema decoded them.
        records: at least one.
    """

    live: Live
    records: Sequence[Record]


class ScoringError(Exception):
    """No release could score the records; the message holds no value."""


class NotExplainableError(Exception):
    """Contributions were asked of a model that cannot give them."""


class UnknownReleaseError(Exception):
    """A request asks for a release that is not loaded."""
