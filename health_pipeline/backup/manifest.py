"""What an archive says about itself: its last member, so that an archive that was cut off has none."""

from __future__ import annotations

import datetime as dt
from pathlib import PurePosixPath

import msgspec

from health_pipeline.errors import BackupError

MANIFEST = "manifest.json"
FORMAT = 1
"""Grows when an older version of this package could not restore an archive any more."""


class Member(msgspec.Struct, frozen=True):
    """One file.

    Attributes:
        path: relative to the home, with ``/``.
        size: bytes.
        sha256: digest of the content.
        mode: permission bits.
    """

    path: str
    size: int
    sha256: str
    mode: int


class Manifest(msgspec.Struct, frozen=True, kw_only=True):
    """Content of an archive.

    Attributes:
        format: see :data:`FORMAT`.
        created_at: UTC.
        package_version: version of health-pipeline that wrote it.
        home: absolute path of the home that was copied.
        backend: warehouse backend.
        members: every file.
        left_out: what belongs to the home and is not in the archive, with the reason.
    """

    format: int
    created_at: dt.datetime
    package_version: str
    home: str
    backend: str
    members: list[Member]
    left_out: list[str]

    @property
    def size(self) -> int:
        """Bytes of all files."""
        return sum(member.size for member in self.members)


def encode(manifest: Manifest) -> bytes:
    """The manifest as JSON."""
    return msgspec.json.format(msgspec.json.encode(manifest), indent=1)


def decode(content: bytes, where: str) -> Manifest:
    """Read a manifest.

    Raises:
        BackupError: it cannot be read, is of a later format, or names a file outside the home.
    """
    try:
        manifest = msgspec.json.decode(content, type=Manifest)
    except msgspec.MsgspecError as error:
        raise BackupError(f"the manifest cannot be read: {error}", where=where, remedy="take another backup") from None
    if manifest.format > FORMAT:
        raise BackupError(
            f"the archive has format {manifest.format}, this version reads up to {FORMAT}",
            where=where,
            remedy=f"restore it with health-pipeline {manifest.package_version} or newer",
        )
    for member in manifest.members:
        path = PurePosixPath(member.path)
        if path.is_absolute() or ".." in path.parts or not path.parts:
            raise BackupError("the manifest names a file outside the home", where=where, remedy="do not trust it")
    return manifest
