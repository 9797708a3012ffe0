"""Which files lie in the landing zone, by table and month; their content is not looked at here."""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from health_pipeline.errors import LandingError
from health_pipeline.months import Month, parse_month
from health_pipeline.settings import Settings
from health_pipeline.sources import object_storage

Kind = Literal["parquet", "csv", "csv.gz"]

_FILE_NAME = re.compile(r"^(\d{4}-\d{2})\.(parquet|csv|csv\.gz)$")


@dataclass(frozen=True, slots=True)
class LandedFile:
    """A file of one month.

    Attributes:
        path: local path or ``s3://`` address.
        size: bytes.
        written_at: POSIX seconds.
    """

    table: str
    month: Month
    kind: Kind
    path: str
    size: int
    written_at: float

    @property
    def source_file(self) -> str:
        """Path relative to the landing zone, as stored with every row."""
        return f"{self.table}/{self.month:%Y-%m}.{self.kind}"


@dataclass(frozen=True, slots=True)
class Listing:
    """What a table's folder holds.

    Attributes:
        files: files by month; more than one in a month is a fault that the reader reports.
        strangers: names that are not a month in a known format.
    """

    files: Mapping[Month, tuple[LandedFile, ...]]
    strangers: tuple[str, ...]


def list_files(table: str, settings: Settings) -> Listing:
    """List a table's folder; hidden files and sub-folders do not count.

    Raises:
        LandingError: an object store cannot be reached, or a folder may not be read.
    """
    root = settings.landing_uri.rstrip("/")
    if object_storage.is_remote(root):
        found = object_storage.list_objects(f"{root}/{table}/*")
    else:
        try:
            found = list(_local_files(Path(root) / table))
        except OSError as error:
            raise LandingError(
                f"the landing zone cannot be listed ({type(error).__name__})",
                where=f"{root}/{table}",
                remedy="check that the folder may be read",
            ) from None
    files: dict[Month, tuple[LandedFile, ...]] = {}
    strangers = []
    for path, size, written_at in sorted(found):
        name = path.rpartition("/")[2]
        if name.startswith((".", "_")):
            continue
        parts = _FILE_NAME.match(name)
        try:
            month = parse_month(parts[1]) if parts else None
        except ValueError:
            month = None
        if parts is None or month is None:
            strangers.append(name)
            continue
        kind: Kind = parts[2]  # type: ignore[assignment]  # the pattern allows nothing else
        files[month] = (*files.get(month, ()), LandedFile(table, month, kind, path, size, written_at))
    return Listing(files, tuple(strangers))


def _local_files(folder: Path) -> Iterator[object_storage.StoredObject]:
    if not folder.is_dir():
        return
    for path in folder.iterdir():
        with suppress(FileNotFoundError):  # withdrawn since the folder was read
            if not path.is_dir():
                stat = path.stat() if path.exists() else path.lstat()  # a link to nowhere is told when it is read
                yield object_storage.StoredObject(str(path), stat.st_size, stat.st_mtime)
