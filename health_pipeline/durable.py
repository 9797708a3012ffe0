"""What must outlive a power cut: on the disk before anything refers to it.

A rename puts a name in place at once and the content up to half a minute later; a table's row that names it is synced
much earlier.
"""

from __future__ import annotations

import os
import secrets
from pathlib import Path


def sync(path: Path) -> None:
    """Return when a file's content, or a folder's list of names, is on the disk."""
    descriptor = os.open(path, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def write_atomically(path: Path, content: bytes) -> None:
    """Replace a file in one step and sync it: a reader sees the old or the new content, also when the disk is full."""
    draft = path.with_name(f".{path.name}.{secrets.token_hex(8)}")
    try:
        draft.write_bytes(content)
        sync(draft)
        draft.replace(path)
        sync(path.parent)
    finally:
        draft.unlink(missing_ok=True)


def sync_tree(folder: Path) -> None:
    """Return when everything below a folder is on the disk."""
    for path in folder.rglob("*"):
        sync(path)
    sync(folder)
