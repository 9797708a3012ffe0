"""From typed rows to landing files: contract columns as text, identifiers that tell nothing, faults put in."""

from __future__ import annotations

from pathlib import Path

import duckdb
import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from health_pipeline.contracts.tables import LANDING_TABLES
from health_pipeline.errors import SourceError
from health_pipeline.settings import Settings
from health_pipeline.sources.landing_files import LandedFile, list_files
from health_pipeline.sources.landing_inspection import EMPTY_MARK
from health_pipeline.sources.simulator.faults import FAULTS, draw_faults
from health_pipeline.sources.sql import literal

SIMULATED_MARK = "health_pipeline.simulated"
"""Parquet metadata key of every simulated file: only such files may the simulator replace, or stand beside."""

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
        self._connection.execute("SET enable_progress_bar = false")
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
        again = rows.take(pa.array(np.flatnonzero(np.isin(faults, _repeated(table)))))
        right = np.zeros(len(again), dtype=np.int8)
        landed = pa.concat_tables([rows, again]).append_column("fault", pa.array(np.concatenate([faults, right])))
        self._connection.register("rows", landed)
        marks = {SIMULATED_MARK: "true"} | ({} if len(landed) else {EMPTY_MARK: "true"})
        try:
            # A plain projection keeps the order of the rows.
            self._connection.execute(
                f"COPY (SELECT {_text_sql(table, rows)} FROM rows) TO {literal(str(path))} "
                f"(FORMAT parquet, COMPRESSION zstd, KV_METADATA {marks})"
            )
        finally:
            self._connection.unregister("rows")
        return len(landed)


def refuse_beside_extracts(settings: Settings) -> None:
    """Keep invented patients away from those of a hospital.

    Raises:
        SourceError: the landing zone holds a file that the simulator did not write.
    """
    for table in LANDING_TABLES:
        for files in list_files(table, settings).files.values():
            for file in files:
                if not _is_simulated(file):
                    raise SourceError(
                        "the landing zone holds extracts that the simulator did not write; "
                        "its invented patients would replace them or mix with theirs",
                        where=file.path,
                        remedy="give the simulated hospital a home of its own: HEALTH_PIPELINE_HOME=<empty folder>",
                    )


def _is_simulated(file: LandedFile) -> bool:
    try:
        return file.kind == "parquet" and SIMULATED_MARK.encode() in (pq.read_metadata(file.path).metadata or {})
    except (OSError, pa.ArrowException):  # cut off, or no Parquet at all
        return False


def _repeated(table: str) -> list[int]:
    """Faults whose right version follows at the end of the file."""
    return [number for number, fault in enumerate(FAULTS[table], start=1) if fault.is_repeated]


def _text_sql(table: str, rows: pa.Table) -> str:
    """Contract columns as text, with the change that a row's fault makes."""
    columns = []
    for name in LANDING_TABLES[table].column_names:
        cases = [
            f"WHEN {number} THEN {fault.changes[name]}"
            for number, fault in enumerate(FAULTS[table], start=1)
            if name in fault.changes
        ]
        plain = _text(name, rows)
        columns.append(f"CASE fault {' '.join(cases)} ELSE {plain} END AS {name}" if cases else f"{plain} AS {name}")
    return ", ".join(columns)


def _text(name: str, rows: pa.Table) -> str:
    if name in _COLUMNS:
        return _COLUMNS[name]
    return f"{name}::VARCHAR" if name in rows.column_names else "NULL::VARCHAR"
