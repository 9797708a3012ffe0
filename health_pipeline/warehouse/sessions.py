"""Connections of one process to one warehouse: who may open it when, and one shared database instance.

Between processes a :class:`~health_pipeline.warehouse.lock.TicketLock` decides. Within the process all threads share
one DuckDB instance: readers come in while a writer is at work and see what was committed before.
"""

from __future__ import annotations

import os
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path

import duckdb

from health_pipeline.errors import LockTimeoutError, WarehouseError
from health_pipeline.warehouse.backends import CATALOG, Backend
from health_pipeline.warehouse.lock import Kind, Ticket, TicketLock
from health_pipeline.warehouse.transactions import is_conflict, without_values

_PAUSE_SECONDS = 0.05
_REMEDY = "check HEALTH_PIPELINE_WAREHOUSE__* (backend, key, catalog, data path), and that the file is a DuckDB file"

_pools: dict[str, Sessions] = {}
_pools_guard = threading.Lock()
_of_parent: list[Sessions] = []


def _start_afresh_in_child() -> None:
    """A forked child opens its own database; the parent's, whose threads it lacks, it may neither use nor close."""
    global _pools_guard  # noqa: PLW0603
    _pools_guard = threading.Lock()
    _of_parent.extend(_pools.values())
    _pools.clear()


os.register_at_fork(after_in_child=_start_afresh_in_child)


@dataclass
class _Instance:
    """An open database and the tickets of those who use it."""

    connection: duckdb.DuckDBPyConnection
    kind: Kind
    users: int = 0
    writers: int = 0
    tickets: list[Ticket] = field(default_factory=list)


class Sessions:
    """All connections of this process to one storage; get it with :meth:`of`."""

    def __init__(self, file: Path | None) -> None:
        self.lock = TicketLock(file.with_name(file.name + ".queue")) if file else None
        self._guard = threading.Lock()
        self._instance: _Instance | None = None
        self._mine = threading.local()
        self._foreign_holder = "held by another process"

    @classmethod
    def of(cls, backend: Backend) -> Sessions:
        """The one pool of this process for a storage."""
        with _pools_guard:
            return _pools.setdefault(backend.target, cls(backend.file))

    @contextmanager
    def connect(
        self, backend: Backend, kind: Kind, purpose: str, timeout_seconds: float
    ) -> Iterator[duckdb.DuckDBPyConnection]:
        """A connection that is closed at the end of the block; the file is free once nobody uses it.

        Raises:
            LockTimeoutError: the bounded wait was not enough; names the holder.
            WarehouseError: this thread already reads and now asks to write, which would wait for itself.
        """
        held: list[Kind] = self._mine.__dict__.setdefault("held", [])
        if kind == "write" and held and "write" not in held:
            raise WarehouseError(
                f"'{purpose}' asks to write inside a read block of the same thread",
                where=repr(backend),
                remedy="leave the block of Warehouse.read before rows are written",
            )
        instance = self._join(kind, nested=bool(held)) or self._enter(backend, kind, purpose, timeout_seconds)
        held.append(kind)
        try:
            cursor = instance.connection.cursor()
            try:
                cursor.execute(f"USE {CATALOG}")
                yield cursor
            finally:
                cursor.close()
        finally:
            held.remove(kind)
            self._leave(instance, kind)

    def _join(self, kind: Kind, *, nested: bool) -> _Instance | None:
        """The instance that is open already, where using it overtakes nobody unfairly.

        A nested block uses what its thread holds. A reader joins a writer of the same process only while that
        writer is at work, so the hold ends however many readers come.
        """
        with self._guard:
            instance = self._instance
            if instance is not None and (nested or (kind == "read" and instance.writers > 0)):
                instance.users += 1
                instance.writers += kind == "write"
                return instance
            return None

    def _enter(self, backend: Backend, kind: Kind, purpose: str, timeout_seconds: float) -> _Instance:
        """Wait for the turn, then open the database unless this process has it open."""
        if kind == "read" and backend.is_new:
            with self.connect(backend, "write", f"create the warehouse for: {purpose}", timeout_seconds):
                pass
        deadline = time.monotonic() + timeout_seconds
        ticket = self.lock.acquire(kind, purpose, timeout_seconds) if self.lock else None
        try:
            while True:
                with self._guard:
                    instance = self._instance
                    if instance is None:
                        instance = self._try_open(backend, kind)
                    # With a file lock the turn itself guarantees a fitting instance; a database server lets readers
                    # and writers in together, on one instance for both.
                    if instance is not None and (kind == "read" or instance.kind == "write"):
                        self._instance = instance
                        instance.users += 1
                        instance.writers += kind == "write"
                        if ticket:
                            instance.tickets.append(ticket)
                        return instance
                if time.monotonic() > deadline:
                    raise LockTimeoutError(
                        f"waited {timeout_seconds:g} s to {kind} ('{purpose}'); {self._foreign_holder}",
                        where=str(backend.file),
                        remedy="close that program, or raise HEALTH_PIPELINE_WAREHOUSE__LOCK_TIMEOUT_SECONDS",
                    )
                time.sleep(_PAUSE_SECONDS)
        except BaseException:
            if ticket:
                ticket.release()
            raise

    def _try_open(self, backend: Backend, kind: Kind) -> _Instance | None:
        """Open the database; ``None`` while a program that knows no tickets (a DuckDB shell) holds the file."""
        read_only = kind == "read" and self.lock is not None
        try:
            return _Instance(backend.open(read_only=read_only), "read" if read_only else "write")
        except duckdb.Error as error:
            if self.lock is None and is_conflict(error):
                self._foreign_holder = "other processes kept creating the catalog"
                return None
            if "Could not set lock" not in str(error):
                raise WarehouseError(
                    f"the warehouse cannot be opened: {without_values(error)}", where=repr(backend), remedy=_REMEDY
                ) from None
            # As DuckDB names it: ... Conflicting lock is held in <program> (PID n) by user ... . See also ...
            _, found, rest = str(error).partition("Conflicting lock is held in ")
            self._foreign_holder = f"held by {rest.partition('. ')[0]}" if found else "held by another DuckDB process"
            return None

    def _leave(self, instance: _Instance, kind: Kind) -> None:
        with self._guard:
            instance.users -= 1
            instance.writers -= kind == "write"
            # A file is freed for others; where a server arbitrates, loading extensions and connecting again and again
            # would cost more than the work itself.
            if instance.users == 0 and self.lock is not None:
                self._instance = None
                try:
                    instance.connection.close()
                finally:
                    for ticket in instance.tickets:
                        ticket.release()
