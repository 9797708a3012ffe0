"""``health-pipeline backup`` and ``restore``: a home into one archive and back."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Annotated

import typer
from rich.console import Console

from health_pipeline.cli.options import quiet_settings
from health_pipeline.settings import load_settings

console = Console(stderr=True, markup=False, highlight=False)


def backup(
    to: Annotated[Path, typer.Option(help="the archive to write, outside of the home, for example home.tar")],
    with_keys: Annotated[
        bool,
        typer.Option(
            "--with-keys",
            help="take the pseudonym key, the API token and settings files with secrets too; keep the archive as safe",
        ),
    ] = False,
    with_landing: Annotated[bool, typer.Option("--with-landing", help="take the landed files too")] = False,
) -> None:
    """Save the home in one archive: tables, models, registry, history, records of the UI; all of one moment."""
    from health_pipeline.backup import create_backup
    from health_pipeline.clock import system_clock
    from health_pipeline.defs.instance import instance_folder

    settings = quiet_settings()
    manifest = create_backup(
        settings,
        to,
        instance_folder=instance_folder(settings),
        clock=system_clock,
        with_keys=with_keys,
        with_landing=with_landing,
    )
    console.print(f"{to}: {len(manifest.members):,} files, {manifest.size / 1e6:,.1f} MB")
    for each in manifest.left_out:
        console.print(f"  not in it: {each}")


def restore(
    archive: Annotated[Path, typer.Argument(help="written by health-pipeline backup")],
    replace: Annotated[bool, typer.Option("--replace", help="put a home that is not empty aside")] = False,
    verify_only: Annotated[bool, typer.Option("--verify-only", help="check the archive, change nothing")] = False,
) -> None:
    """Put the home of an archive in place; it is verified first, and a former home is kept."""
    from health_pipeline.backup import restore_backup, verify_backup
    from health_pipeline.clock import system_clock

    if verify_only:
        manifest = verify_backup(archive)
        console.print(f"whole: {len(manifest.members):,} files of {manifest.created_at:%Y-%m-%d %H:%M} UTC")
        return
    settings = load_settings()  # and no log: the home must stay empty, or movable, until it is exchanged
    done = restore_backup(settings, archive, clock=system_clock, replace=replace)
    console.print(f"{settings.home} is as of {done.manifest.created_at:%Y-%m-%d %H:%M} UTC")
    if done.former is not None:
        console.print(f"the former home: {done.former}")
    for each in done.carried:
        console.print(f"  taken over from it: {each}")
    instance = os.environ.get("DAGSTER_HOME")
    if instance and Path(instance).resolve() != (settings.home / "dagster").resolve():
        console.print(f"copy {settings.home}/dagster to {instance}: DAGSTER_HOME lies outside of the home")
    console.print("look: health-pipeline doctor, health-pipeline status")
