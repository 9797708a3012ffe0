"""Replacing months of a table: delete, insert by name, verify, all inside the caller's transaction."""

from __future__ import annotations

import datetime as dt
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import duckdb

from health_pipeline.errors import SliceError
from health_pipeline.months import Month, MonthRange
from health_pipeline.warehouse.slices import SliceReport
from health_pipeline.warehouse.tables import Column, Table
from health_pipeline.warehouse.transactions import without_values

_INTEGERS = {"TINYINT", "SMALLINT", "INTEGER", "BIGINT", "HUGEINT", "UTINYINT", "USMALLINT", "UINTEGER", "UBIGINT"}
_MORE_MEMORY = "raise HEALTH_PIPELINE_WAREHOUSE__MEMORY_LIMIT or lower HEALTH_PIPELINE_WAREHOUSE__THREADS"
_TIMESTAMPS = {"TIMESTAMP", "TIMESTAMP_S", "TIMESTAMP_MS", "TIMESTAMP_NS"}


Part = tuple[str, Mapping[str, Any]]
"""A SELECT and the values of its ``$name`` parameters."""


class MemoryShortError(SliceError):
    """A query needs more memory than the settings allow, and cannot spill it."""


def replace_months(
    connection: duckdb.DuckDBPyConnection,
    table: Table,
    months: MonthRange,
    parts: Sequence[Part],
    *,
    allow_empty: bool,
) -> list[SliceReport]:
    """Replace the rows of ``months`` by those of all ``parts``; the caller has begun a transaction and ends it.

    Raises:
        SliceError: the rows break the declaration of the table; says which months and columns, never a value.
    """
    name, partition = sql_name(table), f'"{table.partition}"'
    try:
        _verify_columns(connection, table, *parts[0])
        connection.execute(
            f"DELETE FROM {name} WHERE {partition} BETWEEN DATE '{months.first}' AND DATE '{months.last}'"
        )
        inserted = 0
        for select, parameters in parts:
            done = connection.execute(f"INSERT INTO {name} BY NAME {select}", parameters or None).fetchone()
            inserted += done[0] if done else 0
    except duckdb.TransactionException:
        raise
    except duckdb.Error as error:
        short = isinstance(error, duckdb.OutOfMemoryException)
        raise (MemoryShortError if short else SliceError)(
            without_values(error),
            where=f"{table.qualified} {months}",
            remedy=f"{_MORE_MEMORY if short else 'mend the query or its inputs'}; the stored rows are as they were",
        ) from None
    counted = _fingerprints(connection, table, months)
    _verify_rows(table, months, inserted, counted, allow_empty=allow_empty)
    return [_report(table, month, counted.get(month)) for month in months]


def slice_reports(connection: duckdb.DuckDBPyConnection, table: Table, months: MonthRange) -> list[SliceReport]:
    """What each month holds now."""
    counted = _fingerprints(connection, table, months)
    return [_report(table, month, counted.get(month)) for month in months]


def sql_name(table: Table) -> str:
    """``"schema"."name"``."""
    return f'"{table.schema}"."{table.name}"'


@dataclass(frozen=True, slots=True)
class _Fingerprint:
    """Content of a month, whatever the order of its rows."""

    rows: int
    distinct_keys: int
    hash_sum: int
    hash_xor: int


def _fingerprints(
    connection: duckdb.DuckDBPyConnection, table: Table, months: MonthRange
) -> dict[dt.date, _Fingerprint]:
    """Counts and hashes of each month in one scan.

    A row's hash covers its columns in declared order. Sum and exclusive or together depend on no order, and on how
    often a row stands there.
    """
    columns = ", ".join(f'"{column.name}"' for column in table.columns)
    key = ", ".join(f'"{name}"' for name in table.key)
    rows = connection.execute(
        f"""
        SELECT month, count(*), count(DISTINCT key_hash), sum(row_hash), bit_xor(row_hash)
        FROM (
            SELECT "{table.partition}" AS month, hash({columns}) AS row_hash, hash({key}) AS key_hash
            FROM {sql_name(table)}
            WHERE "{table.partition}" BETWEEN DATE '{months.first}' AND DATE '{months.last}'
        )
        GROUP BY month
        """
    ).fetchall()
    return {month: _Fingerprint(*rest) for month, *rest in rows}


