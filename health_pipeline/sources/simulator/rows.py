"""Typed rows on their way to a landing file: Arrow tables with numbers instead of texts where texts repeat."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import pyarrow as pa

NO_STAY = 0
"""Number of the stay of a fact that belongs to none."""

NO_WORD = -1


def moments(values: np.ndarray) -> pa.Array:
    """Seconds since 1970 as timestamps."""
    return pa.array(values.astype("datetime64[s]"))


def days(values: np.ndarray, missing: int | None = None) -> pa.Array:
    """Days since 1970 as dates; ``missing`` becomes NULL."""
    mask = None if missing is None else values == missing
    return pa.array(values.astype(np.int32), type=pa.int32(), mask=mask).cast(pa.date32())


def words(numbers: np.ndarray, vocabulary: Sequence[str]) -> pa.Array:
    """Entries of a vocabulary, by number; ``NO_WORD`` becomes NULL."""
    indices = pa.array(numbers.astype(np.int32), mask=numbers == NO_WORD)
    return pa.DictionaryArray.from_arrays(indices, pa.array(vocabulary, type=pa.string()))


class EventRows:
    """Collects clinical events of a batch, column by column."""

    def __init__(self) -> None:
        self._columns: tuple[list[np.ndarray], ...] = tuple([] for _ in range(7))
        self._codes: dict[str, int] = {}
        self._texts: dict[str, int] = {}

    def code(self, name: str) -> int:
        """Number of a code (``SYSTEM//code``)."""
        return self._codes.setdefault(name, len(self._codes))

    def text(self, name: str) -> int:
        """Number of a text value."""
        return self._texts.setdefault(name, len(self._texts))

    def add(
        self,
        person: np.ndarray,
        stay: np.ndarray,
        time: np.ndarray,
        recorded_at: np.ndarray,
        code: np.ndarray | int,
        value: np.ndarray | None = None,
        text: np.ndarray | int = NO_WORD,
    ) -> None:
        """Add facts; scalars hold for all of them.

        Args:
            person: numbers of the patients.
            stay: numbers of the stays, or ``NO_STAY``.
            time: when it happened, seconds since 1970.
            recorded_at: when it was recorded, seconds since 1970.
            code: numbers of :meth:`code`.
            value: numbers, or None for facts without one.
            text: numbers of :meth:`text`.
        """
        size = len(person)
        values: tuple[np.ndarray, ...] = (
            person,
            stay,
            time.astype(np.int64),
            recorded_at.astype(np.int64),
            np.broadcast_to(np.asarray(code, dtype=np.int32), size),
            np.full(size, np.nan, dtype=np.float32) if value is None else value.astype(np.float32),
            np.broadcast_to(np.asarray(text, dtype=np.int32), size),
        )
        for column, part in zip(self._columns, values, strict=True):
            column.append(part)

    def table(self) -> pa.Table:
        """All facts; the collection is empty afterwards, so that no fact is held twice."""
        person, stay, time, recorded, code, value, text = map(_joined, self._columns)
        return pa.table(
            {
                "person": person,
                "stay": stay,
                "time": moments(time),
                "recorded_at": moments(recorded),
                "code": words(code, list(self._codes)),
                "numeric_value": pa.array(value, from_pandas=True),
                "text_value": words(text, list(self._texts)),
            }
        )


def _joined(parts: list[np.ndarray]) -> np.ndarray:
    whole = np.concatenate(parts)
    parts.clear()
    return whole
