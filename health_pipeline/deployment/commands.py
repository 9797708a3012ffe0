"""External programs: run with a time limit, secrets by standard input, failures as clear errors."""

from __future__ import annotations

import shutil
import subprocess
from collections.abc import Mapping, Sequence

from health_pipeline.errors import DeploymentError


class CommandError(DeploymentError):
    """A program failed.

    Args:
        command: program and first argument.
        output: last lines of what it printed.
    """

    def __init__(self, command: str, output: str, *, remedy: str | None = None) -> None:
        self.output = output
        super().__init__(f"{command} failed: {output or 'no output'}", where=command, remedy=remedy)


def find_program(names: Sequence[str], purpose: str) -> str:
    """First of the programs that is installed.

    Raises:
        DeploymentError: none is.
    """
    for name in names:
        if shutil.which(name):
            return name
    raise DeploymentError(
        f"{purpose} needs one of: {', '.join(names)}", remedy="install one of them, or use target local"
    )


def run_program(
    arguments: Sequence[str], *, timeout: float, stdin: str | None = None, env: Mapping[str, str] | None = None
) -> str:
    """Standard output of a program.

    Raises:
        CommandError: it fails, is missing, or takes longer than ``timeout`` seconds.
    """
    name = " ".join(arguments[:2])
    try:
        done = subprocess.run(
            list(arguments), input=stdin, capture_output=True, text=True, timeout=timeout, env=env, check=False
        )
    except FileNotFoundError:
        raise CommandError(name, "not installed") from None
    except subprocess.TimeoutExpired:
        raise CommandError(name, f"timed out after {timeout:g} s") from None
    if done.returncode != 0:
        lines = (done.stderr.strip() or done.stdout.strip()).splitlines()
        raise CommandError(name, " / ".join(lines[-3:])[-600:])
    return done.stdout
