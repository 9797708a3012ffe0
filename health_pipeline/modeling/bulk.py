"""Scores of many rows, streamed: read from DuckDB, scored and written back a batch at a time."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pyarrow as pa

from health_pipeline.modeling.bundle import Bundle

if TYPE_CHECKING:
    import duckdb

BATCH_ROWS = 20_000
"""Rows in memory at a time: their matrix stays in the processor's cache for the most part."""


def score_query(
    connection: duckdb.DuckDBPyConnection, query: str, bundle: Bundle, destination: str, key: str = "encounter_id"
) -> int:
    """Append the probabilities of a query's rows to a table, in one transaction.

    Args:
        connection: may write.
        query: gives the key and the features.
        bundle: scores.
        destination: table with the columns ``key`` and ``probability``.
        key: column that names a row.

    Returns:
        Number of rows.
    """
    count = 0
    with connection.cursor() as reading:
        batches = reading.execute(query).to_arrow_reader(BATCH_ROWS)
        connection.execute("BEGIN")
        try:
            for batch in batches:
                probabilities = bundle.probabilities(pa.Table.from_batches([batch]))
                scored = pa.table({key: batch[key], "probability": probabilities})
                connection.register("scored_batch", scored)
                connection.execute(f'INSERT INTO {destination} SELECT "{key}", probability FROM scored_batch')
                count += batch.num_rows
            connection.execute("COMMIT")
        except BaseException:
            connection.execute("ROLLBACK")
            raise
        finally:
            connection.unregister("scored_batch")
    return count
