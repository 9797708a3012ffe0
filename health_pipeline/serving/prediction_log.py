"""Prediction log: who was scored (hashed), on what (hashed), with which model, when, and the probability.

The answer never waits for the disk: a request appends to a queue, a thread writes the queue as NDJSON and syncs it
every ``flush_seconds``. **Bound**: when the process or the machine dies, at most the predictions of the last
``flush_seconds`` plus one write are missing, and at most the last line of the file is torn; :func:`read_log` skips it.
While the disk refuses writes, rows wait in memory up to ``MAX_QUEUED``; beyond it they are dropped **and counted**.
"""

from __future__ import annotations

import contextlib
import datetime as dt
import hashlib
import os
import threading
import time
from collections import deque
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import msgspec
import structlog

from health_pipeline.privacy.pseudonym import HEX_DIGITS, pseudonym_parameters
from health_pipeline.serving.input_counts import InputCounts
from health_pipeline.serving.schema import Feature, Values

MAX_QUEUED = 200_000
ROTATE_BYTES = 128 * 1024 * 1024

_log = structlog.get_logger(__name__)


class Prediction(NamedTuple):
    """One scored record as the request leaves it; identifiers and values are hashed before they are written.

    Attributes:
        role: ``primary`` (answered), ``shadow`` (scored beside), ``fallback`` (answered instead of a failed release),
            ``probe`` (a check of the deployment).
        features: what the values are; where they are given, the values of answers are counted
            (:mod:`~health_pipeline.serving.input_counts`).
    """

    time_ns: int
    patient_id: str | None
    encounter_id: str | None
    values: Values
    probability: float
    model_id: str
    release: str
    role: str
    features: Sequence[Feature] = ()


class Hasher:
    """Hashes of identifiers and values; a patient's is the ``patient_key`` of the warehouse, so the two join.

    Args:
        key: key of the pseudonyms.
    """

    def __init__(self, key: bytes) -> None:
        # HMAC-SHA-256 with the key's two blocks hashed once: half the time of pseudonym() for each record.
        blocks = pseudonym_parameters(key)
        self._inner = hashlib.sha256(blocks["pseudonym_inner"])
        self._outer = hashlib.sha256(blocks["pseudonym_outer"])

    def identifier(self, value: str | None) -> str | None:
        """32 hex digits, those of :func:`health_pipeline.privacy.pseudonym.pseudonym`; ``None`` stays ``None``."""
        if value is None:
            return None
        inner, outer = self._inner.copy(), self._outer.copy()
        inner.update(value.strip().encode())
        outer.update(inner.digest())
        return outer.hexdigest()[:HEX_DIGITS]

    @staticmethod
    def features(values: Values) -> str:
        """32 hex digits of the feature values in schema order (BLAKE2b over their MessagePack form)."""
        return hashlib.blake2b(_packed(values), digest_size=16).hexdigest()


_packed = msgspec.msgpack.Encoder().encode


class _Line(msgspec.Struct):
    """A row of the log, as it is written."""

    time: dt.datetime
    patient_hash: str | None
    encounter_hash: str | None
    feature_hash: str
    probability: float
    model_id: str
    release: str
    role: str


class PredictionLog:
    """Writes predictions in the background.

    Args:
        folder: one file per process start and rotation lies in it.
        hasher: hashes identifiers.
        flush_seconds: longest time a prediction waits before it is written and synced.
        open_file: opens a file for appending bytes (tests let the disk fail).
    """

    def __init__(
        self,
        folder: Path,
        hasher: Hasher,
        flush_seconds: float = 0.05,
        open_file: Callable[[Path], Any] = lambda path: path.open("ab", buffering=0),
    ) -> None:
        self._folder, self._hasher, self._flush_seconds, self._open = folder, hasher, flush_seconds, open_file
        self._queue: deque[Prediction] = deque()
        self._stop = threading.Event()
        self._encode = msgspec.json.Encoder().encode
        self._file: Any = None
        self._written = 0
        self._sequence = 0
        self._started = time.time_ns()
        self._pending: bytes = b""
        self._pending_rows = 0
        self.written_rows = 0
        self.dropped_rows = 0
        self.is_failing = False
        folder.mkdir(parents=True, exist_ok=True)
        self._inputs = InputCounts(folder)
        self._thread = threading.Thread(target=self._run, name="prediction-log", daemon=True)
        self._thread.start()

    def append(self, row: Prediction) -> None:
        """Queue a prediction (less than a microsecond)."""
        if len(self._queue) >= MAX_QUEUED:
            self.dropped_rows += 1
            return
        self._queue.append(row)

    def close(self) -> None:
        """Write what is queued and stop."""
        self._stop.set()
        self._thread.join(timeout=10)
        if self._file is not None:
            self._file.close()
            self._file = None

    def _run(self) -> None:
        while not self._stop.wait(self._flush_seconds):
            self._flush()
            self._inputs.write_when_due()
        self._flush()
        self._inputs.write()

    def _flush(self) -> None:
        try:
            while self._pending or self._queue:
                if not self._pending:
                    self._pending, self._pending_rows = self._take()
                self._write(self._pending)
                self.written_rows += self._pending_rows
                self._pending, self._pending_rows = b"", 0
            self.is_failing = False
        except OSError as error:
            if not self.is_failing:
                _log.error("prediction_log_failing", error=type(error).__name__, errno=error.errno)
            self.is_failing = True

    def _take(self) -> tuple[bytes, int]:
        lines = bytearray()
        rows = 0
        identifier, features = self._hasher.identifier, self._hasher.features
        while self._queue and rows < 1000:
            row = self._queue.popleft()
            at = dt.datetime.fromtimestamp(row.time_ns / 1e9, dt.UTC)
            if row.features and row.role != "probe":
                self._inputs.add(row.features, row.values, (at.year, at.month))
            lines += self._encode(
                _Line(
                    at,
                    identifier(row.patient_id),
                    identifier(row.encounter_id),
                    features(row.values),
                    row.probability,
                    row.model_id,
                    row.release,
                    row.role,
                )
            )
            lines += b"\n"
            rows += 1
        return bytes(lines), rows

    def _was_deleted(self) -> bool:
        """Whether somebody tidied the open file away: what is written to it would be gone with it."""
        return os.fstat(self._file.fileno()).st_nlink == 0

    def _write(self, lines: bytes) -> None:
        if self._file is not None and (self._written > ROTATE_BYTES or self._was_deleted()):
            self._file.close()
            self._file = None
        if self._file is None:
            name = f"predictions-{self._started}-{os.getpid()}-{self._sequence:04d}.ndjson"
            self._sequence += 1
            self._file = self._open(self._folder / name)
            self._written = 0
        try:
            remaining = memoryview(lines)
            while remaining:
                remaining = remaining[self._file.write(remaining) :]
            os.fsync(self._file.fileno())
        except OSError:
            # All of these lines are written again, into a new file: none of them must stay in this one.
            failed, self._file = self._file, None
            with contextlib.suppress(OSError):
                failed.truncate(self._written)
            with contextlib.suppress(OSError):
                failed.close()
            raise
        self._written += len(lines)


def read_log(folder: Path) -> Iterator[dict[str, Any]]:
    """Rows of all files, oldest file first; a torn last line of a file is skipped."""
    for path in sorted(folder.glob("predictions-*.ndjson")):
        with path.open("rb") as file:
            for line in file:
                if line.endswith(b"\n"):
                    yield msgspec.json.decode(line)
