"""Model card of a candidate: what it is for, how it was made, how good it is and for whom, and what it cannot do."""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass
from functools import lru_cache
from importlib import resources
from typing import TYPE_CHECKING, Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from numpy.typing import NDArray

from health_pipeline.modeling.candidate import Candidate
from health_pipeline.modeling.explain import importance
from health_pipeline.modeling.metrics import Estimate, measure_with_intervals
from health_pipeline.privacy import FREE_TEXT, shown_words

if TYPE_CHECKING:
    from health_pipeline.settings import Settings

CARD_FILE = "card.html"
GROUPED_BY = ("sex", "race", "payer", "admission_type")
_AGE = "age_years"
_AGE_BANDS = ((0, 45, "under 45"), (45, 65, "45 to 64"), (65, 80, "65 to 79"), (80, 200, "80 and older"))
_TOP_FEATURES = 20
# TreeSHAP of more rows changes the order of the top features little and costs as much as the fit.
_IMPORTANCE_ROWS = 500
_REPLICATES = 200
_RISK_GROUPS = 10

Group = tuple[str, str, NDArray[np.bool_]]
"""Attribute, level, and the rows of the group."""


@dataclass(frozen=True, slots=True)
class GroupRow:
    """Measures of one group; None where the group is too small to be published."""

    attribute: str
    level: str
    rows: int | None
    roc_auc: Estimate | None
    observed_expected: Estimate | None


@dataclass(frozen=True, slots=True)
class RiskRow:
    """A tenth of the holdout by predicted risk: mean prediction and observed rate."""

    rank: int
    predicted: float
    observed: float | None


def write_card(candidate: Candidate, settings: Settings) -> str:
    """HTML of the card; aggregates only, small numbers suppressed.

    Args:
        candidate: the model with its windows and measures.
        settings: cohort definition and the smallest count that is published.
    """
    bundle, subject = candidate.bundle, candidate.subject
    probabilities = bundle.probabilities(subject.holdout.rows)
    smallest = settings.privacy.small_number
    sample = subject.validation.rows.slice(0, _IMPORTANCE_ROWS)
    page = _template().render(
        bundle=bundle,
        windows=subject.windows,
        sizes={
            "training": subject.training.size,
            "validation": subject.validation.size,
            "holdout": subject.holdout.size,
        },
        cohort=settings.cohort.definition,
        metrics=candidate.metrics,
        risks=risk_rows(probabilities, subject.holdout.y, smallest),
        groups=group_rows(subject.holdout.rows, subject.holdout.y, probabilities, subject.holdout.patients, smallest),
        features=list(importance(bundle, sample).items())[:_TOP_FEATURES],
        snapshot=subject.snapshot,
        smallest=smallest,
    )
    return str(page)


@lru_cache
def _template() -> Any:
    from jinja2 import Environment, StrictUndefined

    source = resources.files(__package__).joinpath("card.html").read_text(encoding="utf-8")
    return Environment(autoescape=True, undefined=StrictUndefined, trim_blocks=True, lstrip_blocks=True).from_string(
        source
    )


def risk_rows(probabilities: NDArray[np.float64], y: NDArray[np.float64], smallest: int) -> list[RiskRow]:
    """Calibration by tenths of predicted risk; a rate that rests on a small count is left out."""
    order = np.argsort(probabilities, kind="stable")
    rows = []
    for rank, part in enumerate(np.array_split(order, _RISK_GROUPS), start=1):
        if part.size:
            shown = _may_show(int(y[part].sum()), part.size, smallest)
            rows.append(RiskRow(rank, float(probabilities[part].mean()), float(y[part].mean()) if shown else None))
    return rows


def _may_show(events: int, rows: int, smallest: int) -> bool:
    """Whether neither the count of events nor that of non-events is small (zero tells about everybody)."""
    return min(events, rows - events) >= smallest


def group_rows(
    rows: pa.Table,
    y: NDArray[np.float64],
    probabilities: NDArray[np.float64],
    patients: NDArray[np.int64],
    smallest: int,
) -> list[GroupRow]:
    """Discrimination and calibration by group of patients, with small groups suppressed."""
    found = []
    groups = _groups(rows, smallest)
    shown = _shown(groups, y, smallest)
    for attribute, level, mask in groups:
        if (attribute, level) not in shown:
            found.append(GroupRow(attribute, level, None, None, None))
            continue
        count = int(mask.sum())
        estimates = measure_with_intervals(
            y[mask],
            probabilities[mask],
            clusters=patients[mask],
            metrics=("roc_auc", "observed_expected"),
            replicates=_REPLICATES,
        )
        found.append(GroupRow(attribute, level, count, estimates["roc_auc"], estimates["observed_expected"]))
    return found


def _shown(groups: list[Group], y: NDArray[np.float64], smallest: int) -> set[tuple[str, str]]:
    """Groups that may be published: large enough, and such that no small number is left when they are subtracted.

    The card says how many rows there are in all. Where the groups of an attribute that stay hidden, and rows without a
    value, are few together, the smallest of the others hides with them.
    """
    shown: dict[tuple[str, str], int] = {
        (attribute, level): int(mask.sum())
        for attribute, level, mask in groups
        if _may_show(int(y[mask].sum()), int(mask.sum()), smallest)
    }
    for attribute in {attribute for attribute, _, _ in groups}:
        counts = {key: count for key, count in shown.items() if key[0] == attribute}
        if counts and 0 < y.size - sum(counts.values()) < smallest:
            del shown[min(counts, key=lambda key: (counts[key], key))]
    return set(shown)


def _groups(rows: pa.Table, smallest: int) -> list[Group]:
    groups: list[Group] = []
    for attribute in GROUPED_BY:
        if attribute in rows.column_names:
            values = pc.fill_null(rows[attribute].cast(pa.string()), "unknown")
            if attribute in FREE_TEXT:
                words = values.to_pylist()
                shown = shown_words(Counter(words), smallest)
                values = pa.chunked_array([[shown[word] for word in words]], pa.string())
            for level in sorted(pc.unique(values).to_pylist()):
                mask = pc.equal(values, level).to_numpy()
                groups.append((attribute, level, np.asarray(mask, dtype=bool)))
    if _AGE in rows.column_names:
        age = rows[_AGE].cast(pa.float64()).to_numpy()
        for low, high, name in _AGE_BANDS:
            groups.append(("age", name, (age >= low) & (age < high)))
    return groups
