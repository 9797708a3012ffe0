"""Foreign extracts: a zip, a folder or a single file with one CSV or Parquet file (or a folder of parts) per table."""

from __future__ import annotations

import csv
import gzip
import re
import shutil
import zipfile
import zlib
from collections.abc import Sequence
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path, PurePosixPath
from types import TracebackType
from typing import Self

import duckdb

from health_pipeline.errors import SourceError
from health_pipeline.sources.adapters.description import Input
from health_pipeline.sources.sql import identifier, literal

_NULLS = "['', 'NULL', 'null', '\\N']"
"""What databases write for a missing value."""
_SUFFIXES = (".csv.gz", ".csv", ".tsv", ".txt", ".parquet")


@dataclass(frozen=True)
class _Member:
    path: PurePosixPath

    @property
    def suffix(self) -> str:
        name = self.path.name.lower()
        return next((suffix for suffix in _SUFFIXES if name.endswith(suffix)), "")

    @property
    def stem(self) -> str:
        return self.path.name.lower().removesuffix(self.suffix)

    def hidden(self) -> bool:
        return any(part.startswith((".", "_")) and part != ".." for part in self.path.parts)

    @property
    def folder(self) -> str:
        """Name of the folder, which is the table's where an export consists of parts (as Spark writes them)."""
        return self.path.parent.name.lower().removesuffix(".parquet")


class Extract:
    """The files of a foreign extract; members of a zip are unpacked below ``scratch`` when they are asked for.

    Raises:
        SourceError: nothing there, or not an archive.
    """

    def __init__(self, path: Path, scratch: Path) -> None:
        self.path = path
        self._scratch = scratch
        self._stack = ExitStack()
        self._archive: zipfile.ZipFile | None = None
        if path.is_dir():
            names = [file.relative_to(path).as_posix() for file in sorted(path.rglob("*")) if file.is_file()]
        elif not path.exists():
            raise SourceError("no such file or folder", where=str(path), remedy="check the path given as input")
        elif zipfile.is_zipfile(path):
            self._archive = self._stack.enter_context(zipfile.ZipFile(path))
            names = sorted(item.filename for item in self._archive.infolist() if not item.is_dir())
        elif _Member(PurePosixPath(path.name)).suffix:
            names = [path.name]
        else:
            raise SourceError(
                "neither a zip archive nor a folder nor a CSV or Parquet file",
                where=str(path),
                remedy="give the archive as downloaded (repeat a broken download) or the folder it was unpacked to",
            )
        members = [_Member(PurePosixPath(name)) for name in names]
        self._members = [member for member in members if member.suffix and not member.hidden()]

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._stack.close()

    def load(self, connection: duckdb.DuckDBPyConnection, name: str, wanted: Input, *, is_only: bool = False) -> bool:
        """Create ``raw.<name>`` with the wanted columns, all text; an allowed gap becomes an empty table or NULLs.

        Args:
            connection: with the schema ``raw``.
            name: of the table.
            wanted: files and columns.
            is_only: the adapter reads no other table, so a file that is given by itself may have any name.

        Returns:
            Whether the table is in the extract.

        Raises:
            SourceError: a file or column that must be there is missing, or a file cannot be read.
        """
        given_by_itself = is_only and self._archive is None and self.path.is_file()
        members = self._members if given_by_itself else self._find(wanted)
        columns = [*wanted.required, *wanted.optional]
        if not members:
            declared = ", ".join(f"{identifier(column)} VARCHAR" for column in columns)
            connection.execute(f"CREATE TABLE raw.{identifier(name)} ({declared})")
            return False
        paths = [self._open(member) for member in members]
        where = f"{self.path}: {members[0].path}" if len(members) == 1 else f"{self.path}: {members[0].path.parent}/"
        load_files(connection, name, paths, wanted, where)
        return True

    def _find(self, wanted: Input) -> list[_Member]:
        stems = {_Member(PurePosixPath(file)).stem.lower() for file in wanted.files}
        whole = [member for member in self._members if member.stem in stems]
        found = whole or [member for member in self._members if member.folder in stems]
        if not found:
            if wanted.missing_ok:
                return []
            raise SourceError(
                f"{' or '.join(wanted.files)} is missing",
                where=str(self.path),
                remedy=f"it has {self._listing()}; check that this is the right extract",
            )
        places = {(member.path.parent, member.suffix) for member in found}
        if len(places) > 1 or len(whole) > 1:
            raise SourceError(
                f"{wanted.files[0]} is there more than once",
                where=f"{self.path}: {', '.join(str(member.path) for member in found[:4])}",
                remedy="give the folder of one export",
            )
        return found

    def _listing(self) -> str:
        names = [member.path.name for member in self._members]
        shown = ", ".join(names[:8]) or "no CSV or Parquet file"
        return shown + (f" and {len(names) - 8} more" if len(names) > 8 else "")

    def _open(self, member: _Member) -> Path:
        if self._archive is None:
            return self.path if self.path.is_file() else self.path / member.path
        # The name inside the archive is never used as a path: an archive cannot write outside the scratch folder.
        target = self._scratch / f"member-{self._members.index(member)}{member.suffix}"
        try:
            with self._archive.open(str(member.path)) as packed, target.open("wb") as plain:
                shutil.copyfileobj(packed, plain, 1 << 20)
        except (zipfile.BadZipFile, zlib.error, RuntimeError, NotImplementedError, EOFError, OSError) as error:
            raise SourceError(
                f"a member of the archive cannot be unpacked ({type(error).__name__})",
                where=f"{self.path}: {member.path}",
                remedy="repeat the download; archives with a password must be unpacked first",
            ) from None
        return target


