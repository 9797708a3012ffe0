"""A home from an archive: checked, unpacked beside the home, then put in its place in one step."""

from __future__ import annotations

import ctypes
import errno
import fcntl
import hashlib
import os
import shutil
import sqlite3
import stat
import tarfile
from collections.abc import Iterator
from contextlib import closing, contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import IO, TYPE_CHECKING

from health_pipeline.backup.contents import landing_folder, secret_files
from health_pipeline.backup.manifest import MANIFEST, Manifest, Member, decode
from health_pipeline.errors import BackupError
from health_pipeline.warehouse.lock import TicketLock

if TYPE_CHECKING:
    from health_pipeline.clock import Clock
    from health_pipeline.settings import Settings

_CHUNK = 1 << 20
_PLACES = ("artifact_location", "artifact_uri", "source", "storage_location")
"""Columns of MLflow that hold addresses of files."""


@dataclass(frozen=True)
class Restored:
    """What was restored.

    Attributes:
        manifest: of the archive.
        former: where the former home lies now, if there was one.
        carried: what the archive does not hold and was taken over from the former home.
    """

    manifest: Manifest
    former: Path | None
    carried: tuple[str, ...]


def verify_backup(archive: Path) -> Manifest:
    """Read an archive to its end and compare every file with its digest.

    Raises:
        BackupError: it is not whole, was changed, or is no archive of a home.
    """
    with _opened(archive) as tar:
        manifest = _manifest(tar, archive)
        _read_all(tar, manifest, archive, None)
    return manifest


def restore_backup(settings: Settings, archive: Path, *, clock: Clock, replace: bool = False) -> Restored:
    """Put the home of an archive in the place of the settings' home.

    The archive is verified to its end first. It is then unpacked beside the home and takes its place in one step; the
    former home is kept under another name. A kill at any moment leaves the former home, or the restored one; where the
    file system cannot exchange two folders (NFS) there may be none for a moment, and the next call says how to go on.

    Args:
        settings: name the home.
        archive: written by :func:`create_backup`.
        clock: names the former home.
        replace: put a home that holds something aside; otherwise it is refused.

    Raises:
        BackupError: the archive is not whole, the home is not empty or in use, or the backend is another.
    """
    home = settings.home.resolve()
    staging = home.with_name(f".{home.name}.restoring")
    _refuse_half_done(home, staging)
    manifest = verify_backup(archive)
    if manifest.backend != settings.warehouse.backend:
        raise BackupError(
            f"the archive holds a warehouse of the backend {manifest.backend}",
            where="HEALTH_PIPELINE_WAREHOUSE__BACKEND",
            remedy=f"set it to {manifest.backend}",
        )
    occupied = home.is_dir() and any(home.iterdir())
    if occupied and not replace:
        raise BackupError(
            "the home is not empty", where=str(home), remedy="--replace puts it aside, or set HEALTH_PIPELINE_HOME"
        )
    _refuse_in_use(settings, home)
    shutil.rmtree(staging, ignore_errors=True)
    try:
        with _opened(archive) as tar:
            _read_all(tar, manifest, archive, staging)
    except BackupError:
        shutil.rmtree(staging, ignore_errors=True)  # it may have filled the disk
        raise
    staging.chmod(stat.S_IMODE(home.stat().st_mode) if home.is_dir() else 0o700)
    _relocate_models(staging / "mlflow.db", Path(manifest.home), home)
    carried = _copy_secrets(home, staging)
    former = home.with_name(f"{home.name}.before-{clock():%Y%m%dT%H%M%S}") if occupied else None
    try:
        _put_in_place(staging, home, former)
    except OSError as error:
        raise BackupError(
            f"the home cannot be exchanged: {error.strerror}",
            where=str(home),
            remedy="a mounted folder cannot be renamed: let the home be a folder inside of it",
        ) from error
    landing = landing_folder(settings)
    if former is not None and landing is not None and _move_landing(home, landing):
        carried = [landing, *carried]
    return Restored(manifest, former, tuple(carried))


@contextmanager
def _opened(archive: Path) -> Iterator[tarfile.TarFile]:
    try:
        with tarfile.open(archive, "r:") as tar:
            yield tar
    except (tarfile.TarError, EOFError, OSError) as error:
        raise BackupError(
            f"the archive cannot be read: {error}", where=str(archive), remedy="take another archive"
        ) from error


def _manifest(tar: tarfile.TarFile, archive: Path) -> Manifest:
    names = tar.getnames()
    file = tar.extractfile(MANIFEST) if MANIFEST in names else None
    if file is None:
        raise BackupError("the archive was cut off, or is none of ours", where=str(archive), remedy="take another")
    manifest = decode(file.read(), str(archive))
    if sorted(names) != sorted([MANIFEST, *(f"home/{member.path}" for member in manifest.members)]):
        raise BackupError(
            "the archive holds other files than its manifest says", where=str(archive), remedy="do not trust it"
        )
    return manifest


def _read_all(tar: tarfile.TarFile, manifest: Manifest, archive: Path, into: Path | None) -> None:
    """Compare every file with its digest; write it below a folder where one is given."""
    for member in manifest.members:
        digest = hashlib.sha256()
        with _sink(into, member) as sink:
            for piece in _pieces(tar, member):
                digest.update(piece)
                if sink is not None:
                    sink.write(piece)
        if digest.hexdigest() != member.sha256:
            raise BackupError(
                f"{member.path} is not what the manifest says", where=str(archive), remedy="take another archive"
            )


