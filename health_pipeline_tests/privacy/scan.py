"""Searches everything a home holds for marks that stand for identifiers of patients."""

from __future__ import annotations

import gzip
import zipfile
from collections.abc import Iterable, Sequence
from pathlib import Path

import duckdb

RAW = ("landing",)
"""Folders that hold what the source delivered."""


def marks_in_home(home: Path, marks: Sequence[str], *, warehouse: Path | None = None) -> list[str]:
    """Places where a mark stands, except the landing zone and bronze, which are as delivered.

    The warehouse is read table by table, because its file also holds bronze; every other file is searched as bytes,
    packed ones unpacked.
    """
    warehouse = warehouse or home / "warehouse.duckdb"
    found = []
    for path in sorted(home.rglob("*")):
        if not path.is_file() or path.relative_to(home).parts[0] in RAW or path.name.startswith(warehouse.name):
            continue
        if any(_holds(content, marks) for content in _contents(path)):
            found.append(str(path.relative_to(home)))
    return found + (marks_in_warehouse(warehouse, marks) if warehouse.exists() else [])


def marks_in_warehouse(warehouse: Path, marks: Sequence[str]) -> list[str]:
    """Columns (``schema.table.column``) outside bronze in which a mark stands."""
    found = []
    with duckdb.connect(str(warehouse), read_only=True) as connection:
        columns = connection.execute(
            "SELECT schema_name, table_name, column_name FROM duckdb_columns() "
            "WHERE NOT internal AND schema_name <> 'bronze' ORDER BY ALL"
        ).fetchall()
        for schema, table, column in columns:
            conditions = " OR ".join(f"""contains(CAST("{column}" AS VARCHAR), ?)""" for _ in marks)
            query = f'SELECT count(*) FROM "{schema}"."{table}" WHERE {conditions}'
            if connection.execute(query, list(marks)).fetchone() != (0,):
                found.append(f"{schema}.{table}.{column}")
    return found


def _contents(path: Path) -> Iterable[bytes]:
    content = path.read_bytes()
    yield content
    if content[:2] == b"\x1f\x8b":
        yield gzip.decompress(content)
    elif zipfile.is_zipfile(path):
        with zipfile.ZipFile(path) as archive:
            yield from (archive.read(name) for name in archive.namelist())
    elif content[:4] == b"PAR1":
        rows = duckdb.execute(
            "SELECT CAST(to_json(file) AS VARCHAR) FROM read_parquet(?) AS file", [str(path)]
        ).fetchall()
        yield from (row.encode() for (row,) in rows)


def _holds(content: bytes, marks: Sequence[str]) -> bool:
    return any(mark.encode() in content or mark.encode("utf-16-le") in content for mark in marks)
