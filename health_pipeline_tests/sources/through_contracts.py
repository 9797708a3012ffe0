"""Take landed files through bronze, silver and quarantine, with the real queries, in an in-memory database."""

from __future__ import annotations

from dataclasses import dataclass

import duckdb

from health_pipeline.contracts import BRONZE, LANDING_TABLES, rejected_query, silver_query
from health_pipeline.months import MonthRange
from health_pipeline.settings import Settings
from health_pipeline.sources.landing import bronze_query
from health_pipeline.warehouse.slices import Query, Slice


@dataclass(frozen=True)
class Contracts:
    """Connection with schemas ``bronze`` and ``silver`` and the table ``rejected``."""

    connection: duckdb.DuckDBPyConnection

    def count(self, table: str, condition: str = "true") -> int:
        return self.connection.execute(f"SELECT count(*) FROM {table} WHERE {condition}").fetchall()[0][0]

    def rejected(self) -> dict[tuple[str, str], int]:
        rows = self.connection.execute("SELECT table_name, rule, count(*) FROM rejected GROUP BY ALL").fetchall()
        return {(table, rule): count for table, rule, count in rows}


def through_contracts(months: MonthRange, settings: Settings) -> Contracts:
    connection = duckdb.connect()
    connection.execute("CREATE SCHEMA bronze; CREATE SCHEMA silver")
    slices = {name: Slice(BRONZE[name], months) for name in LANDING_TABLES}
    for name in LANDING_TABLES:
        _create(connection, f"bronze.{name}", bronze_query(name, months, settings))
    for name in LANDING_TABLES:
        _create(connection, f"silver.{name}", silver_query(name, slices[name], settings))
    _create(connection, "rejected", rejected_query(slices, settings))
    return Contracts(connection)


def _create(connection: duckdb.DuckDBPyConnection, name: str, query: Query) -> None:
    connection.execute(f"CREATE TABLE {name} AS {query.sql}", query.parameters or None)