def _report(table: Table, month: Month, found: _Fingerprint | None) -> SliceReport:
    found = found or _Fingerprint(0, 0, 0, 0)
    content_hash = f"{found.hash_sum % 2**64:016x}{found.hash_xor:016x}{found.rows:x}"
    return SliceReport(table, MonthRange(month, month), found.rows, content_hash)


def _verify_rows(
    table: Table, months: MonthRange, inserted: int, counted: dict[dt.date, _Fingerprint], *, allow_empty: bool
) -> None:
    inside = sum(counted[month].rows for month in months if month in counted)
    if inserted != inside:
        raise SliceError(
            f"{inserted - inside} of {inserted} rows lie outside the months {months}",
            where=f"{table.qualified}.{table.partition}",
            remedy=f"every row needs the first day of one of these months in '{table.partition}'",
        )
    doubled = [month for month in months if month in counted and counted[month].distinct_keys != counted[month].rows]
    if doubled:
        surplus = sum(counted[month].rows - counted[month].distinct_keys for month in doubled)
        raise SliceError(
            f"{surplus} rows repeat a key ({', '.join(table.key)})",
            where=f"{table.qualified} in {_names(doubled)}",
            remedy="deduplicate the rows, or declare the key that tells them apart",
        )
    empty = [month for month in months if month not in counted]
    if empty and not allow_empty:
        raise SliceError(
            "no rows",
            where=f"{table.qualified} in {_names(empty)}",
            remedy="this table may not have an empty month: look at its inputs",
        )


def _names(months: list[Month], shown: int = 12) -> str:
    names = ", ".join(f"{month:%Y-%m}" for month in months[:shown])
    return names if len(months) <= shown else f"{names} and {len(months) - shown} more months"


def _verify_columns(
    connection: duckdb.DuckDBPyConnection, table: Table, select: str, parameters: Mapping[str, Any]
) -> None:
    offered = {name: kind for name, kind, *_ in connection.execute(f"DESCRIBE {select}", parameters or None).fetchall()}
    missing = [name for name in table.column_names if name not in offered]
    unknown = [name for name in offered if name not in table.column_names]
    lossy = [
        f"{column.name} {offered[column.name]} (declared {column.type})"
        for column in table.columns
        if column.name in offered and not _fits(offered[column.name], column)
    ]
    complaints = [
        f"{words}: {', '.join(names)}"
        for words, names in (("missing columns", missing), ("undeclared columns", unknown), ("wrong types", lossy))
        if names
    ]
    if complaints:
        raise SliceError(
            "; ".join(complaints),
            where=table.qualified,
            remedy="give every declared column by its name, with a CAST where the type differs",
        )


def _fits(offered: str, column: Column) -> bool:
    """Whether a type can be stored as declared without silently losing anything."""
    declared = normal_type(column.type)
    offered = normal_type(offered)
    # A bare NULL is described as INTEGER; what is not NULL fails loudly in DuckDB's cast or is kept exactly.
    if offered in {declared, "NULL", "INTEGER"}:
        return True
    number = declared in {"DOUBLE", "FLOAT"} or declared.startswith("DECIMAL")
    if offered in _INTEGERS:
        return declared in _INTEGERS or number
    if offered == "FLOAT" or offered.startswith("DECIMAL"):
        return declared == "DOUBLE"
    if offered in _TIMESTAMPS or offered == "DATE":
        return declared in _TIMESTAMPS
    if declared in {"VARCHAR", "JSON"}:
        return offered in {"VARCHAR", "JSON", "UUID"} or offered.startswith("ENUM")
    return False


def normal_type(text: str) -> str:
    """A DuckDB type name in the spelling of DESCRIBE."""
    text = re.sub(r"\s+", " ", text.strip().upper().strip('"'))
    synonyms = {
        "TEXT": "VARCHAR",
        "STRING": "VARCHAR",
        "INT": "INTEGER",
        "INT4": "INTEGER",
        "INT8": "BIGINT",
        "LONG": "BIGINT",
        "BOOL": "BOOLEAN",
        "REAL": "FLOAT",
        "FLOAT4": "FLOAT",
        "FLOAT8": "DOUBLE",
        "DATETIME": "TIMESTAMP",
        "TIMESTAMPTZ": "TIMESTAMP WITH TIME ZONE",
    }
    return synonyms.get(text, re.sub(r",\s+", ",", text))
