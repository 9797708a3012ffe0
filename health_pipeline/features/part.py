"""A part of the feature query: one source, its features, and the SQL that gathers them per stay."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

from health_pipeline.features.feature import Feature
from health_pipeline.warehouse.slices import Slice

# Months of admissions, events and claims a feature may look at: M and the twelve before it.
LOOKBACK_MONTHS = 13
# The longest window, back from the discharge. It always lies within LOOKBACK_MONTHS.
WINDOW_DAYS = 365


@dataclass(frozen=True)
class Inputs:
    """Slices of the silver tables, as they came to ``features_query``."""

    admissions: Slice
    patients: Slice
    events: Slice
    claims: Slice


@dataclass(frozen=True)
class Part:
    """Features of one source.

    Attributes:
        features: what it adds to ``gold.features``; their ``sql`` may use ``s`` and the names of this part.
        ctes: makes the common table expressions; those in ``joined`` have one row per ``stay_id``.
        joined: names (also aliases) of the expressions that are joined to the stay.
    """

    features: tuple[Feature, ...]
    ctes: Callable[[Inputs], dict[str, str]]
    joined: tuple[str, ...]


def visible(row: str, stay: str = "s", as_of: str = "recorded_at") -> str:
    """Join condition: a row of the same patient that was known at the discharge and lies within the window.

    The bounds on the landing month make a run over many months see what a run of one month sees.
    """
    return (
        f"{row}.patient_key = {stay}.patient_key"
        f" AND {row}.{as_of} <= {stay}.discharged_at AND {row}.{as_of} > {stay}.window_start"
        f" AND {row}.month BETWEEN {stay}.first_landing AND {stay}.month"
    )
