"""Landed months: what a source has produced, put into the landing zone whole or not at all."""

from __future__ import annotations

import fcntl
import filecmp
import shutil
from collections.abc import Callable, Collection, Iterable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from health_pipeline.errors import SourceError
from health_pipeline.months import Month
from health_pipeline.settings import Settings

Progress = Callable[[str], None]
"""Called with the name of each step or month."""

_OTHER_FORMATS = (".csv", ".csv.gz")


@dataclass(frozen=True)
class LandingZone:
    """The local landing folder, locked for one writer, with a scratch folder on the same disk."""

    folder: Path
    scratch: Path

    def path(self, table: str, month: Month) -> Path:
        """Final place of a month."""
        return self.folder / table / f"{month:%Y-%m}.parquet"

    def staged(self, table: str, month: Month) -> Path:
        """Where a month is written before it is published; the folder exists."""
        path = self.scratch / "months" / table / f"{month:%Y-%m}.parquet"
        path.parent.mkdir(parents=True, exist_ok=True)
        return path

    def publish(self, months: Iterable[tuple[str, Month]]) -> list[Path]:
        """Rename staged months into place; each replaces the former file in one step.

        A month that lies there byte for byte already is left alone: whoever waits for new files has nothing to do.

        Returns:
            The files that are new or were replaced.

        Raises:
            SourceError: the month already lies there in another format; nothing is published then.
        """
        months = list(months)
        for table, month in months:
            for suffix in _OTHER_FORMATS:
                other = self.folder / table / f"{month:%Y-%m}{suffix}"
                if other.exists():
                    raise SourceError(
                        "the month is already landed in another format",
                        where=str(other),
                        remedy="move that file away, or use another home",
                    )
        published = []
        for table, month in months:
            staged, final = self.staged(table, month), self.path(table, month)
            if final.exists() and filecmp.cmp(staged, final, shallow=False):
                continue
            final.parent.mkdir(parents=True, exist_ok=True)
            staged.replace(final)
            published.append(final)
        return published

    def withdraw(self, tables: Iterable[str], months: Iterable[Month], kept: Collection[tuple[str, Month]]) -> int:
        """Take away earlier files of the months that a source which now delivers all of them no longer has.

        Args:
            tables: tables that the source delivers.
            months: months that it covers.
            kept: tables and months that it has rows for.

        Returns:
            How many files were taken away.
        """
        gone = [self.path(table, month) for table in tables for month in months if (table, month) not in kept]
        there = [path for path in gone if path.exists()]
        for path in there:
            path.unlink()
        return len(there)


@contextmanager
def landing_zone(settings: Settings) -> Iterator[LandingZone]:
    """Open the landing folder for writing.

    Raises:
        SourceError: the landing zone is not a local folder, or another process is writing to it.
    """
    uri = settings.landing_uri
    if "://" in uri:
        raise SourceError(
            "sources write to a local landing folder only",
            where=uri,
            remedy="leave HEALTH_PIPELINE_LANDING empty, then copy <home>/landing to the bucket",
        )
    folder = Path(uri)
    folder.mkdir(parents=True, exist_ok=True)
    with (folder / ".lock").open("w") as lock:
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            raise SourceError(
                "another process is writing to the landing folder", where=str(folder), remedy="wait until it is done"
            ) from None
        scratch = folder / ".scratch"
        shutil.rmtree(scratch, ignore_errors=True)  # left behind by a killed writer; the lock says nobody uses it
        scratch.mkdir()
        try:
            yield LandingZone(folder, scratch)
        finally:
            shutil.rmtree(scratch, ignore_errors=True)
