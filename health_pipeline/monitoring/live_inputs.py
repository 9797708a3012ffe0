"""Inputs of live traffic against the batch: what the prediction API was fed in a month, beside the month's features.

The API keeps counts per feature and cell, no values (:mod:`~health_pipeline.serving.input_counts`). The batch is cut
at bounds of the same cells, so both sides lie in the very same bins; then the same numbers, chance levels and limits
follow as for any other drift. Only these leave the home's serving folder: no cell, no count of a category.
"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from health_pipeline.monitoring.comparison import Reference, Row, compare, status_of
from health_pipeline.monitoring.distributions import Bins, Measured, Tally, measured_columns, reference_bins, tallies
from health_pipeline.months import Month, MonthRange
from health_pipeline.serving.input_counts import FeatureCounts, added, cell_of, read_counts, upper_bound

if TYPE_CHECKING:
    from duckdb import DuckDBPyConnection

    from health_pipeline.settings import Settings
    from health_pipeline.warehouse import Slice

KIND = "live_input"
LEAST_ROWS = 20
ENOUGH_ROWS = 200
"""Counted rows that a month's comparison should have, if it answered as many."""
UNCOUNTED_ALARM = 0.5
OTHERS = "(others)"
_KINDS = {"number": "numeric", "boolean": "categorical", "category": "categorical"}


def input_rows(
    connection: DuckDBPyConnection, features: Slice, folder: Path, month: Month, answered: int, settings: Settings
) -> list[Row]:
    """Rows of ``monitoring.drift`` about the inputs of a month.

    Args:
        connection: with ``gold.features``.
        features: its slice.
        folder: of the prediction log and the counts.
        month: by the time of the requests (UTC).
        answered: records that the log says were answered.
        settings: limits, smallest number.
    """
    found = list(read_counts(folder, f"{month:%Y-%m}"))
    rows = sum(each.counted for each in found)
    least = max(LEAST_ROWS, settings.privacy.small_number)
    if answered < least:
        return []
    result = [_uncounted(rows, answered)]
    batch = f"(SELECT * FROM {features.only(MonthRange(month, month))})"
    if rows < least:
        return result
    live = added(found)
    columns = [
        column
        for column in measured_columns(connection, batch)
        if column.name in live and _KINDS[live[column.name].kind] == column.kind
    ]
    bins = _bins(connection, batch, columns, live)
    before = next(iter(tallies(connection, batch, bins).values()), None)
    if before is None or not bins:
        return result
    both = {name: (_pooled(item, before[name]), _live(item, live[name])) for name, item in bins.items()}
    return result + compare(
        KIND,
        {name: now for name, (_, now) in both.items()},
        Reference("batch", [{name: then for name, (then, _) in both.items()}]),
        {name: Bins(item.column, item.edges, (*item.categories, OTHERS)) for name, item in bins.items()},
        settings.monitoring,
    )


def _uncounted(rows: int, answered: int) -> Row:
    """How much is missing of what a comparison needs: a month that answers and is not counted is not watched."""
    share = max(0.0, 1.0 - rows / min(answered, ENOUGH_ROWS))
    return {
        "subject_kind": KIND,
        "subject": "all",
        "metric": "uncounted_share",
        "value": share,
        "n": rows,
        "threshold": UNCOUNTED_ALARM,
        "alarm_threshold": UNCOUNTED_ALARM,
        "status": status_of(share, UNCOUNTED_ALARM, UNCOUNTED_ALARM),
        "reference": "none",
        "reference_n": answered,
    }


def _bins(
    connection: DuckDBPyConnection, batch: str, columns: list[Measured], live: Mapping[str, FeatureCounts]
) -> dict[str, Bins]:
    """Quantiles of the batch, moved up to bounds of cells; the categories that the API knows."""
    numeric = reference_bins(connection, batch, [column for column in columns if column.kind == "numeric"])
    return {
        column.name: Bins(
            column,
            edges=tuple(sorted({upper_bound(cell_of(edge)) for edge in numeric[column.name].edges})),
        )
        if column.kind == "numeric"
        else Bins(column, categories=tuple(live[column.name].words))
        for column in columns
    }


def _pooled(item: Bins, tally: Tally) -> Tally:
    """The batch's tally with unknown categories in a bin of their own, as the API counts them."""
    if item.column.kind == "numeric":
        return tally
    known = tally.bins if item.categories else tally.bins[:0]
    return Tally(np.append(known, float(tally.unseen)), tally.missing)


def _live(item: Bins, counts: FeatureCounts) -> Tally:
    if item.column.kind == "categorical":
        words = [float(counts.words[word]) for word in item.categories]
        return Tally(np.array([*words, float(counts.others)]), counts.missing)
    if not item.edges:  # the batch has no value at all: whatever comes is new
        return Tally(np.zeros(1), counts.missing, sum(counts.cells.values()))
    bins = np.zeros(len(item.edges) + 1)
    cells = sorted(counts.cells)
    places = np.searchsorted(item.edges, [upper_bound(cell) for cell in cells], side="left")
    np.add.at(bins, places, [counts.cells[cell] for cell in cells])
    return Tally(bins, counts.missing)
