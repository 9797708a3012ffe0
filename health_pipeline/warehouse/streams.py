"""Arrow batches that outlive the connection they come from."""

from __future__ import annotations

import os
import tempfile
from pathlib import Path
from typing import TYPE_CHECKING

import pyarrow as pa

if TYPE_CHECKING:
    import duckdb

BATCH_ROWS = 100_000


def spill(connection: duckdb.DuckDBPyConnection, sql: str, folder: Path) -> pa.RecordBatchReader:
    """Write the rows of a SELECT to a file and read them back in batches, on demand.

    The file has no name any more when this returns, so it goes away with its reader, whatever happens.
    """
    folder.mkdir(parents=True, exist_ok=True)
    descriptor, name = tempfile.mkstemp(dir=folder, suffix=".arrow")
    try:
        rows = connection.sql(sql).to_arrow_reader(BATCH_ROWS)
        with os.fdopen(descriptor, "wb") as file, pa.ipc.new_stream(file, rows.schema) as writer:
            for batch in rows:
                writer.write_batch(batch)
        return pa.ipc.open_stream(pa.memory_map(name))
    finally:
        Path(name).unlink(missing_ok=True)
