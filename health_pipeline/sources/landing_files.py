"""Which files lie in the landing zone, by table and month; their content is not looked at here."""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

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
    """

    table: str
    month: Month
    kind: Kind
    path: str

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
        LandingError: an object store cannot be reached.
    """
    root = settings.landing_uri.rstrip("/")
    if object_storage.is_remote(root):
        paths = object_storage.list_objects(f"{root}/{table}/*")
    else:
        folder = Path(root) / table
        paths = [str(path) for path in folder.iterdir() if not path.is_dir()] if folder.is_dir() else []
    files: dict[Month, tuple[LandedFile, ...]] = {}
    strangers = []
    for path in sorted(paths):
        name = path.rpartition("/")[2]
        if name.startswith((".", "_")):
            continue
        found = _FILE_NAME.match(name)
        try:
            month = parse_month(found[1]) if found else None
        except ValueError:
            month = None
        if found is None or month is None:
            strangers.append(name)
            continue
        kind: Kind = found[2]  # type: ignore[assignment]  # the pattern allows nothing else
        files[month] = (*files.get(month, ()), LandedFile(table, month, kind, path))
    return Listing(files, tuple(strangers))
