"""History of deployments: an append-only log whose rows carry the hash of the row before.

One JSON line per event, synced before the step goes on, so a kill at any moment leaves a log that says how far it
came. The warehouse table ``deployment.history`` mirrors it, month by month. Changing, removing or inserting a row
breaks the chain; cutting rows off the end is found by comparing with the mirror.
"""

from __future__ import annotations

import contextlib
import datetime as dt
import fcntl
import hashlib
import os
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import msgspec

from health_pipeline.clock import Clock
from health_pipeline.errors import DeploymentError
from health_pipeline.months import Month, month_key
from health_pipeline.warehouse.tables import Column, Table

FIRST_HASH = "0" * 64


class Event(msgspec.Struct, frozen=True, kw_only=True):
    """One row of the history.

    Attributes:
        sequence: position in the chain, from 1.
        recorded_at: UTC.
        month: partition key of the deployed month.
        attempt: id of the deployment attempt the event belongs to.
        actor: who or what acted.
        step: step of the deployment, or ``rollback``, ``recovery``, ``skip``.
        outcome: ``started``, ``pass``, ``fail``, ``inconclusive``, ``no-op``, ``skipped``.
        model_id: model concerned.
        release: release id concerned.
        digest: digest of the release or image.
        former: release that served before.
        former_digest: its digest.
        seconds: duration of the step.
        summary: one sentence.
        evidence: numbers behind the outcome; aggregates only.
        previous_hash: ``row_hash`` of the row before.
        row_hash: SHA-256 over all other fields.
    """

    sequence: int
    recorded_at: dt.datetime
    month: str
    attempt: str
    actor: str
    step: str
    outcome: str
    model_id: str | None = None
    release: str | None = None
    digest: str | None = None
    former: str | None = None
    former_digest: str | None = None
    seconds: float | None = None
    summary: str = ""
    evidence: Mapping[str, Any] = msgspec.field(default_factory=dict)
    previous_hash: str = FIRST_HASH
    row_hash: str = ""


_TYPES = {"sequence": "BIGINT", "recorded_at": "TIMESTAMP", "month": "DATE", "seconds": "DOUBLE"}
_MEANING = {
    "sequence": "position in the chain, from 1",
    "recorded_at": "when, UTC",
    "month": "month of the deployed model",
    "attempt": "deployment attempt",
    "actor": "who or what acted",
    "step": "step of the deployment, or rollback, recovery, skip",
    "outcome": "started, pass, fail, inconclusive, no-op, skipped",
    "model_id": "model concerned",
    "release": "release concerned",
    "digest": "digest of the release or image",
    "former": "release that served before",
    "former_digest": "its digest",
    "seconds": "duration of the step",
    "summary": "one sentence",
    "evidence": "JSON: numbers behind the outcome",
    "previous_hash": "row_hash of the row before",
    "row_hash": "SHA-256 over all other fields",
}

HISTORY = Table(
    "deployment",
    "history",
    tuple(
        Column(
            name,
            _TYPES.get(name, "VARCHAR"),
            _MEANING[name],
            nullable=name in {"model_id", "release", "digest", "former", "former_digest", "seconds"},
            unit="s" if name == "seconds" else None,
        )
        for name in Event.__struct_fields__
    ),
    key=("sequence",),
    description="append-only audit trail of every deployment, rollback and skip, chained by hashes",
)


def hash_event(event: Event) -> str:
    """SHA-256 over every field but the hash itself."""
    content = msgspec.json.encode(msgspec.structs.replace(event, row_hash=""), order="sorted")
    return hashlib.sha256(content).hexdigest()


def verify_chain(events: Sequence[Event], *, since: str = FIRST_HASH, first: int = 1) -> list[str]:
    """What is wrong with a chain; empty when it is whole.

    Args:
        events: in order.
        since: hash before the first event.
        first: sequence of the first event.
    """
    problems = []
    previous = since
    for sequence, event in enumerate(events, start=first):
        if event.sequence != sequence:
            problems.append(f"row {sequence} says it is row {event.sequence}")
        if event.previous_hash != previous:
            problems.append(f"row {event.sequence} does not follow the row before it")
        if hash_event(event) != event.row_hash:
            problems.append(f"row {event.sequence} was changed")
        previous = event.row_hash
    return problems


