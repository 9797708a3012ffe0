"""An alert: something that happened once and that somebody should know."""

from __future__ import annotations

import hashlib
from dataclasses import dataclass, field
from typing import Literal

Severity = Literal["info", "warning", "critical"]
SEVERITIES: tuple[Severity, ...] = ("info", "warning", "critical")

_LONGEST_END = 300
"""What an alert asks people to do stands at its end, which is kept."""
_LEFT_OUT = " ... (all of it in logs/alerts.jsonl) ... "


@dataclass(frozen=True)
class Alert:
    """What is told. It holds no value of a patient.

    Attributes:
        event_id: the same event always has the same id; it is sent to each channel once.
        severity: ``info`` (for the record), ``warning`` (look at it), ``critical`` (act now).
        title: one line.
        body: plain text.
        kind: which template made it, for instance ``check_failed``.
        partition: month it concerns, ``YYYY-MM-01``.
        links: title and address.
    """

    event_id: str
    severity: Severity
    title: str
    body: str
    kind: str = "message"
    partition: str | None = None
    links: tuple[tuple[str, str], ...] = field(default_factory=tuple)

    def __post_init__(self) -> None:
        if self.severity not in SEVERITIES:
            raise ValueError(f"severity {self.severity!r} is none of {', '.join(SEVERITIES)}")
        if not self.event_id or not self.title:
            raise ValueError("an alert needs an event id and a title")
        for name in ("title", "body"):  # the name of a file may hold bytes that are no text
            object.__setattr__(self, name, getattr(self, name).encode(errors="backslashreplace").decode())

    def text(self, longest: int) -> str:
        """Body, links, and the event id by which a receiver can tell a repetition.

        Args:
            longest: characters that the receiver takes, the title included; of a longer body the middle is left out.
        """
        links = "".join(f"\n{title}: {address}" for title, address in self.links)
        end = f"{links}\n\nevent {self.event_id}"
        return _shortened(self.body, longest - len(f"{self.title}\r\n{end}")) + end


def _shortened(text: str, length: int) -> str:
    """Beginning and end of a text that is longer than this."""
    if len(text) <= length:
        return text
    beginning = max(0, length - len(_LEFT_OUT) - _LONGEST_END)
    return f"{text[:beginning]}{_LEFT_OUT}{text[-_LONGEST_END:]}"


def event_id(*parts: object) -> str:
    """Id of an event from what makes it unique, 32 hex digits."""
    text = "\x1f".join(str(part) for part in parts)
    return hashlib.blake2b(text.encode(), digest_size=16).hexdigest()
