"""Reading a landed file once before any table is touched: is it whole, and which columns does it have?

DuckDB's messages about broken files quote their rows, so they never leave this module: a fault is told in words of
our own. Two faults that DuckDB does not see are looked for in Python: a ``.csv.gz`` that was cut off is read as a
shorter file, and a quote that is never closed swallows the rows behind it.
"""

from __future__ import annotations

import csv
import gzip
import io
import zlib
from collections import Counter
from dataclasses import dataclass
from pathlib import Path
from typing import IO, cast

import duckdb

from health_pipeline.contracts.declarations import LandingTable
from health_pipeline.sources import object_storage
from health_pipeline.sources.landing_files import LandedFile
from health_pipeline.sources.landing_sql import RESERVED, csv_scan, literal, parquet_scan, quoted

DELIVER_AGAIN = "deliver the file again"
ROW_NUMBER = "file_row_number"
SEPARATORS = {";": "semicolons", "\t": "tabs", "|": "bars"}
"""What programs write instead of commas."""
LONGEST_LINE = 2_000_000
"""Bytes of a line that DuckDB takes; Python's reader stops at fields of 131,072 characters unless told otherwise."""
EMPTY_MARK = "health_pipeline.empty_month"
"""Parquet metadata key with which a source states that a month has no rows."""
EMPTY_KEY = f", KV_METADATA {{'{EMPTY_MARK}': 'true'}}"
"""Option of DuckDB's COPY that writes the mark."""


class FileFaultError(Exception):
    """What is wrong with one file, and what to do; never quotes its content."""

    def __init__(self, cause: str, remedy: str = DELIVER_AGAIN) -> None:
        self.cause, self.remedy = cause, remedy
        super().__init__(cause)


@dataclass(frozen=True, slots=True)
class FileShape:
    """Columns (name, DuckDB type) and number of rows of a file that was read to its end."""

    file: LandedFile
    columns: tuple[tuple[str, str], ...]
    rows: int


def inspect_file(connection: duckdb.DuckDBPyConnection, table: LandingTable, file: LandedFile) -> FileShape:
    """Read a file to its end.

    Raises:
        FileFaultError: it is unreadable, cut off, or lacks required columns.
    """
    purpose = f"read {file.source_file}"
    try:
        if file.kind == "parquet":
            shape = object_storage.with_retries(lambda: _parquet(connection, table, file), purpose)
        else:
            shape = object_storage.with_retries(lambda: _csv(connection, table, file), purpose)
    except duckdb.Error as error:
        raise _told(error, file) from None
    except (OSError, MemoryError) as error:
        raise FileFaultError(f"cannot be opened ({type(error).__name__})", "check that the file may be read") from None
    if table.is_label_source and shape.rows == 0 and not _is_marked_empty(connection, file):
        raise FileFaultError("has no rows", "deliver the stays of the month")
    return shape


def _is_marked_empty(connection: duckdb.DuckDBPyConnection, file: LandedFile) -> bool:
    """Whether the writer of the file says that the month has no rows: an explicit choice, not an accident."""
    if file.kind != "parquet":
        return False
    keys = f"SELECT count(*) FROM parquet_kv_metadata({literal(file.path)}) WHERE key::VARCHAR = '{EMPTY_MARK}'"
    return _count(connection, keys) > 0


def _parquet(connection: duckdb.DuckDBPyConnection, table: LandingTable, file: LandedFile) -> FileShape:
    described = connection.execute(f"DESCRIBE SELECT * FROM read_parquet({literal(file.path)})").fetchall()
    columns = tuple((str(name), str(kind)) for name, kind, *_ in described)
    _check_columns(table, [name for name, _ in columns])
    every = ", ".join(quoted(name) for name, _ in columns)
    read = f"SELECT count(*), bit_xor(hash({every})) FROM {parquet_scan([file])}"
    return FileShape(file, columns, _count(connection, read))


