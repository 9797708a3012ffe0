"""Scored discharges with their outcome, where it is known: what performance is computed from."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from health_pipeline.monitoring.segments import segment_sql
from health_pipeline.monitoring.strata import strata_sql
from health_pipeline.months import Month, MonthRange
from health_pipeline.privacy import FREE_TEXT, shown_words
from health_pipeline.warehouse.slices import Slice

if TYPE_CHECKING:
    import pandas as pd
    import pyarrow as pa
    from duckdb import DuckDBPyConnection

Floats = NDArray[np.float64]


@dataclass(frozen=True)
class Scored:
    """Rows of one role, in order of month and stay; all columns have the shape ``(rows,)``.

    A year of a large hospital is millions of rows: names that repeat are categories, a byte or two each.

    Attributes:
        month: DATE as ``datetime64[D]``, ascending.
        model_id: model that scored the row.
        patient: number of the patient (equal numbers are one patient).
        probability: as predicted.
        label: 1.0 where the prediction calls a readmission.
        outcome: 1.0, 0.0, or NaN where it is not known.
        segments: value of each characteristic.
        strata: value of each stratum in which a changed concept is looked for.
    """

    month: NDArray[Any]
    model_id: pd.Categorical
    patient: NDArray[np.uint64]
    probability: Floats
    label: Floats
    outcome: Floats
    segments: Mapping[str, pd.Categorical]
    strata: Mapping[str, pd.Categorical]

    def __len__(self) -> int:
        return int(self.probability.size)

    def where(self, chosen: NDArray[Any] | slice) -> Scored:
        """The rows that ``chosen``, true or false for each or their positions, names; a slice shares their memory."""
        return Scored(
            self.month[chosen],
            self.model_id[chosen],
            self.patient[chosen],
            self.probability[chosen],
            self.label[chosen],
            self.outcome[chosen],
            {name: values[chosen] for name, values in self.segments.items()},
            {name: values[chosen] for name, values in self.strata.items()},
        )

    def during(self, months: MonthRange) -> Scored:
        """The rows of these months."""
        first = np.searchsorted(self.month, np.datetime64(months.first), "left")
        return self.where(slice(first, np.searchsorted(self.month, np.datetime64(months.last), "right")))

    @cached_property
    def threshold(self) -> Floats:
        """A threshold of each row that gives its label: rows of several models had different ones."""
        return np.where(self.label == 1.0, -np.inf, np.inf)

    @cached_property
    def matured(self) -> Scored:
        """The rows whose outcome is known."""
        unknown = np.isnan(self.outcome)
        return self.where(~unknown) if unknown.any() else self

    @cached_property
    def scored_months(self) -> frozenset[Month]:
        """Months with rows."""
        return frozenset(np.unique(self.month).astype(object))

    @cached_property
    def matured_months(self) -> frozenset[Month]:
        """Months with at least one known outcome."""
        return frozenset(np.unique(self.month[~np.isnan(self.outcome)]).astype(object))

    def by_descending_probability(self) -> Scored:
        """The same rows in another order: measures rank rows, and parts of ranked rows are ranked."""
        return self.where(np.argsort(-self.probability, kind="stable"))

    def with_shown_words(self, limit: int) -> Scored:
        """The same rows, with words of free text that fewer than ``limit`` of them hold pooled."""
        import pandas as pd

        segments = dict(self.segments)
        for name in FREE_TEXT & segments.keys():
            codes, words = segments[name].codes, segments[name].categories
            shown = shown_words(dict(zip(words, np.bincount(codes, minlength=len(words)), strict=True)), limit)
            kept = sorted(set(shown.values()))
            places = np.array([kept.index(shown[word]) for word in words], np.int32)
            segments[name] = pd.Categorical.from_codes(places[codes], pd.Index(kept, dtype="str"))
        return replace(self, segments=segments)

    def group_sizes(self) -> dict[str, tuple[int, int]]:
        """Rows, and known readmissions among them, of each of :meth:`groups`."""
        events = self.outcome == 1.0
        sizes = {"all": (len(self), int(events.sum()))}
        for name, values in self.segments.items():
            known = range(len(values.categories))
            rows, readmitted = (
                np.bincount(codes, minlength=len(known)) for codes in (values.codes, values.codes[events])
            )
            sizes |= {f"{name}={values.categories[i]}": (int(rows[i]), int(readmitted[i])) for i in known if rows[i]}
        return sizes

    def groups(self) -> Iterator[tuple[str, Scored]]:
        """``all``, then each value of each characteristic, as ``characteristic=value``, without further segments."""
        yield "all", self
        alone = replace(self, segments={}, strata={})
        for name, values in self.segments.items():
            for code, value in enumerate(values.categories):
                chosen = values.codes == code
                if chosen.any():
                    yield f"{name}={value}", alone.where(chosen)


def same_scores(one: Scored, other: Scored) -> bool:
    """Whether both are the same rows, scored by the same models."""
    return (
        np.array_equal(one.month, other.month)
        and np.array_equal(one.probability, other.probability)
        and np.array_equal(np.asarray(one.model_id), np.asarray(other.model_id))
    )


def roles(connection: DuckDBPyConnection, predictions: Slice) -> list[str]:
    """Roles that scored anything, in order."""
    found = connection.execute(f"SELECT DISTINCT model_role FROM {predictions} ORDER BY 1").fetchall()
    return [role for (role,) in found]


def scored_rows(
    connection: DuckDBPyConnection,
    predictions: Slice | str,
    labels: Slice,
    features: Slice,
    months: MonthRange,
    wanted: Sequence[str],
) -> dict[str, Scored]:
    """Read the rows of roles, month by month: what DuckDB joins and sorts at a time does not grow with the history.

    Args:
        connection: of the warehouse.
        predictions: ``gold.predictions``, or a relation with its columns.
        labels: ``gold.labels``, as far as they have matured.
        features: ``gold.features``, for segments and strata.
        months: months to read.
        wanted: roles, ``model_1`` ... ``champion``.

    Returns:
        Rows by role. Roles that scored the same stays share the memory of what is known of these.
    """
    columns = [row[0] for row in connection.execute(f"DESCRIBE SELECT * FROM {features}").fetchall()]
    segments, strata = segment_sql(columns, "f"), strata_sql(columns, "f")
    names = {f"segment_{name}": sql for name, sql in segments.items()}
    names |= {f"stratum_{name}": sql for name, sql in strata.items()}
    numbers = {"month": "p.month", "patient": "hash(p.patient_key)", "outcome": "l.readmitted_30d::INT::DOUBLE"}
    by_role = "".join(
        f", any_value({sql}) FILTER (model_role = $role_{index}) AS {name}_{index}"
        for index in range(len(wanted))
        for name, sql in (("probability", "probability"), ("label", "label::INT::DOUBLE"), ("model", "model_id"))
    )
    given = {f"role_{index}": role for index, role in enumerate(wanted)}
    for index in range(len(wanted)):
        numbers |= {f"probability_{index}": f"p.probability_{index}", f"label_{index}": f"p.label_{index}"}
        names |= {f"model_{index}": f"coalesce(p.model_{index}, '')"}
    listed = ", ".join(f"{sql} AS {name}" for name, sql in (numbers | names).items())
    counted = connection.execute(
        f"SELECT count(*) FROM {predictions} WHERE month BETWEEN $first AND $last",
        {"first": months.first, "last": months.last},
    ).fetchone()
    into = _Columns(int(counted[0] if counted else 0), list(numbers), list(names))
    for month in months:
        one = MonthRange(month, month)
        into.append(
            connection.execute(
                f"WITH p AS (SELECT month, encounter_id, any_value(patient_key) AS patient_key{by_role} "
                f"FROM {predictions} WHERE month = $month GROUP BY month, encounter_id) "
                f"SELECT {listed} FROM p LEFT JOIN {labels.only(one)} AS l USING (month, encounter_id) "
                f"LEFT JOIN {features.only(one)} AS f USING (month, encounter_id) ORDER BY p.encounter_id",
                given | {"month": month},
            ).to_arrow_table()
        )
    segment_columns = {name: into.categories(f"segment_{name}") for name in segments}
    stratum_columns = {name: into.categories(f"stratum_{name}") for name in strata}
    found = {}
    for index, role in enumerate(wanted):
        rows = Scored(
            into.numbers("month"),
            into.categories(f"model_{index}"),
            into.numbers("patient"),
            into.numbers(f"probability_{index}"),
            into.numbers(f"label_{index}"),
            into.numbers("outcome"),
            segment_columns,
            stratum_columns,
        )
        unscored = np.isnan(rows.probability)
        found[role] = rows.where(~unscored) if unscored.any() else rows
    return found


class _Columns:
    """Columns filled month by month. Memory is asked for once: between the months it would be left in pieces.

    Args:
        most_rows: what is asked for beyond the rows that come is never touched, and takes no memory.
        numbers: columns of numbers.
        categories: columns of names.
    """

    def __init__(self, most_rows: int, numbers: Sequence[str], categories: Sequence[str]) -> None:
        types = {"month": "datetime64[D]", "patient": "u8"}
        self._numbers = {name: np.empty(most_rows, types.get(name, "f8")) for name in numbers}
        self._codes = {name: np.empty(most_rows, np.int32) for name in categories}
        self._names: dict[str, dict[str, int]] = {name: {} for name in categories}
        self._filled = 0

    def append(self, table: pa.Table) -> None:
        """Take the rows of a further month."""
        rows = slice(self._filled, self._filled + table.num_rows)
        for name, values in self._numbers.items():
            values[rows] = table.column(name).to_numpy()
        for name, codes in self._codes.items():
            encoded, known = table.column(name).dictionary_encode().combine_chunks(), self._names[name]
            numbers = [known.setdefault(value, len(known)) for value in encoded.dictionary.to_pylist()]
            codes[rows] = np.array(numbers, np.int32)[encoded.indices.to_numpy()]
        self._filled += table.num_rows

    def numbers(self, name: str) -> NDArray[Any]:
        """A column of numbers."""
        return self._numbers[name][: self._filled]

    def categories(self, name: str) -> pd.Categorical:
        """A column of names, its categories in order."""
        import pandas as pd

        names = self._names[name]
        found = pd.Categorical.from_codes(self._codes.pop(name)[: self._filled], pd.Index(list(names), dtype="str"))
        return found.reorder_categories(sorted(names))
