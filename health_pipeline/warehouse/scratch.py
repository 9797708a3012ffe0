"""Where DuckDB keeps what does not fit into memory: a folder of its own for each process.

DuckDB gives its temporary files the same names in every process. Two that share a folder, two runs that read at the
same time, overwrite each other's pages: they crash, or go on with wrong rows.
"""

from __future__ import annotations

import fcntl
import os
import secrets
import shutil
import threading
from pathlib import Path

_folders: dict[tuple[int, Path], Path] = {}
_guard = threading.Lock()


def own_folder(spill: Path) -> Path:
    """This process's folder below the common one; DuckDB makes it when it is needed, and empties it.

    Folders of processes that were killed are removed by the next one that comes.
    """
    with _guard:
        mine = os.getpid(), spill
        folder = _folders.get(mine)
        if folder is None or not folder.with_suffix(".lock").exists():  # a home may be put aside for a restored one
            spill.mkdir(parents=True, exist_ok=True)
            _sweep(spill)
            folder = _folders[mine] = _claimed(spill)
        return folder


def _claimed(spill: Path) -> Path:
    """A new name, with a lock beside it that the operating system frees when the process has ended, however it ends."""
    folder = spill / f"{os.getpid()}-{secrets.token_hex(4)}"
    draft = folder.with_suffix(".draft")
    descriptor = os.open(draft, os.O_RDWR | os.O_CREAT | os.O_EXCL, 0o600)  # held as long as the process lives
    fcntl.flock(descriptor, fcntl.LOCK_EX)
    draft.rename(folder.with_suffix(".lock"))
    return folder


def _sweep(spill: Path) -> None:
    for lock in spill.glob("*.lock"):
        try:
            descriptor = os.open(lock, os.O_RDWR)
        except FileNotFoundError:
            continue
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            continue
        else:
            shutil.rmtree(lock.with_suffix(""), ignore_errors=True)
            lock.unlink(missing_ok=True)
        finally:
            os.close(descriptor)
