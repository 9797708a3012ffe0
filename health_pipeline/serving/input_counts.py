"""How the inputs of live traffic are distributed, as counts: per month and feature, rows per cell, and nothing else.

The prediction log holds hashes of the inputs, no values, and must not. What drift needs is less than values: how often
each feature fell into which cell. Every feature is counted by itself, so no row can be put together from the counts;
words that training never met are counted without being kept. Cells are fixed (sixteen between a number and its double,
small whole numbers exactly), the same for every model and month, so counts of several processes add up, and the batch
is cut at bounds of cells: both sides are compared in the very same bins.

Counting happens in the thread that writes the log. A budget keeps it from ever costing much: ``BURST`` rows at once,
then ``ROWS_PER_SECOND``; rows beyond it are answered and logged, but not counted, and the file says how many.

**Bound**: the counts are written whole every ``WRITE_SECONDS`` and at the end; a crash loses what was counted since.
"""

from __future__ import annotations

import contextlib
import math
import os
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

import msgspec
import structlog

if TYPE_CHECKING:
    from health_pipeline.serving.schema import Feature, Values

CELLS_PER_OCTAVE = 16
ZERO = 0
_OFFSET = 1 << 20
"""Lifts exponents of numbers below one: cells of positive numbers are positive, those of negative ones negative."""
BURST, ROWS_PER_SECOND = 2_000.0, 100.0
WRITE_SECONDS = 60.0

_log = structlog.get_logger(__name__)


def cell_of(number: float) -> int:
    """Cell of a number; its upper bound belongs to it, the lower one does not. Cells are ordered as numbers are."""
    if number > 0:
        mantissa, exponent = math.frexp(number)
        return _OFFSET + exponent * CELLS_PER_OCTAVE + math.ceil(mantissa * 2 * CELLS_PER_OCTAVE)
    if number < 0:
        mantissa, exponent = math.frexp(-number)
        return -(_OFFSET + exponent * CELLS_PER_OCTAVE + math.floor(mantissa * 2 * CELLS_PER_OCTAVE))
    return ZERO


def upper_bound(cell: int) -> float:
    """Largest number of a cell, exactly."""
    if cell == ZERO:
        return 0.0
    octave, step = divmod(abs(cell) - _OFFSET - CELLS_PER_OCTAVE, CELLS_PER_OCTAVE)
    return math.copysign(math.ldexp((CELLS_PER_OCTAVE + step) / (2 * CELLS_PER_OCTAVE), octave), cell)


class FeatureCounts(msgspec.Struct):
    """Counts of one feature.

    Attributes:
        kind: ``number``, ``boolean`` or ``category``.
        missing: rows without a value.
        cells: rows per cell of a number.
        words: rows per category that training knows.
        others: rows with any other category.
    """

    kind: str
    missing: int = 0
    cells: dict[int, int] = msgspec.field(default_factory=dict)
    words: dict[str, int] = msgspec.field(default_factory=dict)
    others: int = 0


class MonthCounts(msgspec.Struct):
    """Counts of a month (UTC) by one process under one set of features.

    Attributes:
        month: ``YYYY-MM``.
        answered: rows that were scored.
        counted: those of them that were counted.
        features: by name.
    """

    month: str
    answered: int
    counted: int
    features: dict[str, FeatureCounts]


