"""What is due: the next steps of each month, read off what has landed and what is stored.

Belongs here: the rules by which sensors and the schedule ask for runs. Level-triggered: they look at the state, not
at events, so a restart neither misses nor repeats a step. Does not belong here: Dagster's storage, which hands it in.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from enum import StrEnum

from health_pipeline.months import Month, shift

SCORED = ("gold.predictions", "monitoring.drift", "monitoring.performance")
"""What has to be there of a month that has closed, besides its models."""


@dataclass(frozen=True)
class Ingest:
    """What bronze holds of a month.

    Attributes:
        fingerprints: of the landed files that each table was read from; a table without files is absent.
        record: record number of its newest materialisation.
    """

    fingerprints: Mapping[str, str]
    record: int


class Stage(StrEnum):
    """A run that can be due for a month.

    ``IMPROVEMENT`` makes everything from the models to the figures of a closed month. Where drift has asked for a
    model before the month closed (``RETRAIN``: the models alone), what is left of it is ``SCORING``.
    """

    EXTRACTS = "extracts"
    LABELS = "labels"
    RETRAIN = "retrain"
    IMPROVEMENT = "improvement"
    SCORING = "scoring"
    PERFORMANCE = "performance"


@dataclass(frozen=True)
class State:
    """What has landed and what is stored.

    Attributes:
        landed: per month and table, the fingerprint of the landed files; settled months only.
        stored: per table (``schema.name``) and month, the record number of its newest materialisation; numbers grow.
        ingested: per month, what bronze holds.
        first_model_month: first month that has models.
    """

    landed: Mapping[Month, Mapping[str, str]]
    stored: Mapping[str, Mapping[Month, int]]
    ingested: Mapping[Month, Ingest]
    first_model_month: Month

    def record(self, table: str, month: Month) -> int:
        """Record number; 0 when the month is not stored."""
        return self.stored.get(table, {}).get(month, 0)


@dataclass(frozen=True)
class Due:
    """A stage of a month that should run now.

    ``cause`` changes whenever the inputs change, so that each cause asks for its run once.
    """

    stage: Stage
    month: Month
    cause: str

    @property
    def key(self) -> str:
        """Identity of the request."""
        return f"{self.stage}:{self.month:%Y-%m}:{self.cause}"


def due(state: State) -> Iterator[Due]:
    """Everything that can run now, oldest month first within each stage."""
    yield from _extracts(state)
    yield from _labels(state)
    yield from _improvements(state)
    yield from _performance(state)


def _extracts(state: State) -> Iterator[Due]:
    """A month whose landed files are not those in bronze, or whose run did not get from bronze to its features."""
    for month, fingerprints in sorted(state.landed.items()):
        ingest = state.ingested.get(month)
        complete = state.record("gold.features", month)
        if ingest is None or ingest.fingerprints != fingerprints or ingest.record > complete:
            files = hashlib.sha256(repr(sorted(fingerprints.items())).encode()).hexdigest()[:12]
            # A file that goes back to what it was is a new cause: the features have been stored in between.
            yield Due(Stage.EXTRACTS, month, f"{files}-{complete}")


def _labels(state: State) -> Iterator[Due]:
    """Labels of M mature when M+1 has closed, and are made again when either month was restated."""
    for month in sorted(state.stored.get("silver.admissions", {})):
        own, following = (state.record("silver.admissions", each) for each in (month, shift(month, 1)))
        if following and max(own, following) > state.record("gold.labels", month):
            yield Due(Stage.LABELS, month, f"{max(own, following)}")


def _improvements(state: State) -> Iterator[Due]:
    """The oldest month without a champion; the next one follows once this one is decided.

    Months with a champion but without scores are ones whose model was made before they closed, or whose run broke off.
    """
    for month in sorted(state.stored.get("gold.features", {})):
        if month < state.first_model_month:
            continue
        if champion := state.record("models.champion", month):
            if not all(state.record(table, month) for table in SCORED):
                yield Due(Stage.SCORING, month, f"{champion}")
            continue
        before = shift(month, -1)
        has_incumbent = month == state.first_model_month or state.record("models.champion", before)
        newest_labels = state.record("gold.labels", shift(month, -2))
        if has_incumbent and newest_labels:
            yield Due(Stage.IMPROVEMENT, month, f"{newest_labels}")
        return


def _performance(state: State) -> Iterator[Due]:
    for month in sorted(state.stored.get("gold.predictions", {})):
        labels, measured = state.record("gold.labels", month), state.record("monitoring.performance", month)
        if labels > measured > 0:
            yield Due(Stage.PERFORMANCE, month, f"{labels}")
