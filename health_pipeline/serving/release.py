"""A release: a folder that holds a model bundle, the facts about it, and a digest over both.

``release.json`` names every file with its SHA-256; the digest of the release is the SHA-256 of that list and the
facts. It travels from the build to the verification, so what was tested is what serves.
"""

from __future__ import annotations

import hashlib
import re
import shutil
import uuid
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import msgspec

from health_pipeline.durable import sync, sync_tree, write_atomically
from health_pipeline.errors import DeploymentError

MANIFEST = "release.json"
BUNDLE = "bundle"
FORMAT = 1


class ReleaseFacts(msgspec.Struct, frozen=True, kw_only=True):
    """What the API says about a model.

    Attributes:
        model_id: id of the model in ``models.<family>``.
        family: model family.
        month: partition key of the month the model serves.
        threshold: probability from which the label is true.
        bundle_hash: digest of the bundle as training recorded it.
        trained_at: ISO time of training.
        metrics: holdout metrics with intervals.
        built_by: version of health-pipeline that packed it, whose API an image of it holds: under another version the
            same model is another release. Empty in releases of before this was kept.
    """

    model_id: str
    family: str
    month: str
    threshold: float
    bundle_hash: str
    trained_at: str | None = None
    metrics: Mapping[str, Any] = msgspec.field(default_factory=dict)
    built_by: str = ""


class Release(msgspec.Struct, frozen=True, kw_only=True):
    """A release as its manifest describes it.

    Attributes:
        release_id: readable and unique: model id and the first digits of the digest; also the folder's name.
        digest: ``sha256:...`` over files and facts.
        files: relative path to SHA-256.
    """

    format: int
    release_id: str
    digest: str
    facts: ReleaseFacts
    files: Mapping[str, str]


def _sha256(path: Path) -> str:
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def _digest(facts: ReleaseFacts, files: Mapping[str, str]) -> str:
    known = msgspec.to_builtins(facts)
    if not facts.built_by:
        del known["built_by"]  # the digest is the one it was given
    content = msgspec.json.encode([FORMAT, known, sorted(files.items())], order="sorted")
    return f"sha256:{hashlib.sha256(content).hexdigest()}"


def _list_files(bundle: Path) -> dict[str, str]:
    return {
        f"{BUNDLE}/{path.relative_to(bundle).as_posix()}": _sha256(path)
        for path in sorted(bundle.rglob("*"))
        if path.is_file()
    }


def pack_release(bundle: Path, facts: ReleaseFacts, releases: Path) -> Release:
    """Copy a bundle into a release folder below ``releases``; the same content gives the same folder.

    Raises:
        DeploymentError: the bundle is not there or empty.
    """
    files = _list_files(bundle) if bundle.is_dir() else {}
    if not files:
        raise DeploymentError(
            "the model bundle is missing or empty",
            where=str(bundle),
            remedy="train the month again, or restore the home",
        )
    digest = _digest(facts, files)
    name = re.sub(r"[^A-Za-z0-9_.-]+", "-", facts.model_id).strip(".-") or "model"
    release_id = f"{name[:80]}-{digest.removeprefix('sha256:')[:12]}"
    release = Release(format=FORMAT, release_id=release_id, digest=digest, facts=facts, files=files)
    destination = releases / release_id
    if destination.is_dir():
        try:
            return read_release(destination)
        except DeploymentError:
            shutil.rmtree(destination)  # a damaged copy of the very same release
    draft = releases / f".{release_id}.{uuid.uuid4().hex}"
    shutil.copytree(bundle, draft / BUNDLE)
    write_atomically(draft / MANIFEST, msgspec.json.format(msgspec.json.encode(release), indent=2))
    sync_tree(draft)
    try:
        draft.rename(destination)
        sync(releases)
    except OSError:
        shutil.rmtree(draft)  # another process packed the same release first
    return read_release(destination)


def read_release(folder: Path) -> Release:
    """Read a release and verify every byte of it.

    Raises:
        DeploymentError: missing, unreadable, of another format, or changed since it was packed.
    """
    remedy = "build the release again"
    try:
        release = msgspec.json.decode((folder / MANIFEST).read_bytes(), type=Release)
    except (OSError, msgspec.MsgspecError) as error:
        raise DeploymentError(f"the release cannot be read: {error}", where=str(folder), remedy=remedy) from error
    if release.format != FORMAT:
        raise DeploymentError(f"release format {release.format}, expected {FORMAT}", where=str(folder), remedy=remedy)
    present = _list_files(folder / BUNDLE)
    if present != dict(release.files) or _digest(release.facts, release.files) != release.digest:
        changed = sorted(set(present.items()) ^ set(release.files.items()))
        names = sorted({name for name, _ in changed}) or [MANIFEST]
        raise DeploymentError(
            f"the release differs from its digest: {', '.join(names[:5])}", where=str(folder), remedy=remedy
        )
    return release
