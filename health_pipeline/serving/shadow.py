"""Shadow scoring: a challenger scores what others answer, in a thread of its own, and disturbs nothing."""

from __future__ import annotations

import threading
import time
from collections import deque
from collections.abc import Sequence

import structlog

from health_pipeline.serving.counters import Counters
from health_pipeline.serving.live import Loaded
from health_pipeline.serving.prediction_log import Prediction, PredictionLog
from health_pipeline.serving.schema import Record, Values

SHADOW_QUEUE = 2_000

_log = structlog.get_logger(__name__)


class Shadow:
    """Scores and logs in the background; what exceeds the queue is dropped and counted.

    Args:
        counters: fed with what was dropped.
        prediction_log: receives the scores.
    """

    def __init__(self, counters: Counters, prediction_log: PredictionLog) -> None:
        self._counters, self._prediction_log = counters, prediction_log
        self._queue: deque[tuple[Loaded, Record, Values]] = deque()
        self._wake = threading.Event()
        self._stopped = False
        self._thread = threading.Thread(target=self._run, name="shadow", daemon=True)
        self._thread.start()

    def cast(self, release: Loaded, records: Sequence[Record], rows: Sequence[Values]) -> None:
        """Queue records for the release in the shadow."""
        room = SHADOW_QUEUE - len(self._queue)
        self._counters.shadow_dropped += max(0, len(rows) - room)
        for record, values in list(zip(records, rows, strict=True))[: max(0, room)]:
            self._queue.append((release, record, values))
        self._wake.set()

    def close(self) -> None:
        """Stop the thread; what it had not come to is dropped, counted and said."""
        self._stopped = True
        self._wake.set()
        self._thread.join(timeout=5)
        if self._queue:
            self._counters.shadow_dropped += len(self._queue)
            _log.warning("shadow_ended", dropped=len(self._queue))
            self._queue.clear()

    def _run(self) -> None:
        while not self._stopped:
            self._wake.wait()
            self._wake.clear()
            while self._queue and not self._stopped:
                self._score(*self._queue.popleft())

    def _score(self, loaded: Loaded, record: Record, values: Values) -> None:
        release = loaded.release
        try:
            (probability,) = loaded.probabilities((values,))
        except Exception as error:  # noqa: BLE001  (a shadow must not disturb anything)
            loaded.counters.shadowed(None)
            _log.error("shadow_failed", release=release.release_id, error=type(error).__name__)
            return
        loaded.counters.shadowed(probability)
        facts = release.facts
        ids = record.patient_id, record.encounter_id
        self._prediction_log.append(
            Prediction(time.time_ns(), *ids, values, probability, facts.model_id, release.release_id, "shadow")
        )