class InputCounts:
    """Counts inputs and writes the counts.

    Args:
        folder: where the files go, one for each month, process and set of features.
        now: seconds that never go back.
    """

    def __init__(self, folder: Path, now: Callable[[], float] = time.monotonic) -> None:
        self._folder, self._now = folder, now
        self._started = f"{time.time_ns()}-{os.getpid()}"
        self._budget, self._refilled = BURST, now()
        self._written = now()
        self._sequence = 0
        self._features: Sequence[Feature] | None = None
        self._year_month = (0, 0)
        self._counts: MonthCounts | None = None
        self._columns: list[FeatureCounts] = []
        self._is_fresh = False
        self.is_failing = False

    def add(self, features: Sequence[Feature], values: Values, year_month: tuple[int, int]) -> None:
        """Count a scored row.

        Args:
            features: what the values are, in their order.
            values: of the request.
            year_month: of the request.
        """
        if features is not self._features or year_month != self._year_month:
            if features != self._features or year_month != self._year_month:
                self._begin(features, year_month)
            self._features = features
        counts = self._counts
        if counts is None:
            return
        counts.answered += 1
        self._is_fresh = True
        if self._budget < 1.0 and not self._refill():
            return
        self._budget -= 1.0
        counts.counted += 1
        for counter, value in zip(self._columns, values, strict=False):  # a log must not die of it
            if value is None:
                counter.missing += 1
            elif counter.kind == "number":
                cell = cell_of(value)  # type: ignore[arg-type]  # the decoder has checked it
                counter.cells[cell] = counter.cells.get(cell, 0) + 1
            else:
                word = ("true" if value else "false") if counter.kind == "boolean" else value
                if word in counter.words:
                    counter.words[word] += 1
                else:
                    counter.others += 1

    def write_when_due(self) -> None:
        """Write what was counted, when the last time is ``WRITE_SECONDS`` ago."""
        if self._is_fresh and self._now() >= self._written + WRITE_SECONDS:
            self.write()

    def write(self) -> None:
        """Replace this process's file of the month; a disk that refuses is noted, and tried again."""
        if not self._is_fresh or self._counts is None:
            return
        self._written = self._now()
        path = self._folder / f"inputs-{self._counts.month}-{self._started}-{self._sequence:04d}.json"
        draft = path.with_suffix(".part")
        try:
            with draft.open("wb") as file:
                file.write(msgspec.json.encode(self._counts))
                file.flush()
                os.fsync(file.fileno())
            draft.rename(path)
        except OSError as error:
            if not self.is_failing:
                _log.error("input_counts_failing", error=type(error).__name__, errno=error.errno)
            self.is_failing = True
            return
        self._is_fresh = self.is_failing = False

    def _begin(self, features: Sequence[Feature], year_month: tuple[int, int]) -> None:
        self.write()
        self._sequence += 1
        self._features, self._year_month = features, year_month
        known = {"boolean": ("false", "true")}
        columns = {
            feature.name: FeatureCounts(
                feature.kind, words=dict.fromkeys(known.get(feature.kind, feature.categories), 0)
            )
            for feature in features
        }
        self._columns = list(columns.values())
        self._counts = MonthCounts(f"{year_month[0]}-{year_month[1]:02d}", 0, 0, columns) if features else None

    def _refill(self) -> bool:
        now = self._now()
        self._budget = min(BURST, self._budget + (now - self._refilled) * ROWS_PER_SECOND)
        self._refilled = now
        return self._budget >= 1.0


def read_counts(folder: Path, month: str) -> Iterator[MonthCounts]:
    """Counts of a month by all processes; a file that is no count raises :class:`msgspec.DecodeError`."""
    for path in sorted(folder.glob(f"inputs-{month}-*.json")):
        with contextlib.suppress(FileNotFoundError):
            yield msgspec.json.decode(path.read_bytes(), type=MonthCounts)


def added(counts: Sequence[MonthCounts]) -> Mapping[str, FeatureCounts]:
    """Sum over processes: of the features that all have; a category that one of them did not know is another word."""
    if not counts:
        return {}
    names = set.intersection(*(set(each.features) for each in counts))
    return {name: _added([each.features[name] for each in counts]) for name in sorted(names)}


def _added(parts: Sequence[FeatureCounts]) -> FeatureCounts:
    total = FeatureCounts(parts[0].kind, words=dict.fromkeys(_known(parts), 0))
    for part in parts:
        total.missing += part.missing
        total.others += part.others
        for cell, rows in part.cells.items():
            total.cells[cell] = total.cells.get(cell, 0) + rows
        for word, rows in part.words.items():
            if word in total.words:
                total.words[word] += rows
            else:
                total.others += rows
    return total


def _known(parts: Sequence[FeatureCounts]) -> list[str]:
    return [word for word in parts[0].words if all(word in part.words for part in parts)]
