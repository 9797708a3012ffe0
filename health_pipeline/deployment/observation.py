"""Observation of an API under traffic: answers, times, errors behind the fallback, shift of the predictions."""

from __future__ import annotations

import itertools
import math
import time
from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

from health_pipeline.deployment.client import ApiClient
from health_pipeline.deployment.findings import Finding, judge
from health_pipeline.deployment.records import Features, values_in_order
from health_pipeline.deployment.target import Package, Target
from health_pipeline.settings import DeploymentSettings

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

    from health_pipeline.serving.engine import Scorer

    Floats = NDArray[np.float64]

SHIFT_BINS = 10
REPLICATES, CHANCE_LEVEL = 400, 0.995


@dataclass(frozen=True)
class Comparison:
    """What the predictions of a new and a former model are compared on.

    Attributes:
        new: the watched model.
        former: the one it replaces; without it nothing is compared.
        recent: records such as traffic brings now.
        judged: records of the months on which the gates compared the two; what they saw there they have accepted.
    """

    new: Scorer
    former: Scorer | None
    recent: Sequence[Features] = ()
    judged: Sequence[Features] = ()


def observe(
    target: Target,
    package: Package,
    records: Sequence[Features],
    comparison: Comparison,
    limits: DeploymentSettings,
    seconds: float,
) -> list[Finding]:
    """Watch the package under traffic for a while, with requests of our own beside the real ones.

    Args:
        target: environment.
        package: what is watched.
        records: inputs of our own requests.
        comparison: for the shift of the predictions.
        limits: success rate, p99, shift, fewest requests.
        seconds: how long.
    """
    import numpy as np

    before = _counted(target, package)
    durations: list[float] = []
    succeeded = 0
    end = time.monotonic() + seconds
    position = 0
    endpoints = itertools.cycle(target.watched(package))
    while True:
        # A new connection for each round: behind a load balancer it may meet another process.
        with ApiClient(next(endpoints)) as client:
            ready = client.ask("GET", "/health/ready")
            succeeded += ready.is_ok
            durations.append(ready.seconds)
            for _ in range(limits.min_requests):
                body = {"features": dict(records[position % len(records)]), "patient_id": f"observation-{position}"}
                position += 1
                # Pinned: all of our requests meet the watched release, and see its failures undisguised.
                reply = client.predict(body, x_release=package.release.release_id, x_probe="1")
                succeeded += reply.is_ok
                durations.append(reply.seconds)
        if time.monotonic() >= end:
            break
        time.sleep(min(limits.health_interval_seconds, max(0.0, end - time.monotonic())))
    rate, p99 = succeeded / len(durations), float(np.quantile(durations, 0.99))
    findings = [
        judge(
            "success_rate",
            rate >= limits.min_success_rate,
            f"{rate:.2%} of {len(durations)} requests were answered",
            rate=rate,
            requests=len(durations),
        ),
        judge("p99", p99 <= limits.max_p99_seconds, f"p99 {p99 * 1000:.1f} ms", p99_seconds=p99),
        _traffic_errors(before, _counted(target, package), limits),
        shift_of(comparison, limits),
    ]
    return [finding for finding in findings if finding is not None]


def _counted(target: Target, package: Package) -> tuple[int, int] | None:
    counters = target.counters()
    if counters is None:
        return None
    found = counters.get(package.release.release_id, {"requests": 0, "errors": 0})
    return found["requests"], found["errors"]


def _traffic_errors(
    before: tuple[int, int] | None, after: tuple[int, int] | None, limits: DeploymentSettings
) -> Finding | None:
    """Errors of the release as its process counts them: those the fallback hid from the clients too."""
    if before is None or after is None:
        return None
    requests, errors = after[0] - before[0], after[1] - before[1]
    if requests < limits.min_requests:
        return Finding(
            "release_errors", "inconclusive", f"only {requests} requests reached the release", {"requests": requests}
        )
    rate = 1 - errors / requests
    return judge(
        "release_errors",
        rate >= limits.min_success_rate,
        f"the release failed on {errors} of {requests} requests",
        requests=requests,
        errors=errors,
    )


def shift_of(comparison: Comparison, limits: DeploymentSettings) -> Finding | None:
    """Population stability index of new against former predictions, held against that on the judged months.

    A better model predicts differently, and the gates have judged how. What they have not seen is a difference that
    appears only on the patients of today.
    """
    new, former = comparison.new, comparison.former
    if former is None:
        return None
    if len(comparison.recent) < limits.min_requests:
        return Finding("prediction_shift", "inconclusive", f"only {len(comparison.recent)} records to compare on")
    index, expected, chance = _shift(new, former, comparison.recent), 0.0, 0.0
    if len(comparison.judged) >= limits.min_requests:
        expected = _shift(new, former, comparison.judged)
        chance = _chance_level(new, former, comparison.judged, len(comparison.recent))
    if not math.isfinite(index - expected - chance):
        return Finding("prediction_shift", "inconclusive", "the shift cannot be computed")
    limit = chance + limits.max_shift
    return judge(
        "prediction_shift",
        index <= limit,
        f"population stability index {index:.3f} against the former model, {expected:.3f} where the gates judged; "
        f"at most {limit:.3f} is accepted",
        psi=index,
        psi_judged=expected,
        psi_judged_chance_level=chance,
        records=len(comparison.recent),
        records_judged=len(comparison.judged),
    )


def _chance_level(new: Scorer, former: Scorer, judged: Sequence[Features], rows: int) -> float:
    """The index that as many rows as are compared now, drawn from the judged months, hardly ever exceed (bootstrap)."""
    import numpy as np

    pairs = _scores(new, former, judged)
    generator = np.random.default_rng(0)
    drawn = [_index(*pairs[:, generator.integers(0, pairs.shape[1], rows)]) for _ in range(REPLICATES)]
    return float(np.quantile(drawn, CHANCE_LEVEL))


def _shift(new: Scorer, former: Scorer, records: Sequence[Features]) -> float:
    return _index(*_scores(new, former, records))


def _scores(new: Scorer, former: Scorer, records: Sequence[Features]) -> Floats:
    """Probabilities, shape (2, records): of the new and of the former model."""
    import numpy as np

    return np.asarray(
        [
            scorer.probabilities([values_in_order(scorer.features, record) for record in records])
            for scorer in (new, former)
        ],
        dtype=float,
    )


def _index(ours: Floats, theirs: Floats) -> float:
    """Population stability index of one set of scores against the deciles of the other."""
    import numpy as np

    from health_pipeline.monitoring.statistics import psi

    edges = np.unique(np.quantile(theirs, np.linspace(0, 1, SHIFT_BINS + 1)[1:-1]))
    counts = [
        np.bincount(np.searchsorted(edges, part), minlength=len(edges) + 1).astype(float) for part in (ours, theirs)
    ]
    return psi(counts[0], counts[1])
