"""Quarantine: landed rows that break a rule, with the rule's name and words and without any of their values."""

from __future__ import annotations

from collections.abc import Mapping

from health_pipeline.contracts.staging import reasons_sql, staged_sql
from health_pipeline.contracts.tables import LANDING_TABLES
from health_pipeline.settings import Settings
from health_pipeline.warehouse.slices import Query, Slice


def rejected_query(bronze: Mapping[str, Slice], settings: Settings) -> Query:  # noqa: ARG001 - signature of every step
    """Rows of ``quarantine.rejected_rows``: all bronze rows that silver refuses, by the very same rules.

    Args:
        bronze: slices of bronze tables by landing table name.
        settings: unused; every step of the graph takes it.
    """
    parts = []
    for name, rows in bronze.items():
        table = LANDING_TABLES[name]
        parts.append(f"""
SELECT month, '{name}' AS table_name, source_file, source_row, row_hash, failed_rule AS rule,
  {reasons_sql(table)} AS reason
FROM ({staged_sql(table, rows)}) AS staged_{name}
WHERE failed_rule IS NOT NULL""")
    return Query("\nUNION ALL BY NAME\n".join(parts))
