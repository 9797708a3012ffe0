"""The Dagster instance of a home: the same for command line, UI and daemon."""

from __future__ import annotations

import glob
import os
from importlib.resources import files
from pathlib import Path

import dagster as dg
from dagster_shared.check import CheckError
from sqlalchemy.exc import OperationalError
from yaml import YAMLError  # type: ignore[import-untyped]

from health_pipeline.durable import write_atomically
from health_pipeline.errors import FileError, SettingsError
from health_pipeline.settings import Settings

LONGEST_ERROR = 300


def instance_folder(settings: Settings) -> Path:
    """``DAGSTER_HOME`` where that is set, else ``<home>/dagster`` (made when missing).

    Raises:
        SettingsError: Dagster could not read its configuration there.
    """
    given = os.environ.get("DAGSTER_HOME")
    folder = Path(given) if given else (settings.home / "dagster").resolve()
    if glob.has_magic(str(folder)):
        # Dagster looks for dagster.yaml by a pattern, which finds nothing there; without it there are no retries, no
        # limits, no look at dead runs, and telemetry is on.
        raise SettingsError(
            "the folder of the Dagster instance has one of the characters * ? [ in its path",
            where=str(folder),
            remedy="choose another HEALTH_PIPELINE_HOME (or DAGSTER_HOME)",
        )
    folder.mkdir(parents=True, exist_ok=True)
    config = folder / "dagster.yaml"
    if not config.exists():
        # Whole or not at all: an empty file, left by a full disk or seen by a process that starts at the same moment,
        # is an instance without retries, monitoring and limits.
        write_atomically(config, files("health_pipeline.defs").joinpath("dagster.yaml").read_bytes())
    os.environ["DAGSTER_HOME"] = str(folder)  # dagster.yaml refers to it, and so do the processes of UI and daemon
    return folder


def open_instance(settings: Settings) -> dg.DagsterInstance:
    """The instance whose runs, partitions and checks the UI shows.

    Raises:
        SettingsError: Dagster cannot read or use its configuration.
        FileError: its records cannot be opened.
    """
    folder = instance_folder(settings)
    try:
        return dg.DagsterInstance.from_config(str(folder))
    except OperationalError as error:
        raise FileError(
            f"Dagster's records cannot be opened: {str(error.orig).partition(chr(10))[0]}",
            where=str(folder),
            remedy="check owner, permissions and free space of the folder, or the database that its dagster.yaml names",
        ) from None
    except (YAMLError, dg.DagsterInvalidConfigError, CheckError) as error:
        raise SettingsError(
            f"Dagster cannot use its configuration: {' '.join(str(error).split())[:LONGEST_ERROR]}",
            where=str(folder / "dagster.yaml"),
            remedy="mend it, or put it aside: the next start writes the packaged one",
        ) from None
