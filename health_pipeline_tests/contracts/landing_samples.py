"""Small landed files for tests: rows as people would write them."""

from __future__ import annotations

import csv
import gzip
import io
from collections.abc import Mapping, Sequence
from pathlib import Path

import duckdb

from health_pipeline.contracts import BRONZE, LANDING_TABLES, REJECTED_ROWS, SILVER, rejected_query, silver_query
from health_pipeline.months import MonthRange
from health_pipeline.settings import Settings
from health_pipeline.sources.landing import bronze_query
from health_pipeline.warehouse.slices import Query, Slice
from health_pipeline.warehouse.tables import Table

Row = Mapping[str, str | None]

GOOD: dict[str, Row] = {
    "admissions": {
        "encounter_id": "E1",
        "patient_id": "P1",
        "facility_id": "F1",
        "admitted_at": "2023-01-10 08:00:00",
        "discharged_at": "2023-01-15 12:00:00",
        "admission_type": "emergency",
        "admission_source": "emergency_room",
        "discharge_disposition": "home",
        "service": "medicine",
        "drg": "291",
        "payer": "medicare",
        "is_planned": "false",
        "readmitted_30d": None,
    },
    "patients": {
        "patient_id": "P1",
        "birth_date": "1950-05-05",
        "sex": "female",
        "race": "white",
        "ethnicity": "nonhispanic",
        "language": "en",
        "marital_status": "married",
        "zip3": "021",
        "income": "50000",
        "deceased_on": None,
        "recorded_at": "2023-01-10 08:00:00",
    },
    "clinical_events": {
        "patient_id": "P1",
        "encounter_id": "E1",
        "time": "2023-01-11 06:00:00",
        "recorded_at": "2023-01-11 07:00:00",
        "code": "LOINC//2160-0//mg/dL",
        "numeric_value": "1.2",
        "text_value": None,
    },
    "claims": {
        "claim_id": "C1",
        "encounter_id": "E1",
        "patient_id": "P1",
        "service_from": "2023-01-10",
        "service_to": "2023-01-15",
        "processed_at": "2023-01-28 00:00:00",
        "charged": "1000",
        "allowed": "500",
        "payer_paid": "400",
        "patient_paid": "100",
        "denied": "false",
    },
}


def row(table: str, **changes: str | None) -> Row:
    """A good row with changes."""
    return {**GOOD[table], **changes}


def csv_bytes(rows: Sequence[Row], columns: Sequence[str]) -> bytes:
    text = io.StringIO()
    # The csv module leaves a carriage return unquoted when lines end with a line feed.
    has_returns = any("\r" in (value or "") for values in rows for value in values.values())
    writer = csv.writer(text, lineterminator="\n", quoting=csv.QUOTE_ALL if has_returns else csv.QUOTE_MINIMAL)
    writer.writerow(columns)
    for values in rows:
        writer.writerow(["" if values.get(name) is None else values[name] for name in columns])
    return text.getvalue().encode()


def land(
    settings: Settings, table: str, month: str, rows: Sequence[Row], kind: str = "csv", columns: Sequence[str] = ()
) -> Path:
    """Write a landed file."""
    path = Path(settings.landing_uri) / table / f"{month}.{kind}"
    path.parent.mkdir(parents=True, exist_ok=True)
    content = csv_bytes(rows, columns or LANDING_TABLES[table].column_names)
    if kind == "csv":
        path.write_bytes(content)
    elif kind == "csv.gz":
        path.write_bytes(gzip.compress(content, mtime=0))
    else:
        source = path.with_suffix(".tmp")
        source.write_bytes(content)
        duckdb.execute(
            f"COPY (SELECT * FROM read_csv('{source}', all_varchar=true, header=true, delim=',')) TO '{path}'"
        )
        source.unlink()
    return path


class Tables:
    """An in-memory database with the declared tables; replaces months as the warehouse does."""

    def __init__(self, settings: Settings) -> None:
        self.settings = settings
        self.connection = duckdb.connect(":memory:")
        for schema in ("bronze", "silver", "quarantine"):
            self.connection.execute(f"CREATE SCHEMA {schema}")
        for table in (*BRONZE.values(), *SILVER.values(), REJECTED_ROWS):
            columns = ", ".join(
                f'"{column.name}" {column.type}{"" if column.nullable else " NOT NULL"}' for column in table.columns
            )
            self.connection.execute(f"CREATE TABLE {table.qualified} ({columns})")

    def replace(self, table: Table, months: MonthRange, query: Query) -> None:
        if query.prepare:
            query.prepare(self.connection)
        self.connection.execute(
            f"DELETE FROM {table.qualified} WHERE month BETWEEN '{months.first}' AND '{months.last}'"
        )
        self.connection.execute(f"INSERT INTO {table.qualified} BY NAME {query.sql}", dict(query.parameters))
        keys = ", ".join(f'"{name}"' for name in ("month", *table.key))
        twice = self.connection.execute(
            f"SELECT count(*) FROM (SELECT {keys} FROM {table.qualified} GROUP BY ALL HAVING count(*) > 1)"
        ).fetchone()
        assert twice == (0,), f"{table.qualified} repeats a key"

    def run(self, months: MonthRange) -> None:
        for name, table in BRONZE.items():
            self.replace(table, months, bronze_query(name, months, self.settings))
        self.refine(months)

    def refine(self, months: MonthRange) -> None:
        bronze = {name: Slice(table, months) for name, table in BRONZE.items()}
        for name, table in SILVER.items():
            self.replace(table, months, silver_query(name, bronze[name], self.settings))
        self.replace(REJECTED_ROWS, months, rejected_query(bronze, self.settings))

    def rows(self, sql: str) -> list[tuple]:
        return self.connection.execute(sql).fetchall()

    def dicts(self, sql: str) -> list[dict]:
        cursor = self.connection.execute(sql)
        names = [column[0] for column in cursor.description]
        return [dict(zip(names, values, strict=True)) for values in cursor.fetchall()]
