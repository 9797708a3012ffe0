"""Rows for training and judging: features joined with their matured outcome, in a fixed order."""

from __future__ import annotations

import hashlib
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from numpy.typing import NDArray

from health_pipeline.errors import ModelError
from health_pipeline.months import MonthRange
from health_pipeline.warehouse.slices import Slice

if TYPE_CHECKING:
    from health_pipeline.warehouse import Warehouse


@dataclass(frozen=True)
class Dataset:
    """Labelled rows in the order month, encounter.

    Attributes:
        rows: all columns of ``gold.features``.
        y: outcome, float64 of 0 and 1.
        patients: integer code of each row's patient, for grouping and clustering.
        months: month of each row as ``datetime64[M]``.
    """

    rows: pa.Table
    y: NDArray[np.float64]
    patients: NDArray[np.int64]
    months: NDArray[Any]

    @property
    def size(self) -> int:
        """Number of rows."""
        return int(self.y.size)

    @property
    def events(self) -> int:
        """Number of readmissions."""
        return int(self.y.sum())

    def only(self, months: MonthRange) -> Dataset:
        """Rows of some months."""
        first, last = np.datetime64(months.first, "M"), np.datetime64(months.last, "M")
        start, end = np.searchsorted(self.months, first), np.searchsorted(self.months, last, side="right")
        return Dataset(
            self.rows.slice(start, end - start), self.y[start:end], self.patients[start:end], self.months[start:end]
        )

    def where(self, mask: NDArray[np.bool_]) -> Dataset:
        """Rows that a mask keeps."""
        return Dataset(self.rows.filter(pa.array(mask)), self.y[mask], self.patients[mask], self.months[mask])


def labelled_sql(features: Slice, labels: Slice, months: MonthRange) -> str:
    """SELECT of the labelled rows of some months; unlabelled stays are not there."""
    return (
        f"SELECT f.*, l.readmitted_30d AS _outcome FROM {features.only(months)} AS f "
        f"JOIN {labels.only(months)} AS l USING (month, encounter_id) "
        "WHERE l.readmitted_30d IS NOT NULL ORDER BY f.month, f.encounter_id"
    )


def read_dataset(warehouse: Warehouse, features: Slice, labels: Slice, months: MonthRange, purpose: str) -> Dataset:
    """Labelled rows of some months; the warehouse is released before the rows are used.

    Args:
        warehouse: where the slices live.
        features: ``gold.features``; ``months`` decides which rows are read.
        labels: ``gold.labels``, likewise.
        months: the only months that are read.
        purpose: said to processes that wait for the warehouse.

    Raises:
        ModelError: the labels were made by more than one cohort definition, so they do not mean the same.
    """
    with warehouse.read(purpose) as connection:
        found = connection.execute(f"SELECT DISTINCT cohort_version FROM {labels.only(months)} ORDER BY ALL").fetchall()
        if len(found) > 1:
            raise ModelError(
                f"labels of {months} were made by different cohort definitions: {', '.join(name for (name,) in found)}",
                where=labels.table.qualified,
                remedy=f"make those months again under one definition: health-pipeline run --from {months.first:%Y-%m} "
                f"--to {months.last:%Y-%m} --select gold/features,gold/cohort_attrition,gold/labels",
            )
        rows = connection.execute(labelled_sql(features, labels, months)).to_arrow_table()
    return dataset_of(rows)


def dataset_of(rows: pa.Table) -> Dataset:
    """Dataset of a table with the columns of :func:`labelled_sql`, ordered by month."""
    rows = rows.combine_chunks()
    outcome = rows["_outcome"].cast(pa.float64()).to_numpy()
    patients = pc.dictionary_encode(rows["patient_key"]).combine_chunks().indices.to_numpy()
    months = rows["month"].cast(pa.date32()).to_numpy().astype("datetime64[M]")
    return Dataset(rows.drop_columns(["_outcome"]), outcome, patients.astype(np.int64), months)


def snapshot_hash(dataset: Dataset) -> str:
    """Digest of all values and outcomes, the same on every machine and in every run."""
    digest = hashlib.sha256(dataset.y.tobytes())
    for name in sorted(dataset.rows.column_names):
        column = dataset.rows[name].combine_chunks()
        digest.update(name.encode())
        # Memory under a null is undefined and must not reach the digest: nulls are filled and told apart by validity.
        digest.update(pc.is_valid(column).to_numpy(zero_copy_only=False).tobytes())
        if pa.types.is_string(column.type):
            coded = column.dictionary_encode()
            digest.update("\x1f".join(coded.dictionary.to_pylist()).encode())
            column = coded.indices
        elif pa.types.is_temporal(column.type):
            column = column.cast(pa.timestamp("us")).cast(pa.int64())
        else:
            column = column.cast(pa.float64())
        digest.update(pc.fill_null(column, 0).to_numpy(zero_copy_only=False).tobytes())
    return digest.hexdigest()
