"""Writing an archive: everything of one moment, under a temporary name until it is whole."""

from __future__ import annotations

import errno
import hashlib
import io
import os
import sqlite3
import stat
import tarfile
import tempfile
from contextlib import closing
from pathlib import Path
from typing import IO, TYPE_CHECKING

from health_pipeline import __version__
from health_pipeline.backup.contents import GONE, Found, find_files
from health_pipeline.backup.manifest import FORMAT, MANIFEST, Manifest, Member, encode
from health_pipeline.errors import BackupError
from health_pipeline.warehouse import Warehouse
from health_pipeline.warehouse.extensions import quote

if TYPE_CHECKING:
    from health_pipeline.clock import Clock
    from health_pipeline.settings import Settings


def create_backup(
    settings: Settings,
    target: Path,
    *,
    instance_folder: Path,
    clock: Clock,
    with_keys: bool = False,
    with_landing: bool = False,
) -> Manifest:
    """Write one archive of the home.

    The warehouse is held for reading until the last file is copied: whoever would replace rows waits, so no row of
    the archive points to a model that is not in it. Runs may go on; what they record meanwhile is newer, never lost.

    Args:
        settings: name the home.
        target: the archive; must not exist, and must lie outside of the home.
        instance_folder: Dagster's folder.
        clock: gives ``created_at``.
        with_keys: take the pseudonym key, the API token and settings files with secrets too.
        with_landing: take the landing zone too.

    Raises:
        BackupError: the home is empty, the target is taken or inside the home, or the backend is a server.
    """
    home = settings.home.resolve()
    _refuse(settings, home, target)
    target.parent.mkdir(parents=True, exist_ok=True)
    draft = target.with_name(f".{target.name}.partial")
    warehouse = Warehouse.from_settings(settings)
    descriptor = os.open(draft, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o600)
    try:
        with (
            os.fdopen(descriptor, "wb") as file,
            tempfile.TemporaryDirectory(dir=target.parent, prefix=f".{target.name}.") as scratch,
            tarfile.open(fileobj=file, mode="w", format=tarfile.PAX_FORMAT) as archive,
        ):
            writer = _Writer(archive, Path(scratch))
            if warehouse.backend.is_new:
                left_out = writer.add_home(settings, instance_folder, with_keys, with_landing)
            else:
                with warehouse.read("backup") as connection:
                    copy = Path(scratch) / "warehouse"
                    options = f" ({', '.join(warehouse.backend.options)})" if warehouse.backend.options else ""
                    connection.execute(f"ATTACH {quote(str(copy))} AS archived{options}")
                    connection.execute("COPY FROM DATABASE warehouse TO archived")
                    connection.execute("DETACH archived")
                    writer.add(settings.warehouse_path.name, copy)
                    left_out = writer.add_home(settings, instance_folder, with_keys, with_landing)
            manifest = Manifest(
                format=FORMAT,
                created_at=clock(),
                package_version=__version__,
                home=str(home),
                backend=settings.warehouse.backend,
                members=writer.members,
                left_out=left_out,
            )
            content = encode(manifest)
            about = tarfile.TarInfo(MANIFEST)
            about.size = len(content)
            archive.addfile(about, io.BytesIO(content))
            archive.close()
            file.flush()
            os.fsync(file.fileno())
        _publish(draft, target)
    except OSError as error:
        raise BackupError(
            f"the backup cannot be made: {error.strerror}",
            where=str(error.filename or target),
            remedy="check owner, permissions and free space there",
        ) from error
    finally:
        draft.unlink(missing_ok=True)
    return manifest


def _publish(draft: Path, target: Path) -> None:
    """Give the archive its name; a target that somebody made meanwhile stays."""
    try:
        os.link(draft, target)  # unlike a rename it refuses a target
    except OSError as error:
        # A file has one name only on FAT, exFAT and some shares.
        if error.errno not in {errno.EPERM, errno.ENOTSUP, errno.ENOSYS} or target.exists():
            raise
        draft.rename(target)


def _refuse(settings: Settings, home: Path, target: Path) -> None:
    if settings.warehouse.backend == "ducklake":
        raise BackupError(
            "DuckLake keeps its tables in a catalog and a lake, which are saved by their own tools",
            where="HEALTH_PIPELINE_WAREHOUSE__BACKEND",
            remedy="see docs/operations/backup.md",
        )
    if not home.is_dir() or not any(home.iterdir()):
        raise BackupError("there is nothing to save", where=str(home), remedy="set HEALTH_PIPELINE_HOME")
    if target.exists():
        raise BackupError("the archive exists", where=str(target), remedy="choose another name")
    if target.resolve().is_relative_to(home):
        raise BackupError(
            "the archive would lie in the home it saves", where=str(target), remedy="choose a folder elsewhere"
        )


class _Writer:
    """Adds files to an archive and keeps their digests."""

    def __init__(self, archive: tarfile.TarFile, scratch: Path) -> None:
        self._archive, self._scratch = archive, scratch
        self.members: list[Member] = []

    def add_home(self, settings: Settings, instance_folder: Path, with_keys: bool, with_landing: bool) -> list[str]:
        """Everything but the warehouse; returns what is left out."""
        found, left_out = find_files(settings, instance_folder, with_keys=with_keys, with_landing=with_landing)
        for each in found:
            try:
                self._add_found(each)
            except FileNotFoundError:
                left_out.append(f"{each.path}: {GONE}")
        return left_out

    def _add_found(self, found: Found) -> None:
        if found.kind == "file":
            self.add(found.path, found.source)
            return
        if not found.source.exists():  # SQLite would make it anew
            raise FileNotFoundError(found.source)
        copy = self._scratch / "database"
        copy.unlink(missing_ok=True)
        with closing(sqlite3.connect(found.source)) as source, closing(sqlite3.connect(copy)) as target:
            source.backup(target)
        copy.chmod(stat.S_IMODE(found.source.stat().st_mode))
        self.add(found.path, copy)

    def add(self, path: str, source: Path) -> None:
        """Add a file as long as it is now: what is appended meanwhile is left for the next archive."""
        with source.open("rb") as file:
            state = os.fstat(file.fileno())
            entry = tarfile.TarInfo(f"home/{path}")
            entry.size, entry.mode, entry.mtime = state.st_size, stat.S_IMODE(state.st_mode), int(state.st_mtime)
            reader = _Hashing(file, state.st_size)
            try:
                self._archive.addfile(entry, reader)
            except OSError as error:
                if error.errno is not None:
                    raise
                raise BackupError(
                    f"a file became shorter while it was copied: {error}", where=path, remedy="take the backup again"
                ) from error
        self.members.append(Member(path, entry.size, reader.digest.hexdigest(), entry.mode))


class _Hashing:
    """Reads a bounded part of a file and hashes what goes by."""

    def __init__(self, file: IO[bytes], size: int) -> None:
        self._file, self._left = file, size
        self.digest = hashlib.sha256()

    def read(self, size: int = -1) -> bytes:
        """Up to ``size`` bytes."""
        content = self._file.read(self._left if size < 0 else min(size, self._left))
        self._left -= len(content)
        self.digest.update(content)
        return content
