"""A fair lock between processes: a queue of tickets in a folder.

Who wants the resource draws a numbered ticket, a small file that its owner keeps locked (``flock``). A reader may go
when no live writer stands before it, a writer when nobody does. The operating system frees the file lock of a process
that dies, however it dies, so a dead owner's ticket is recognised and swept away by whoever waits behind it.

POSIX only; the folder has to lie on a local disk, like the DuckDB file that it guards.
"""

from __future__ import annotations

import fcntl
import json
import os
import socket
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from health_pipeline.errors import LockTimeoutError

Kind = Literal["read", "write"]

_FIRST_PAUSE_SECONDS = 0.002
_LONGEST_PAUSE_SECONDS = 0.02

_open_descriptors: set[int] = set()


def _close_in_child() -> None:
    """A forked child must not keep its parent's tickets alive."""
    for descriptor in _open_descriptors:
        os.close(descriptor)
    _open_descriptors.clear()


os.register_at_fork(after_in_child=_close_in_child)


@dataclass(frozen=True, slots=True)
class Holder:
    """Who stands in the queue, as far as its ticket tells."""

    kind: Kind
    pid: int
    host: str
    purpose: str
    since: float

    def __str__(self) -> str:
        return f"{self.kind} '{self.purpose}' of process {self.pid} on {self.host}"


@dataclass(slots=True)
class Ticket:
    """A place in the queue; it holds the resource once :meth:`TicketLock.acquire` has returned it."""

    path: Path
    number: int
    kind: Kind
    descriptor: int

    def release(self) -> None:
        """Leave the queue; safe to call twice."""
        if self.descriptor < 0:
            return
        descriptor, self.descriptor = self.descriptor, -1
        self.path.unlink(missing_ok=True)
        _open_descriptors.discard(descriptor)
        os.close(descriptor)


class TicketLock:
    """First come, first served; readers share, a writer is alone.

    Args:
        folder: the queue, created when missing.
        now: monotonic seconds.
        sleep: pauses the thread.
    """

    def __init__(
        self,
        folder: Path,
        now: Callable[[], float] = time.monotonic,
        sleep: Callable[[float], None] = time.sleep,
    ) -> None:
        self.folder = folder
        self._now, self._sleep = now, sleep

    def acquire(self, kind: Kind, purpose: str, timeout_seconds: float) -> Ticket:
        """Wait for the turn.

        Raises:
            LockTimeoutError: the wait was longer than ``timeout_seconds``; names who stood before.
        """
        deadline = self._now() + timeout_seconds
        ticket = self._draw(kind, purpose)
        pause = _FIRST_PAUSE_SECONDS
        try:
            while (before := self._first_before(ticket)) is not None:
                left = deadline - self._now()
                if left <= 0:
                    raise LockTimeoutError(
                        f"waited {timeout_seconds:g} s to {kind} ('{purpose}'); held by {_describe(before)}",
                        where=str(self.folder),
                        remedy="wait for it or end it, or raise HEALTH_PIPELINE_WAREHOUSE__LOCK_TIMEOUT_SECONDS",
                    )
                self._sleep(min(pause, left))
                pause = min(pause * 1.5, _LONGEST_PAUSE_SECONDS)
        except BaseException:
            ticket.release()
            raise
        return ticket

    def queue(self) -> list[Holder]:
        """Everybody alive in the queue, first come first; the head holds the resource."""
        return [_describe(path) for _, _, path in self._tickets() if _is_alive(path)]

    def _draw(self, kind: Kind, purpose: str) -> Ticket:
        """A ticket with the next number; it appears in the queue already locked by its owner."""
        self.folder.mkdir(parents=True, exist_ok=True)
        counter = os.open(self.folder / "counter", os.O_RDWR | os.O_CREAT, 0o600)
        try:
            fcntl.flock(counter, fcntl.LOCK_EX)
            # A counter lost in a power cut must not hand out numbers that stand before live tickets.
            counted = os.pread(counter, 32, 0)
            number = max(int(counted) if counted.isdigit() else 0, *(n for n, _, _ in self._tickets()), 0) + 1
            os.pwrite(counter, b"%020d" % number, 0)
            draft = self.folder / "draft"
            draft.unlink(missing_ok=True)  # of somebody who died right here; nobody else is here now
            ticket = Ticket(self.folder / f"{number:020d}-{kind}", number, kind, _open_locked(draft))
            try:
                about = {"pid": os.getpid(), "host": socket.gethostname(), "purpose": purpose, "since": time.time()}
                os.write(ticket.descriptor, json.dumps(about).encode())
                draft.rename(ticket.path)
            except BaseException:  # a full disk would cost a descriptor with every try, until none is left
                ticket.release()
                raise
        finally:
            os.close(counter)
        return ticket

    def _tickets(self) -> list[tuple[int, str, Path]]:
        found = []
        for path in self.folder.iterdir():
            number, _, kind = path.name.partition("-")
            if number.isdigit():
                found.append((int(number), kind, path))
        return sorted(found)

    def _first_before(self, ticket: Ticket) -> Path | None:
        """The first live ticket that has to go before this one."""
        for number, kind, path in self._tickets():
            if number >= ticket.number:
                return None
            if (kind == "write" or ticket.kind == "write") and _is_alive(path):
                return path
        return None


def _open_locked(path: Path) -> int:
    """A new file that this process keeps locked until it is closed, and no forked child does."""
    descriptor = os.open(path, os.O_RDWR | os.O_CREAT | os.O_EXCL, 0o600)
    _open_descriptors.add(descriptor)
    fcntl.flock(descriptor, fcntl.LOCK_EX)
    return descriptor


def _is_alive(path: Path) -> bool:
    """Whether the owner of a ticket still runs; a dead owner's ticket is removed."""
    try:
        descriptor = os.open(path, os.O_RDONLY)
    except FileNotFoundError:
        return False
    try:
        fcntl.flock(descriptor, fcntl.LOCK_SH | fcntl.LOCK_NB)
    except BlockingIOError:
        return True
    else:
        path.unlink(missing_ok=True)
        return False
    finally:
        os.close(descriptor)


def _describe(path: Path) -> Holder:
    kind: Kind = "write" if path.name.endswith("write") else "read"
    try:
        about = json.loads(path.read_bytes())
    except (FileNotFoundError, json.JSONDecodeError):
        return Holder(kind, 0, "?", "already gone", 0.0)
    return Holder(kind, about["pid"], about["host"], about["purpose"], about["since"])
