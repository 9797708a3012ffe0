"""``docs/reference/commands.md`` from the commands themselves, and the writing of all reference pages."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import typer.main
from typer.core import TyperArgument, TyperGroup

from health_pipeline.reference import GENERATED, settings_page, table

_INTRO = """\
Every command reads the [settings](settings.md) from the environment. What a command runs is a Dagster run on the home's
instance: the UI shows it. A mistake gives one message with its remedy and an exit code: 2 settings, 3 files,
4 warehouse, 5 models, 6 deployment, 7 backup, 1 anything else."""


def reference_pages() -> dict[str, str]:
    """Content of each generated page by its name under ``docs/reference``."""
    from health_pipeline.defs.reference import graph_page

    return {"settings.md": settings_page(), "commands.md": commands_page(), "assets.md": graph_page()}


def write_reference(folder: Path) -> list[Path]:
    """Write the pages; returns those that changed."""
    folder.mkdir(parents=True, exist_ok=True)
    changed = []
    for name, text in reference_pages().items():
        page = folder / name
        if not page.exists() or page.read_text() != text:
            page.write_text(text)
            changed.append(page)
    return changed


def commands() -> Iterator[tuple[str, Any]]:
    """Every command that help shows, with its full name such as ``quarantine list``."""
    from health_pipeline.cli.app import app

    yield from _walk(typer.main.get_command(app), "")


def _walk(command: Any, name: str) -> Iterator[tuple[str, Any]]:
    if isinstance(command, TyperGroup):
        for each in sorted(command.commands):
            if not command.commands[each].hidden:
                yield from _walk(command.commands[each], f"{name} {each}".strip())
    else:
        yield name, command


def commands_page() -> str:
    """The page as Markdown."""
    lines = ["# Commands", "", GENERATED, "", _INTRO, ""]
    for name, command in commands():
        lines += [f"## health-pipeline {name}", "", " ".join((command.help or "").split()), ""]
        rows = [_row(each) for each in command.params if each.name != "help"]
        if rows:
            lines += table(("argument or option", "default", "meaning"), rows)
    return "\n".join(lines)


def _row(parameter: Any) -> tuple[str, str, str]:
    names = [f"`{(parameter.name or '').upper()}`"] if isinstance(parameter, TyperArgument) else []
    names = names or [f"`{each}`" for each in (*parameter.opts, *parameter.secondary_opts)]
    required = "required" if parameter.required else ""
    default = required or ("" if parameter.default in (None, False) else f"`{parameter.default}`")
    return ", ".join(names), default, getattr(parameter, "help", None) or ""
