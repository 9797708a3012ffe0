"""What is due: the next steps of each month, read off what has landed and what is stored.

Belongs here: the rules by which sensors and the schedule ask for runs. Level-triggered: they look at the state, not
at events, so a restart neither misses nor repeats a step. Does not belong here: Dagster's storage, which hands it in.
"""

from __future__ import annotations

import hashlib
from collections.abc import Collection, Iterator, Mapping
from dataclasses import dataclass, field
from enum import StrEnum

from health_pipeline.months import Month, shift

SCORED = ("gold.predictions", "monitoring.drift", "monitoring.performance")
"""What has to be there of a month that has closed, besides its models."""

EXTRACTED = (
    "silver.admissions",
    "silver.patients",
    "silver.clinical_events",
    "silver.claims",
    "quarantine.rejected_rows",
    "gold.cohort_attrition",
    "gold.features",
)
"""What a run makes of the files of a month, besides bronze."""


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
        refused: per table, months that a blocking check refused or is still judging. A check holds back what follows it
            in its own run only; the later stages are runs of their own and have to be held back here.
    """

    landed: Mapping[Month, Mapping[str, str]]
    stored: Mapping[str, Mapping[Month, int]]
    ingested: Mapping[Month, Ingest]
    first_model_month: Month
    refused: Mapping[str, Collection[Month]] = field(default_factory=dict)

    def record(self, table: str, month: Month) -> int:
        """Record number; 0 when the month is not stored."""
        return self.stored.get(table, {}).get(month, 0)

    def extracted(self, month: Month) -> int:
        """Record number of the oldest of the tables that are made from a month's files; 0 when one is not stored."""
        return min(self.record(table, month) for table in EXTRACTED)

    def is_extracted(self, month: Month) -> bool:
        """Whether everything was made from what bronze holds of a month."""
        ingest = self.ingested.get(month)
        return ingest is not None and self.extracted(month) > ingest.record

    def is_refused(self, table: str, until: Month) -> bool:
        """Whether a blocking check holds back any month up to ``until``."""
        return any(month <= until for month in self.refused.get(table, ()))


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
    """A month whose landed files are not those in bronze, or whose run did not get from bronze to the end."""
    for month, fingerprints in sorted(state.landed.items()):
        ingest = state.ingested.get(month)
        if ingest is None or ingest.fingerprints != fingerprints or not state.is_extracted(month):
            files = hashlib.sha256(repr(sorted(fingerprints.items())).encode()).hexdigest()[:12]
            # A file that goes back to what it was is a new cause: everything has been stored anew in between.
            yield Due(Stage.EXTRACTS, month, f"{files}-{state.extracted(month)}")


def _labels(state: State) -> Iterator[Due]:
    """Labels of M mature when M+1 has closed, and are made again when either month was restated.

    They read more tables than the admissions and are held against the attrition: all of either month has to be there.
    """
    for month in sorted(state.stored.get("silver.admissions", {})):
        both = (month, shift(month, 1))
        newest = max(state.record("silver.admissions", each) for each in both)
        if newest > state.record("gold.labels", month) and all(state.is_extracted(each) for each in both):
            yield Due(Stage.LABELS, month, f"{newest}")


def _improvements(state: State) -> Iterator[Due]:
    """The oldest month without a champion; the next one follows once this one is decided.

    Months with a champion but without scores are ones whose model was made before they closed, or whose run broke off.
    A model waits for labels that are still to be made: without them it would be fitted on months with a gap, for good.
    """
    unlabelled = [item.month for item in _labels(state)]
    for month in sorted(state.stored.get("gold.features", {})):
        if month < state.first_model_month:
            continue
        if state.is_refused("gold.features", month):
            return
        if champion := state.record("models.champion", month):
            if not all(state.record(table, month) for table in SCORED):
                yield Due(Stage.SCORING, month, f"{champion}")
            continue
        before, matured = shift(month, -1), shift(month, -2)
        has_incumbent = month == state.first_model_month or state.record("models.champion", before)
        newest_labels = state.record("gold.labels", matured)
        is_labelled = newest_labels and not any(open_month <= matured for open_month in unlabelled)
        if has_incumbent and is_labelled and not state.is_refused("gold.labels", matured):
            yield Due(Stage.IMPROVEMENT, month, f"{newest_labels}")
        return


def _performance(state: State) -> Iterator[Due]:
    for month in sorted(state.stored.get("gold.predictions", {})):
        labels, measured = state.record("gold.labels", month), state.record("monitoring.performance", month)
        if labels > measured > 0 and month not in state.refused.get("gold.labels", ()):
            yield Due(Stage.PERFORMANCE, month, f"{labels}")
