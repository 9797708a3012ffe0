"""Which files make up a home, and how each of them is copied while others may use it."""

from __future__ import annotations

import os
import re
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path, PurePosixPath
from typing import TYPE_CHECKING, Literal

from health_pipeline.privacy.pseudonym import KEY_FILE
from health_pipeline.settings import gives_a_secret

if TYPE_CHECKING:
    from health_pipeline.settings import Settings

Kind = Literal["file", "sqlite"]

_SECRETS = (KEY_FILE, "serving/token")
GONE = "gone while the archive was written"
"""A draft of a run that goes on: renamed or removed since the home was looked through."""
_SCRATCH = ("spill", "logs/pipeline.jsonl")
_SCRATCH_SUFFIXES = (".lock", ".partial", "-wal", "-shm", "-journal")
_SQLITE = b"SQLite format 3\x00"


@dataclass(frozen=True)
class Found:
    """A file of the home.

    Attributes:
        path: relative to the home, with ``/``.
        source: where it is.
        kind: ``sqlite`` files are copied by SQLite, which sees unfinished transactions.
    """

    path: str
    source: Path
    kind: Kind


def find_files(
    settings: Settings, instance_folder: Path, *, with_keys: bool, with_landing: bool
) -> tuple[list[Found], list[str]]:
    """Files to copy, in a fixed order, and what is left out with its reason.

    Args:
        settings: name the home.
        instance_folder: Dagster's folder, wherever it lies; it becomes ``dagster/`` of the archive.
        with_keys: take the pseudonym key, the API token and settings files with secrets too.
        with_landing: take the landing zone too, where it lies in the home.
    """
    home, warehouse = settings.home.resolve(), settings.warehouse_path.name
    secrets, landing = secret_files(home), landing_folder(settings)
    found: list[Found] = []
    left_out: list[str] = []
    sources = dict(_walk(home, ""))
    for path, source in _walk_instance(home, instance_folder.resolve()):
        if path in sources:  # of the time before DAGSTER_HOME was set
            left_out.append(f"{path} of the home: the instance in force has one of its own")
        sources[path] = source
    for path, source in sources.items():
        if _is_scratch(path) or path.split("/")[0].startswith(warehouse):
            continue
        if source.is_symlink() or (source.exists() and not source.is_file()):
            left_out.append(f"{path}: a link or no plain file")
        elif _is_secret(path, secrets) and not with_keys:
            left_out.append(f"{path}: a secret; keep it apart, or --with-keys")
        elif landing and path.startswith(f"{landing}/") and not with_landing:
            continue
        else:
            try:
                found.append(Found(path, source, "sqlite" if _is_sqlite(source) else "file"))
            except FileNotFoundError:
                left_out.append(f"{path}: {GONE}")
    if landing is None or not with_landing:
        left_out.append(f"{settings.landing_uri}: the landing zone; --with-landing where it lies in the home")
    if settings.mlflow.tracking_uri is not None:
        left_out.append("MLflow: its server has a backup of its own")
    if _is_on_postgres(instance_folder):
        left_out.append("Dagster's runs, checks and cursors: they are in PostgreSQL; pg_dump")
    return sorted(found, key=lambda each: each.path), left_out


def landing_folder(settings: Settings) -> str | None:
    """Landing zone relative to the home, with ``/``; None where it lies elsewhere."""
    home, place = settings.home.resolve(), settings.landing_uri
    # The folder itself may be a link: it lies where the link does.
    folder = Path(place).parent.resolve() / Path(place).name
    return folder.relative_to(home).as_posix() if "://" not in place and folder.is_relative_to(home) else None


def secret_files(home: Path) -> list[str]:
    """Files of a home that stay out of an archive unless they are asked for.

    Settings are one where they give a key, a token or a password: an archive of the tables must not hold their key.
    """
    settings = sorted(each.name for each in home.glob("*.toml") if each.is_file() and gives_a_secret(each.read_bytes()))
    return [*_SECRETS, *settings]


def _is_secret(path: str, secrets: list[str]) -> bool:
    """Also of a draft that a kill left behind, or an editor: it holds the same secret, as ``.<name>.<anything>``."""
    place = PurePosixPath(path)
    return path in secrets or any(
        place.parent == secret.parent and place.name.startswith(f".{secret.name}.")
        for secret in map(PurePosixPath, secrets)
    )


def _walk_instance(home: Path, instance_folder: Path) -> Iterator[tuple[str, Path]]:
    if instance_folder != home / "dagster":
        yield from _walk(instance_folder, "dagster/")


def _walk(root: Path, prefix: str) -> Iterator[tuple[str, Path]]:
    for folder, folders, names in os.walk(root, onerror=_refuse_unreadable):
        linked = [name for name in folders if (Path(folder) / name).is_symlink()]
        for name in [*names, *linked]:
            source = Path(folder) / name
            yield prefix + source.relative_to(root).as_posix(), source


def _refuse_unreadable(error: OSError) -> None:
    """A folder that cannot be read must not be missing from the archive without a word; a draft may be gone."""
    if not isinstance(error, FileNotFoundError):
        raise error


def _is_on_postgres(instance_folder: Path) -> bool:
    config = instance_folder / "dagster.yaml"
    return config.is_file() and re.search(r"^storage:\s+postgres:", config.read_text(), re.MULTILINE) is not None


def _is_scratch(path: str) -> bool:
    parts = PurePosixPath(path)
    inside = any(path == each or path.startswith((f"{each}/", f"{each}.")) for each in _SCRATCH)
    return inside or parts.name.endswith(_SCRATCH_SUFFIXES)


def _is_sqlite(source: Path) -> bool:
    with source.open("rb") as file:
        return file.read(len(_SQLITE)) == _SQLITE
