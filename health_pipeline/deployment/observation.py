"""Observation of an API under traffic: answers, times, errors behind the fallback, and the shift found."""

from __future__ import annotations

import itertools
import time
from collections.abc import Sequence

from health_pipeline.deployment.client import ApiClient
from health_pipeline.deployment.findings import Finding, judge
from health_pipeline.deployment.prediction_shift import Comparison, shift_of
from health_pipeline.deployment.records import Features
from health_pipeline.deployment.target import Package, Target
from health_pipeline.settings import DeploymentSettings


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