class History:
    """The log file of a home.

    Args:
        path: the file; its folder is made when missing.
        clock: gives ``recorded_at``.
    """

    def __init__(self, path: Path, clock: Clock) -> None:
        self._path, self._clock = path, clock

    @property
    def path(self) -> Path:
        """The file."""
        return self._path

    def append(self, *, month: Month, attempt: str, actor: str, step: str, outcome: str, **fields: Any) -> Event:
        """Add an event and sync it; returns it with sequence and hashes.

        A torn last line (the writer was killed) never was an event: it is cut off and kept beside the log.

        Raises:
            DeploymentError: the chain is broken; nothing is added to a log that cannot be trusted.
        """
        self._path.parent.mkdir(parents=True, exist_ok=True)
        with self._locked() as file:
            content = file.read()
            whole = content.rfind(b"\n") + 1
            if whole < len(content):
                with self._path.with_suffix(".torn").open("ab") as torn:
                    torn.write(content[whole:] + b"\n")
                os.ftruncate(file.fileno(), whole)
            events = _parse(content[:whole], self._path)
            self._refuse_broken(events)
            event = Event(
                sequence=len(events) + 1,
                recorded_at=self._clock().astimezone(dt.UTC),
                month=month_key(month),
                attempt=attempt,
                actor=actor,
                step=step,
                outcome=outcome,
                previous_hash=events[-1].row_hash if events else FIRST_HASH,
                **fields,
            )
            event = msgspec.json.decode(msgspec.json.encode(event), type=Event)  # hashed as it will be read back
            event = msgspec.structs.replace(event, row_hash=hash_event(event))
            file.seek(whole)
            file.write(msgspec.json.encode(event) + b"\n")
            file.flush()
            os.fsync(file.fileno())
        return event

    def events(self) -> list[Event]:
        """All events, oldest first; a torn last line is not one.

        Raises:
            DeploymentError: a line cannot be read.
        """
        try:
            content = self._path.read_bytes()
        except FileNotFoundError:
            return []
        return _parse(content[: content.rfind(b"\n") + 1], self._path)

    def rows(self, months: Sequence[Month]) -> list[dict[str, Any]]:
        """Rows of the mirror table for some months."""
        wanted = {month_key(month): month for month in months}
        return [
            {
                **{name: getattr(event, name) for name in Event.__struct_fields__},
                "month": wanted[event.month],
                "recorded_at": event.recorded_at.astimezone(dt.UTC).replace(tzinfo=None),
                "evidence": msgspec.json.encode(event.evidence, order="sorted").decode(),
            }
            for event in self.events()
            if event.month in wanted
        ]

    def verify(self, mirrored: Mapping[int, str] | None = None) -> list[str]:
        """What is wrong with the log, compared with the mirror's hashes by sequence where given."""
        events = self.events()
        problems = verify_chain(events)
        hashes = {event.sequence: event.row_hash for event in events}
        for sequence, row_hash in sorted((mirrored or {}).items()):
            if hashes.get(sequence) != row_hash:
                problems.append(f"row {sequence} of the table is not in the log")
        return problems

    def _refuse_broken(self, events: Sequence[Event]) -> None:
        problems = verify_chain(events)
        if problems:
            raise DeploymentError(
                f"the deployment history was tampered with: {problems[0]}",
                where=str(self._path),
                remedy="keep the file as evidence, restore it from a backup",
            )

    @contextlib.contextmanager
    def _locked(self) -> Iterator[Any]:
        with self._path.open("a+b") as file:
            fcntl.flock(file, fcntl.LOCK_EX)
            file.seek(0)
            yield file


def _parse(content: bytes, path: Path) -> list[Event]:
    try:
        return [msgspec.json.decode(line, type=Event) for line in content.splitlines()]
    except msgspec.MsgspecError as error:
        raise DeploymentError(
            f"the deployment history cannot be read: {error}", where=str(path), remedy="restore it from a backup"
        ) from error
