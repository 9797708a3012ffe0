"""Tables as declared and tables as stored: created when missing, widened by new nullable columns, else refused."""

from __future__ import annotations

import duckdb

from health_pipeline.errors import WarehouseError
from health_pipeline.warehouse.extensions import quote
from health_pipeline.warehouse.replacement import normal_type, sql_name
from health_pipeline.warehouse.tables import Column, Table


def stored_columns(connection: duckdb.DuckDBPyConnection, table: Table) -> dict[str, str]:
    """Column names and types in storage; empty when the table does not exist."""
    # No statement parameters here: binding them makes DuckDB import pandas.
    rows = connection.execute(
        f"""
        SELECT column_name, data_type
        FROM duckdb_columns()
        WHERE database_name = current_database()
            AND schema_name = {quote(table.schema)} AND table_name = {quote(table.name)}
        ORDER BY column_index
        """
    ).fetchall()
    return dict(rows)


def matches(stored: dict[str, str], table: Table) -> bool:
    """Whether storage has exactly the declared columns."""
    return {name: normal_type(kind) for name, kind in stored.items()} == {
        column.name: normal_type(column.type) for column in table.columns
    }


def conform(connection: duckdb.DuckDBPyConnection, table: Table) -> None:
    """Bring storage to the declaration inside the caller's transaction.

    A missing table is created, a declared nullable column that storage lacks is added (older months hold NULL).
    Nothing else is guessed.

    Raises:
        WarehouseError: the declaration dropped, renamed or retyped a column, or added one that may not be NULL.
    """
    stored = stored_columns(connection, table)
    if not stored:
        connection.execute(f'CREATE SCHEMA IF NOT EXISTS "{table.schema}"')
        columns = ", ".join(_definition(column) for column in table.columns)
        connection.execute(f"CREATE TABLE {sql_name(table)} ({columns})")
        return
    if matches(stored, table):
        return
    declared = {column.name: column for column in table.columns}
    added = [column for column in table.columns if column.name not in stored]
    complaints = [
        *(f"'{name}' is stored but not declared" for name in stored if name not in declared),
        *(
            f"'{name}' is stored as {kind}, declared as {declared[name].type}"
            for name, kind in stored.items()
            if name in declared and normal_type(kind) != normal_type(declared[name].type)
        ),
        *(f"'{column.name}' is new and may not be NULL" for column in added if not column.nullable),
    ]
    if complaints:
        raise WarehouseError(
            f"the declared columns do not fit the stored table: {'; '.join(complaints)}",
            where=table.qualified,
            remedy=f"declare it as stored (new columns nullable), or drop {table.qualified} and backfill its months",
        )
    for column in added:
        connection.execute(f"ALTER TABLE {sql_name(table)} ADD COLUMN {_definition(column)}")


def _definition(column: Column) -> str:
    return f'"{column.name}" {column.type}{"" if column.nullable else " NOT NULL"}'