def load_files(
    connection: duckdb.DuckDBPyConnection, name: str, paths: Sequence[Path], wanted: Input, where: str
) -> None:
    """Create ``raw.<name>`` from files of one kind; see :meth:`Extract.load`."""
    relation = _relation(paths, where)
    try:
        described = connection.execute(f"DESCRIBE SELECT * FROM {relation}").fetchall()
        present = {str(column).lower(): str(kind) for column, kind, *_ in described}
        missing = [column for column in wanted.required if column.lower() not in present]
        if missing:
            raise SourceError(
                f"columns missing: {', '.join(missing)}",
                where=where,
                remedy=f"the file has {len(present)} columns; check that it is the right file and has a header line",
            )
        selected = ", ".join(
            f"{_text(identifier(column), present[column.lower()])} AS {identifier(column)}"
            if column.lower() in present
            else f"NULL::VARCHAR AS {identifier(column)}"
            for column in [*wanted.required, *wanted.optional]
        )
        connection.execute(f"CREATE TABLE raw.{identifier(name)} AS SELECT {selected} FROM {relation}")
    except duckdb.Error as error:
        raise SourceError(
            f"the file cannot be read ({_cause(error)})",
            where=where,
            remedy="it must be an undamaged CSV (UTF-8, with a header line) or Parquet file",
        ) from None


def _text(column: str, kind: str) -> str:
    """A column as text. Data frames turn whole numbers with gaps into floats: 12.0 was the number, or code, 12.

    The NaN of a gap is no value.
    """
    if kind not in {"DOUBLE", "FLOAT"}:
        return f"CAST({column} AS VARCHAR)"
    whole = f"isfinite({column}) AND {column} = trunc({column}) AND abs({column}) < 1e15"
    text = f"CASE WHEN {whole} THEN CAST(CAST({column} AS BIGINT) AS VARCHAR) ELSE CAST({column} AS VARCHAR) END"
    return f"CASE WHEN NOT isnan({column}) THEN {text} END"


def _cause(error: duckdb.Error) -> str:
    """Kind and line of a reading error: its text would show the line itself, with values of patients."""
    line = re.search(r"Line: (\d+)", str(error))
    kind = type(error).__name__.removesuffix("Exception")
    return f"{kind} error in line {line[1]}" if line else f"{kind} error"


def _relation(paths: Sequence[Path], where: str) -> str:
    listed = ", ".join(literal(str(path)) for path in paths)
    if paths[0].name.lower().endswith(".parquet"):
        return f"read_parquet([{listed}], union_by_name = true)"
    for path in paths:
        _read_to_its_end(path, where)
    delimiter, columns = _header(paths[0], where)
    for path in paths[1:]:
        if _header(path, where) != (delimiter, columns):
            raise SourceError("parts of the table have different headers", where=where, remedy="export it again")
    declared = ", ".join(f"{literal(column)}: 'VARCHAR'" for column in columns)
    # Nothing is left to detection: DuckDB's sniffer silently skips lines that it takes for a preamble.
    return (
        f"read_csv([{listed}], auto_detect = false, header = true, delim = {literal(delimiter)}, quote = '\"', "
        f"escape = '\"', max_line_size = 16777216, nullstr = {_NULLS}, columns = {{{declared}}})"
    )


def _read_to_its_end(path: Path, where: str) -> None:
    """DuckDB takes a gzip file that was cut off for a shorter one, and looks at no checksum."""
    if not path.name.lower().endswith(".gz"):
        return
    try:
        with gzip.open(path) as stream:
            while stream.read(1 << 20):
                pass
    except (EOFError, zlib.error, gzip.BadGzipFile):
        raise SourceError(
            f"{path.name} is no whole gzip file: cut off or corrupt", where=where, remedy="repeat the download or copy"
        ) from None


def _header(path: Path, where: str) -> tuple[str, list[str]]:
    """Delimiter and column names of a CSV file."""
    opener = gzip.open if path.name.lower().endswith(".gz") else open
    try:
        with opener(path, "rt", encoding="utf-8-sig", errors="replace", newline="") as stream:
            line = stream.readline(1 << 20).strip("\r\n")
    except (OSError, EOFError) as error:
        raise SourceError(
            f"the file cannot be opened ({type(error).__name__})", where=where, remedy="repeat the download or copy"
        ) from None
    delimiter = max(",\t;|", key=line.count)
    columns = [name.strip() for name in next(csv.reader([line], delimiter=delimiter), [])]
    if not any(columns):
        raise SourceError("the file is empty", where=where, remedy="it must at least have a header line")
    lowered = [name.lower() for name in columns]
    if "" in lowered or len(set(lowered)) < len(lowered):
        raise SourceError("the header has empty or repeated names", where=where, remedy="export the file again")
    return delimiter, columns
