"""Gathering: requests for one record that arrive in the same turn of the event loop are answered together.

One call of a model for sixteen rows costs a third of sixteen calls. Nobody waits for it: the loop reads whatever has
arrived, and the answers leave in its very next step.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Sequence

from health_pipeline.serving.answers import Question

Reply = tuple[int, bytes]
"""Status and body."""


class Gathering:
    """Questions that wait for the end of the turn.

    Args:
        answer: gives the replies in the order of the questions; must not raise.
    """

    def __init__(self, answer: Callable[[Sequence[Question]], Sequence[Reply]]) -> None:
        self._answer = answer
        self._waiting: list[tuple[Question, Callable[[Reply], None]]] = []

    def add(self, question: Question, deliver: Callable[[Reply], None]) -> None:
        """Take a question in; ``deliver`` is called with its reply."""
        if not self._waiting:
            asyncio.get_running_loop().call_soon(self.flush)
        self._waiting.append((question, deliver))

    def flush(self) -> None:
        """Answer whatever waits."""
        waiting, self._waiting = self._waiting, []
        if waiting:
            replies = self._answer([question for question, _ in waiting])
            for (_, deliver), reply in zip(waiting, replies, strict=True):
                deliver(reply)