@contextmanager
def _sink(into: Path | None, member: Member) -> Iterator[IO[bytes] | None]:
    if into is None:
        yield None
        return
    path = into / member.path
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        with os.fdopen(os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600), "wb") as file:
            yield file
            file.flush()
            os.fsync(file.fileno())
        path.chmod(member.mode & 0o777)
    except OSError as error:  # the archive itself was read to its end before
        raise BackupError(
            f"the archive cannot be unpacked: {error.strerror}",
            where=str(into.parent),
            remedy="check owner, permissions and free space there; the archive is whole, the home as it was",
        ) from error


def _pieces(tar: tarfile.TarFile, member: Member) -> Iterator[bytes]:
    file: IO[bytes] | None = tar.extractfile(f"home/{member.path}")
    if file is None:
        raise tarfile.TarError(f"{member.path} is no plain file")
    with file:
        while piece := file.read(_CHUNK):
            yield piece


def _refuse_in_use(settings: Settings, home: Path) -> None:
    queue = home / f"{settings.warehouse_path.name}.queue"
    users = [str(each) for each in TicketLock(queue).queue()] if queue.is_dir() else []
    for lock in home.glob("serving/*/supervisor.lock"):
        with lock.open("r+") as file:
            try:
                fcntl.flock(file, fcntl.LOCK_SH | fcntl.LOCK_NB)
            except BlockingIOError:
                users.append(f"the API of {lock.parent.name}")
    users += _with_open_files(home)
    if users:
        raise BackupError(
            f"the home is in use by {users[0]}", where=str(home), remedy="stop UI, daemon, runs and API first"
        )


def _with_open_files(home: Path) -> Iterator[str]:
    """Processes that hold files of the home, as far as the system shows: UI and daemon keep Dagster's records open.

    They would write on into the former home, while new runs are recorded in the restored one.
    """
    for process in Path("/proc").glob("[0-9]*"):
        if int(process.name) == os.getpid():
            continue
        with suppress(OSError):  # has ended, or belongs to another user
            if any(number.readlink().is_relative_to(home) for number in (process / "fd").iterdir()):
                yield f"process {process.name} ({(process / 'comm').read_text().strip()})"


def _formers(home: Path) -> list[Path]:
    """Homes that were put aside, newest first."""
    return sorted(home.parent.glob(f"{home.name}.before-*"), reverse=True)


def _refuse_half_done(home: Path, staging: Path) -> None:
    """A former home that was put aside without another in its place still has the key, which must come along."""
    if staging.exists() and not home.exists() and (formers := _formers(home)):
        raise BackupError(
            "a restore was cut off between putting the former home aside and the new one in its place",
            where=str(formers[0]),
            remedy=f"rename it to {home} and restore again; if it is older than that, remove {staging} instead",
        )


def _put_in_place(staging: Path, home: Path, former: Path | None) -> None:
    """The unpacked home becomes the home, and the former one lies under its new name."""
    if former is None:
        staging.rename(home)
        return
    staging.rename(former)
    try:
        _exchange(former, home)
    except OSError as error:
        former.rename(staging)
        if error.errno not in {errno.EINVAL, errno.ENOSYS}:
            raise
        home.rename(former)
        staging.rename(home)


def _exchange(one: Path, other: Path) -> None:
    """Let two folders change names, in one step.

    Raises:
        OSError: ``EINVAL`` or ``ENOSYS`` where system or file system cannot do that.
    """
    rename = getattr(ctypes.CDLL(None, use_errno=True), "renameat2", None)
    if rename is None:
        raise OSError(errno.ENOSYS, os.strerror(errno.ENOSYS))
    here, exchange = -100, 2  # AT_FDCWD, RENAME_EXCHANGE
    if rename(here, os.fsencode(one), here, os.fsencode(other), exchange) != 0:
        raise OSError(ctypes.get_errno(), os.strerror(ctypes.get_errno()))


def _relocate_models(database: Path, before: Path, after: Path) -> None:
    """MLflow keeps absolute addresses of its files: they follow the home."""
    if before == after or not database.exists():
        return
    with closing(sqlite3.connect(database)) as connection, connection:
        tables = [row[0] for row in connection.execute("SELECT name FROM sqlite_master WHERE type = 'table'")]
        for table in tables:
            columns = [row[1] for row in connection.execute(f'PRAGMA table_info("{table}")') if row[1] in _PLACES]
            for column in columns:
                # Names come from MLflow's schema; values are parameters.
                old, new = f"{before.as_uri()}/", f"{after.as_uri()}/"
                connection.execute(
                    f'UPDATE "{table}" SET "{column}" = ? || substr("{column}", ?) WHERE substr("{column}", 1, ?) = ?',
                    (new, len(old) + 1, len(old), old),
                )


def _copy_secrets(home: Path, staging: Path) -> list[str]:
    """Files with secrets that the archive leaves out, copied before the homes are exchanged.

    A home without its key would make a new one in the next run, and every patient would look new.
    """
    copied = []
    for name in secret_files(home):
        source, target = home / name, staging / name
        if source.is_file() and not target.exists():
            target.parent.mkdir(parents=True, exist_ok=True)
            with os.fdopen(os.open(target, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600), "wb") as file:
                file.write(source.read_bytes())
                file.flush()
                os.fsync(file.fileno())
            copied.append(name)
    return copied


def _move_landing(home: Path, landing: str) -> bool:
    """The landing zone that the archive leaves out, by a rename on the same disk; whether there was one.

    It lies in the home that was put aside last, or, where a kill came before this, in one before that.
    """
    target = home / landing
    sources = [former / landing for former in _formers(home) if (former / landing).exists()]
    if not sources or target.exists():
        return False
    try:
        target.parent.mkdir(parents=True, exist_ok=True)
        sources[0].rename(target)
    except OSError as error:
        raise BackupError(
            f"the home is restored, but its landing zone cannot be moved: {error.strerror}",
            where=str(sources[0]),
            remedy=f"mount or move it to {target}",
        ) from error
    return True
