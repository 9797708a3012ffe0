"""Scored discharges with their outcome, where it is known: what performance is computed from."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from functools import cached_property
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from health_pipeline.monitoring.segments import segment_sql
from health_pipeline.monitoring.strata import strata_sql
from health_pipeline.months import Month, MonthRange
from health_pipeline.warehouse.slices import Slice

if TYPE_CHECKING:
    from duckdb import DuckDBPyConnection

Floats = NDArray[np.float64]


@dataclass(frozen=True)
class Scored:
    """Rows of one role, in order of month and stay; all arrays have the shape ``(rows,)``.

    Attributes:
        month: DATE as ``datetime64[D]``.
        model_id: model that scored the row.
        patient: number of the patient (equal numbers are one patient).
        probability: as predicted.
        label: 1.0 where the prediction calls a readmission.
        outcome: 1.0, 0.0, or NaN where it is not known.
        segments: value of each characteristic.
        strata: value of each stratum in which a changed concept is looked for.
    """

    month: NDArray[Any]
    model_id: NDArray[Any]
    patient: NDArray[np.uint64]
    probability: Floats
    label: Floats
    outcome: Floats
    segments: Mapping[str, NDArray[Any]]
    strata: Mapping[str, NDArray[Any]]

    def __len__(self) -> int:
        return int(self.probability.size)

    def where(self, chosen: NDArray[np.bool_]) -> Scored:
        """The rows for which ``chosen`` is true."""
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
        first, last = np.datetime64(months.first), np.datetime64(months.last)
        return self.where((self.month >= first) & (self.month <= last))

    @property
    def matured(self) -> Scored:
        """The rows whose outcome is known."""
        return self.where(~np.isnan(self.outcome))

    @cached_property
    def scored_months(self) -> frozenset[Month]:
        """Months with rows."""
        return frozenset(np.unique(self.month).astype(object))

    @cached_property
    def matured_months(self) -> frozenset[Month]:
        """Months with at least one known outcome."""
        return frozenset(np.unique(self.month[~np.isnan(self.outcome)]).astype(object))

    def groups(self) -> Iterator[tuple[str, Scored]]:
        """``all``, then each value of each characteristic, as ``characteristic=value``."""
        yield "all", self
        for name, values in self.segments.items():
            for value in np.unique(values):
                yield f"{name}={value}", self.where(values == value)


def same_scores(one: Scored, other: Scored) -> bool:
    """Whether both are the same rows, scored by the same models."""
    return (
        np.array_equal(one.month, other.month)
        and np.array_equal(one.model_id, other.model_id)
        and np.array_equal(one.probability, other.probability)
    )


def roles(connection: DuckDBPyConnection, predictions: Slice) -> list[str]:
    """Roles that scored anything, in order."""
    found = connection.execute(f"SELECT DISTINCT model_role FROM {predictions} ORDER BY 1").fetchall()
    return [role for (role,) in found]


def scored_rows(
    connection: DuckDBPyConnection, predictions: Slice | str, labels: Slice, features: Slice | None, role: str | None
) -> Scored:
    """Read the rows of a role.

    Args:
        connection: of the warehouse.
        predictions: ``gold.predictions``, or a relation with its columns.
        labels: ``gold.labels`` of the same months, as far as they have matured.
        features: ``gold.features`` of the same months, for segments and strata; None leaves them out.
        role: ``model_1`` ... ``champion``; None takes every row.
    """
    columns = (
        [row[0] for row in connection.execute(f"DESCRIBE SELECT * FROM {features}").fetchall()] if features else []
    )
    segments, strata = segment_sql(columns, "f"), strata_sql(columns, "f")
    extra = "".join(f", {sql} AS segment_{name}" for name, sql in segments.items())
    extra += "".join(f", {sql} AS stratum_{name}" for name, sql in strata.items())
    join = f"LEFT JOIN {features} AS f USING (month, encounter_id)" if features else ""
    table = connection.execute(
        f"SELECT p.month, p.model_id, hash(p.patient_key) AS patient, p.probability, p.label::INT::DOUBLE AS label, "
        f"l.readmitted_30d::INT::DOUBLE AS outcome{extra} "
        f"FROM {predictions} AS p LEFT JOIN {labels} AS l USING (month, encounter_id) {join} "
        f"{'' if role is None else 'WHERE p.model_role = $role '}ORDER BY p.month, p.encounter_id",
        {} if role is None else {"role": role},
    ).to_arrow_table()

    def column(name: str) -> NDArray[Any]:
        return np.asarray(table.column(name).to_numpy(zero_copy_only=False))

    return Scored(
        column("month").astype("datetime64[D]"),
        column("model_id"),
        column("patient").astype(np.uint64),
        column("probability").astype(np.float64),
        column("label").astype(np.float64),
        column("outcome").astype(np.float64),
        {name: column(f"segment_{name}").astype(str) for name in segments},
        {name: column(f"stratum_{name}").astype(str) for name in strata},
    )
