"""From typed rows to landing files: contract columns as text, identifiers that tell nothing, faults put in."""

from __future__ import annotations

from pathlib import Path

import duckdb
import numpy as np
import pyarrow as pa

from health_pipeline.contracts.tables import LANDING_TABLES
from health_pipeline.settings import Settings
from health_pipeline.sources.simulator.faults import FAULTS, draw_faults
from health_pipeline.sources.sql import literal

# Multiplication by an odd number is a bijection modulo 2^32: identifiers are unique and their order means nothing.
_PERSON = "printf('P%010d', (person * 2246822519) % 4294967296)"
_STAY = "CASE WHEN stay > 0 THEN printf('E%010d', (stay * 2654435761) % 4294967296) END"
_CLAIM = "printf('C%010d', (number * 3266489917) % 4294967296)"
_COLUMNS = {"patient_id": _PERSON, "encounter_id": _STAY, "claim_id": _CLAIM}


class LandingFiles:
    """Writes months with an in-memory DuckDB.

    Args:
        settings: memory and threads of DuckDB, and the rate of faults.
    """

    def __init__(self, settings: Settings) -> None:
        self._rate = settings.simulator.dirt_rate
        self._connection = duckdb.connect()
        self._connection.execute(f"SET memory_limit = {literal(settings.warehouse.memory_limit)}")
        if settings.warehouse.threads:
            self._connection.execute(f"SET threads = {settings.warehouse.threads}")

    def close(self) -> None:
        """Release DuckDB."""
        self._connection.close()

    def write(self, table: str, rows: pa.Table, rng: np.random.Generator, path: Path) -> int:
        """Write one month of one table.

        Args:
            table: landing table.
            rows: typed rows in the order in which they are to stand in the file.
            rng: stream of the faults.
            path: file to write.

        Returns:
            Number of landed rows.
        """
        faults = draw_faults(rng, table, len(rows), self._rate)
        numbered = rows.append_column("fault", pa.array(faults)).append_column("position", pa.array(range(len(rows))))
        self._connection.register("rows", numbered)
        try:
            sql = f"SELECT * EXCLUDE (position, part) FROM ({_text_sql(table, rows)}) ORDER BY part, position"
            self._connection.execute(f"COPY ({sql}) TO {literal(str(path))} (FORMAT parquet, COMPRESSION zstd)")
        finally:
            self._connection.unregister("rows")
        repeated = [number for number, fault in enumerate(FAULTS[table], start=1) if fault.is_repeated]
        return len(rows) + int(np.isin(faults, repeated).sum())


def _text_sql(table: str, rows: pa.Table) -> str:
    """All rows with their faults, then the right versions of the repeated ones."""
    names = LANDING_TABLES[table].column_names
    plain = {name: _text(name, rows) for name in names}
    faults = list(enumerate(FAULTS[table], start=1))
    changed = {
        name: "CASE fault "
        + " ".join(f"WHEN {number} THEN {fault.changes[name]}" for number, fault in faults if name in fault.changes)
        + f" ELSE {plain[name]} END"
        if any(name in fault.changes for _, fault in faults)
        else plain[name]
        for name in names
    }
    repeated = ", ".join(str(number) for number, fault in faults if fault.is_repeated)
    first = ", ".join(f"{sql} AS {name}" for name, sql in changed.items())
    again = ", ".join(f"{sql} AS {name}" for name, sql in plain.items())
    return f"""
SELECT {first}, position, 0 AS part FROM rows
UNION ALL
SELECT {again}, position, 1 AS part FROM rows WHERE fault IN ({repeated})"""


def _text(name: str, rows: pa.Table) -> str:
    if name in _COLUMNS:
        return _COLUMNS[name]
    return f"{name}::VARCHAR" if name in rows.column_names else "NULL::VARCHAR"
