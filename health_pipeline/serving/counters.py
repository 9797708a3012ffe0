"""Counters of the API: cheap to feed on the hot path, shown as Prometheus text and as JSON."""

from __future__ import annotations

import threading
from bisect import bisect_left
from collections.abc import Iterable, Sequence
from typing import Any

from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily, HistogramMetricFamily, Metric

LATENCY_BOUNDS = (0.0005, 0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0)
"""Upper bounds of the latency buckets in seconds."""

PROBABILITY_BOUNDS = (0.05, 0.1, 0.15, 0.2, 0.25, 0.3, 0.4, 0.5, 0.7)
"""Upper bounds of the probability buckets."""


class Histogram:
    """Counts per bucket; the last bucket is open."""

    __slots__ = ("bounds", "counts", "total")

    def __init__(self, bounds: tuple[float, ...]) -> None:
        self.bounds = bounds
        self.counts = [0] * (len(bounds) + 1)
        self.total = 0.0

    def observe(self, value: float) -> None:
        """Count a value."""
        self.counts[bisect_left(self.bounds, value)] += 1
        self.total += value

    def buckets(self) -> list[tuple[str, float]]:
        """Cumulative counts as Prometheus wants them."""
        cumulative, result = 0, []
        for bound, count in zip((*self.bounds, None), self.counts, strict=True):
            cumulative += count
            result.append(("+Inf" if bound is None else str(bound), float(cumulative)))
        return result


class ReleaseCounters:
    """What one release did.

    Attributes:
        requests: requests this release was asked to answer.
        rows: records it scored.
        errors: requests on which it failed; the fallback answered them where there is one.
        shadow_rows: records scored without answering.
        seconds: time from the decoded body to the answer.
        probabilities: distribution of the scores.
    """

    __slots__ = ("_lock", "errors", "probabilities", "requests", "rows", "seconds", "shadow_rows")

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self.requests = 0
        self.rows = 0
        self.errors = 0
        self.shadow_rows = 0
        self.seconds = Histogram(LATENCY_BOUNDS)
        self.probabilities = Histogram(PROBABILITY_BOUNDS)

    def answered(self, probabilities: Sequence[float], seconds: float) -> None:
        """Count a request that the release answered."""
        with self._lock:
            self.requests += 1
            self.rows += len(probabilities)
            self.seconds.observe(seconds)
            for probability in probabilities:
                self.probabilities.observe(probability)

    def answered_each(self, probabilities: Sequence[float], seconds: float) -> None:
        """Count requests for one record each that the release answered together in so many seconds."""
        with self._lock:
            self.requests += len(probabilities)
            self.rows += len(probabilities)
            for probability in probabilities:
                self.seconds.observe(seconds)
                self.probabilities.observe(probability)

    def failed(self, seconds: float) -> None:
        """Count a request on which the release failed."""
        with self._lock:
            self.requests += 1
            self.errors += 1
            self.seconds.observe(seconds)

    def shadowed(self, probability: float | None) -> None:
        """Count a record scored without answering; ``None`` when that failed."""
        with self._lock:
            if probability is None:
                self.errors += 1
            else:
                self.shadow_rows += 1
                self.probabilities.observe(probability)

    def as_json(self) -> dict[str, Any]:
        """The numbers, with bounds."""
        return {
            "requests": self.requests,
            "rows": self.rows,
            "errors": self.errors,
            "shadow_rows": self.shadow_rows,
            "seconds": {"bounds": self.seconds.bounds, "counts": self.seconds.counts, "total": self.seconds.total},
            "probabilities": {"bounds": self.probabilities.bounds, "counts": self.probabilities.counts},
        }


class Counters:
    """All counters of the process; a Prometheus collector."""

    def __init__(self) -> None:
        self.responses: dict[int, int] = {}
        self.releases: dict[str, ReleaseCounters] = {}
        self.shadow_dropped = 0
        self.gauges: dict[str, tuple[str, float]] = {}

    def response(self, status: int) -> None:
        """Count an answer of the prediction route."""
        self.responses[status] = self.responses.get(status, 0) + 1

    def release(self, release_id: str) -> ReleaseCounters:
        """Counters of a release, kept for the life of the process."""
        found = self.releases.get(release_id)
        if found is None:
            found = self.releases[release_id] = ReleaseCounters()
        return found

    def collect(self) -> Iterable[Metric]:
        """Metric families for ``prometheus_client``."""
        responses = CounterMetricFamily("predict_responses", "answers of POST /v1/predict", labels=["status"])
        for status, count in sorted(self.responses.items()):
            responses.add_metric([str(status)], count)
        yield responses
        for name, help_text in (
            ("requests", "requests a release was asked to answer"),
            ("rows", "records a release scored"),
            ("errors", "requests on which a release failed"),
            ("shadow_rows", "records scored without answering"),
        ):
            family = CounterMetricFamily(f"predict_release_{name}", help_text, labels=["release"])
            for release_id, counters in self.releases.items():
                family.add_metric([release_id], getattr(counters, name))
            yield family
        for name, attribute, help_text in (
            ("predict_seconds", "seconds", "time from the decoded body to the answer"),
            ("predict_probability", "probabilities", "distribution of the scores"),
        ):
            histogram = HistogramMetricFamily(name, help_text, labels=["release"])
            for release_id, counters in self.releases.items():
                values: Histogram = getattr(counters, attribute)
                histogram.add_metric([release_id], values.buckets(), values.total)
            yield histogram
        yield CounterMetricFamily("predict_shadow_dropped", "shadow records dropped", value=self.shadow_dropped)
        for name, (help_text, value) in self.gauges.items():
            yield GaugeMetricFamily(name, help_text, value=value)