def _csv(connection: duckdb.DuckDBPyConnection, table: LandingTable, file: LandedFile) -> FileShape:
    if object_storage.is_remote(file.path):
        header, rows = _parse(io.BytesIO(object_storage.read_bytes(connection, file.path)), file)
    else:
        with Path(file.path).open("rb") as binary:
            header, rows = _parse(binary, file)
    _check_columns(table, header)
    columns = tuple((name, "VARCHAR") for name in header)
    every = ", ".join(quoted(name) for name in header)
    read = f"SELECT count(*), bit_xor(hash({every})) FROM {csv_scan(file, header)}"
    if _count(connection, read) != rows:
        raise FileFaultError("is ambiguous CSV: two readers count different numbers of rows", "write CSV by RFC 4180")
    return FileShape(file, columns, rows)


def _count(connection: duckdb.DuckDBPyConnection, sql: str) -> int:
    row = connection.execute(sql).fetchone()
    return int(row[0]) if row else 0


def _parse(binary: IO[bytes], file: LandedFile) -> tuple[list[str], int]:
    """Header and number of rows of a CSV that follows RFC 4180 to its last byte."""
    csv.field_size_limit(LONGEST_LINE)
    stream = cast("IO[bytes]", gzip.GzipFile(fileobj=binary)) if file.kind == "csv.gz" else binary
    line = 1
    try:
        with stream, io.TextIOWrapper(stream, encoding="utf-8-sig", newline="") as text:
            rows = csv.reader(text, strict=True)
            header = next(rows, [])
            if not header:
                raise FileFaultError("is empty")
            count = 0
            for fields in rows:
                line = rows.line_num
                if fields and len(fields) != len(header):
                    raise FileFaultError(
                        f"line {line} has {len(fields)} fields, the header has {len(header)}: "
                        "it is cut off or badly quoted"
                    )
                count += bool(fields)
    except csv.Error:
        raise FileFaultError(f"is badly quoted after line {line}", "write CSV by RFC 4180") from None
    except UnicodeDecodeError:
        raise FileFaultError(f"is not UTF-8 after line {line}", "write CSV in UTF-8") from None
    except (EOFError, zlib.error, gzip.BadGzipFile):
        raise FileFaultError("is no whole gzip file: cut off or corrupt") from None
    return [name.strip() or f"column{index}" for index, name in enumerate(header, start=1)], count


def _check_columns(table: LandingTable, columns: list[str]) -> None:
    if len(columns) == 1:
        for character, name in SEPARATORS.items():
            if character in columns[0]:
                raise FileFaultError(f"is separated by {name}, not by commas", "write CSV with commas (RFC 4180)")
    counted = Counter(name.lower() for name in columns)
    twice = sorted(name for name, count in counted.items() if count > 1)
    if twice:
        known = [name for name in twice if name in table.column_names]
        raise FileFaultError(
            f"has a column twice: {', '.join(known) or 'one that the contract does not know'}",
            "name every column once (upper and lower case are the same)",
        )
    missing = [name for name in table.required_columns if name not in counted]
    if missing:
        raise FileFaultError(
            f"lacks required columns: {', '.join(missing)}", f"see docs/contracts.md for the columns of {table.name}"
        )
    if any(name == ROW_NUMBER or name.startswith(RESERVED) for name in counted):
        raise FileFaultError(
            f"has a column named {ROW_NUMBER} or {RESERVED}..., which is reserved", "rename the column"
        )


def _told(error: duckdb.Error, file: LandedFile) -> FileFaultError:
    """A DuckDB error in words that quote no content."""
    text = str(error)
    if object_storage.is_connection_fault(error) and object_storage.is_remote(file.path):
        return FileFaultError("could not be fetched: the connection failed again and again", "check the network")
    if "HTTP" in text or "Permission" in text:
        return FileFaultError("may not be read", "check the permissions")
    if file.kind == "parquet":
        return FileFaultError("is no whole Parquet file: empty, cut off or corrupt")
    return FileFaultError("is no CSV by RFC 4180: cut off, badly quoted, or with mixed line ends")
