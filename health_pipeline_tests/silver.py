"""Small silver tables for tests of the cohort and of the features: columns of docs/architecture.md, rows by hand."""

from __future__ import annotations

import datetime as dt
from collections.abc import Iterable, Mapping
from typing import Any

import duckdb
import pyarrow as pa

from health_pipeline.months import MonthRange
from health_pipeline.warehouse.slices import Query, Slice
from health_pipeline.warehouse.tables import Column, Table

_TYPES: dict[str, dict[str, str]] = {
    "admissions": {
        "month": "DATE",
        "encounter_id": "VARCHAR",
        "patient_key": "VARCHAR",
        "facility_id": "VARCHAR",
        "admitted_at": "TIMESTAMP",
        "discharged_at": "TIMESTAMP",
        "admission_type": "VARCHAR",
        "admission_source": "VARCHAR",
        "discharge_disposition": "VARCHAR",
        "service": "VARCHAR",
        "drg": "VARCHAR",
        "payer": "VARCHAR",
        "is_planned": "BOOLEAN",
        "readmitted_30d": "BOOLEAN",
    },
    "patients": {
        "month": "DATE",
        "patient_key": "VARCHAR",
        "birth_date": "DATE",
        "sex": "VARCHAR",
        "race": "VARCHAR",
        "ethnicity": "VARCHAR",
        "language": "VARCHAR",
        "marital_status": "VARCHAR",
        "zip3": "VARCHAR",
        "income": "DOUBLE",
        "deceased_on": "DATE",
        "recorded_at": "TIMESTAMP",
    },
    "clinical_events": {
        "month": "DATE",
        "patient_key": "VARCHAR",
        "encounter_id": "VARCHAR",
        "time": "TIMESTAMP",
        "recorded_at": "TIMESTAMP",
        "code_system": "VARCHAR",
        "code": "VARCHAR",
        "unit": "VARCHAR",
        "numeric_value": "DOUBLE",
        "text_value": "VARCHAR",
    },
    "claims": {
        "month": "DATE",
        "claim_id": "VARCHAR",
        "encounter_id": "VARCHAR",
        "patient_key": "VARCHAR",
        "service_from": "TIMESTAMP",
        "service_to": "TIMESTAMP",
        "processed_at": "TIMESTAMP",
        "charged": "DOUBLE",
        "allowed": "DOUBLE",
        "payer_paid": "DOUBLE",
        "patient_paid": "DOUBLE",
        "denied": "BOOLEAN",
        "payer_coverage_ratio": "DOUBLE",
        "out_of_pocket_ratio": "DOUBLE",
        "allowed_to_charge_ratio": "DOUBLE",
    },
}
# The moment that decides in which month a row lands, where a test does not say it.
_LANDS_BY = {
    "admissions": "discharged_at",
    "patients": "recorded_at",
    "clinical_events": "recorded_at",
    "claims": "processed_at",
}

TABLES = {
    name: Table(
        schema="silver",
        name=name,
        columns=tuple(Column(column, type_) for column, type_ in columns.items()),
        key=(),
    )
    for name, columns in _TYPES.items()
}


def moment(text: str | dt.datetime) -> dt.datetime:
    """``2022-01-05`` or ``2022-01-05 14:00``; a date alone means noon."""
    if isinstance(text, dt.datetime):
        return text
    return dt.datetime.fromisoformat(text if " " in text else f"{text} 12:00")


class Hospital:
    """An in-memory warehouse with hand-made silver tables."""

    def __init__(self) -> None:
        self.connection = duckdb.connect()
        self.connection.execute("SET threads = 1")
        self.connection.execute("CREATE SCHEMA silver")
        for name, columns in _TYPES.items():
            body = ", ".join(f"{column} {type_}" for column, type_ in columns.items())
            self.connection.execute(f"CREATE TABLE silver.{name} ({body})")

    def add(self, table: str, rows: Iterable[Mapping[str, Any]]) -> None:
        """Insert rows; missing columns are NULL, a missing month follows from the row's moment."""
        names = list(_TYPES[table])
        values = []
        for row in rows:
            unknown = set(row) - set(names)
            assert not unknown, unknown
            full = dict(row)
            if "month" not in full:
                landed = moment(full[_LANDS_BY[table]])
                full["month"] = landed.date().replace(day=1)
            for column, type_ in _TYPES[table].items():
                if type_ == "TIMESTAMP" and isinstance(full.get(column), str):
                    full[column] = moment(full[column])
            values.append([full.get(name) for name in names])
        if values:
            # Typed by DuckDB when inserted; far faster than row by row.
            offered = pa.table(dict(zip(names, map(list, zip(*values, strict=True)), strict=True)))
            self.connection.register("offered", offered)
            self.connection.execute(f"INSERT INTO silver.{table} SELECT * FROM offered")
            self.connection.unregister("offered")

    def slices(self, months: MonthRange, before: int = 24, after: int = 1) -> dict[str, Slice]:
        """Slices of the four tables around the months."""
        wide = months.widen(before=before, after=after)
        return {name: Slice(table, wide) for name, table in TABLES.items()}

    def rows(self, query: Query | str, order: str = "ALL") -> list[dict[str, Any]]:
        """Result rows as dictionaries, ordered."""
        sql = query.sql if isinstance(query, Query) else query
        cursor = self.connection.execute(f"SELECT * FROM ({sql}) ORDER BY {order}")
        names = [column[0] for column in cursor.description]
        return [dict(zip(names, row, strict=True)) for row in cursor.fetchall()]
