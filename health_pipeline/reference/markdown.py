"""Tables of Markdown."""

from __future__ import annotations

from collections.abc import Iterable, Sequence

GENERATED = "<!-- Written from the code by `make reference`; a test compares. Do not edit by hand. -->"


def cell(text: str) -> str:
    """Text that stays within its cell; outside of code a word in angle brackets is no HTML."""
    parts = " ".join(text.replace("|", "\\|").split()).split("`")
    parts[::2] = [part.replace("<", "&lt;") for part in parts[::2]]
    return "`".join(parts)


def table(header: Sequence[str], rows: Iterable[Sequence[str]]) -> list[str]:
    """Lines of a table, and an empty line behind it."""
    lines = [f"| {' | '.join(header)} |", "|" + "---|" * len(header)]
    lines += [f"| {' | '.join(cell(each) for each in row)} |" for row in rows]
    return [*lines, ""]
