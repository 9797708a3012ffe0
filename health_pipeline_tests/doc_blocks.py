"""The code blocks of README and docs, with what the page says about running them.

A marker stands in a comment on the line before the block, where readers of the rendered page do not see it:

| marker | meaning |
|---|---|
| none | a shell block runs as it stands and succeeds |
| `<!-- run: deployed -->` | the same, after two releases were deployed |
| `<!-- run: fresh -->` | the same, in an empty home |
| `<!-- run: serve URL -->` | its last command is a server: started, asked at the URL, stopped |
| `<!-- run: no, REASON -->` | is not run |
| `<!-- run -->` before a Python block | runs as a script (other Python blocks are excerpts) |
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from pathlib import Path

ROOT = Path(__file__).parent.parent
PAGES = [ROOT / "README.md", ROOT / "CONTRIBUTING.md", *sorted((ROOT / "docs").rglob("*.md"))]
SHELL = ("bash", "sh")
BLOCK = re.compile(
    r"(?:^ *<!-- run(?:: (?P<marker>[^\n]*?))? -->\n)?^(?P<indent> *(?:\d+\. +)?)```(?P<language>\w*)\n"
    r"(?P<content>.*?)^ *```",
    re.MULTILINE | re.DOTALL,
)


@dataclass(frozen=True)
class Block:
    """A fenced block.

    Attributes:
        page: where it stands.
        line: line of its fence.
        language: word after the fence.
        content: without the indentation of a list.
        marker: what the page says about running it; empty: nothing.
        marked: whether it says anything.
    """

    page: Path
    line: int
    language: str
    content: str
    marker: str
    marked: bool

    @property
    def name(self) -> str:
        """Page and line."""
        return f"{self.page.relative_to(ROOT).as_posix()}:{self.line}"


def blocks_of(page: Path, text: str | None = None) -> list[Block]:
    """Blocks of a page, in order."""
    text = page.read_text() if text is None else text
    found = []
    for match in BLOCK.finditer(text):
        width = len(match["indent"])
        lines = [line[width:] if not line[:width].strip() else line for line in match["content"].splitlines()]
        line = text.count("\n", 0, match.start("indent")) + 1
        marked = match[0].lstrip().startswith("<!-- run")
        found.append(Block(page, line, match["language"], "\n".join(lines) + "\n", match["marker"] or "", marked))
    return found


def prose_of(text: str) -> str:
    """The page without its blocks."""
    return BLOCK.sub("", text)
