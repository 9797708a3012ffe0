"""Examinations of an API: tests before traffic, verification after the switch, observation under traffic.

Each gives findings with an outcome: ``pass``, ``fail``, or ``inconclusive`` when there was not enough to judge by,
which a deployment treats as a failure.
"""

from __future__ import annotations

import itertools
import math
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, Literal

from health_pipeline.deployment.client import ApiClient
from health_pipeline.deployment.records import Features, values_in_order
from health_pipeline.deployment.target import Endpoint, Package, Target
from health_pipeline.errors import DeploymentError
from health_pipeline.settings import DeploymentSettings

if TYPE_CHECKING:
    from health_pipeline.serving.engine import Scorer

Outcome = Literal["pass", "fail", "inconclusive"]

PARITY = 1e-6
"""Largest difference between what the API answers and what the bundle says."""
SHIFT_BINS = 10
PERFORMANCE_REQUESTS = 200


@dataclass(frozen=True)
class Finding:
    """One examined property.

    Attributes:
        name: snake case.
        outcome: verdict.
        summary: one sentence without a value of a patient.
        numbers: what the verdict rests on.
    """

    name: str
    outcome: Outcome
    summary: str
    numbers: Mapping[str, Any] = field(default_factory=dict)


def overall(findings: Sequence[Finding]) -> Outcome:
    """Worst outcome; nothing examined is inconclusive."""
    outcomes = {finding.outcome for finding in findings}
    if "fail" in outcomes:
        return "fail"
    return "inconclusive" if "inconclusive" in outcomes or not outcomes else "pass"


def _judge(name: str, passed: bool, summary: str, **numbers: Any) -> Finding:
    return Finding(name, "pass" if passed else "fail", summary, numbers)


def examine_api(
    endpoint: Endpoint, package: Package, scorer: Scorer, records: Sequence[Features], limits: DeploymentSettings
) -> list[Finding]:
    """API tests before deployment: health, version, predictions on varied inputs, refusals, performance.

    Args:
        endpoint: the package, running by itself.
        package: what should run there.
        scorer: the bundle, loaded here, that answers must agree with.
        records: varied inputs.
        limits: largest response time.
    """
    with ApiClient(endpoint) as client:
        return [
            _health(client),
            _version(client, package),
            _predictions(client, scorer, records),
            _refusals(client, records[0]),
            _performance(client, records, limits),
        ]


def _health(client: ApiClient) -> Finding:
    statuses = {path: client.ask("GET", path).status for path in ("/health/live", "/health/ready", "/metrics")}
    return _judge("health", set(statuses.values()) == {200}, "live, ready and metrics answer", **statuses)


def _version(client: ApiClient, package: Package) -> Finding:
    try:
        serving = client.serving()
    except DeploymentError as error:
        return Finding("model_version", "fail", error.what)
    same = serving.digest == package.release.digest and serving.model_id == package.release.facts.model_id
    return _judge(
        "model_version", same, f"serves {serving.model_id}", expected=package.release.digest, served=serving.digest
    )


def _predictions(client: ApiClient, scorer: Scorer, records: Sequence[Features]) -> Finding:
    expected = scorer.probabilities([values_in_order(scorer.features, record) for record in records])
    worst, wrong = 0.0, 0
    answered: list[float] = []
    for start in range(0, len(records), 100):
        part = records[start : start + 100]
        reply = client.predict({"records": [{"features": record} for record in part]})
        probabilities = _probabilities(reply.body) if reply.is_ok else None
        if probabilities is None or len(probabilities) != len(part):
            wrong += len(part)
        else:
            answered += probabilities
            worst = max(worst, *(abs(a - b) for a, b in zip(probabilities, expected[start:], strict=False)))
    single = client.predict({"features": records[0]})
    if not single.is_ok:
        wrong += 1
    return _judge(
        "predictions",
        wrong == 0 and worst <= PARITY,
        f"{len(answered)} varied records agree with the bundle to {worst:.1e}, {wrong} without a valid answer",
        records=len(records),
        wrong=wrong,
        largest_difference=worst,
    )


def _probabilities(body: Any) -> list[float] | None:
    try:
        found = [item["probability"] for item in body["predictions"]]
    except (TypeError, KeyError):
        return None
    return found if all(isinstance(value, float) and 0 <= value <= 1 for value in found) else None


def _refusals(client: ApiClient, record: Features) -> Finding:
    wrong_type = {name: {"not": "a value"} for name in list(record)[:1]}
    got = {
        "malformed": client.ask("POST", "/v1/predict", b'{"features": ').status,
        "wrong_type": client.predict({"features": wrong_type}).status,
        "unknown_field": client.predict({"features": {"no such feature": 1}}).status,
        "no_records": client.predict({"records": []}).status,
        "no_token": client.ask("POST", "/v1/predict", b"{}", auth=False).status,
    }
    wanted = {
        "malformed": {400},
        "wrong_type": {422},
        "unknown_field": {422},
        "no_records": {422},
        "no_token": {401, 422},
    }
    passed = all(status in wanted[name] for name, status in got.items())
    still = client.predict({"features": dict(record)}).is_ok
    return _judge("error_handling", passed and still, "wrong requests are refused and harm nothing", **got)


def _performance(client: ApiClient, records: Sequence[Features], limits: DeploymentSettings) -> Finding:
    import numpy as np

    seconds, failed = [], 0
    for index in range(PERFORMANCE_REQUESTS):
        reply = client.predict({"features": dict(records[index % len(records)])})
        seconds.append(reply.seconds)
        failed += not reply.is_ok
        if sum(seconds) > 10 * limits.max_p99_seconds and index >= 20:
            break  # hopeless; enough to say so
    p99 = float(np.quantile(seconds, 0.99))
    return _judge(
        "performance",
        failed == 0 and p99 <= limits.max_p99_seconds,
        f"p99 {p99 * 1000:.1f} ms over {len(seconds)} requests, {failed} failed",
        p99_seconds=p99,
        median_seconds=float(np.median(seconds)),
        requests=len(seconds),
        failed=failed,
    )


def verify(target: Target, package: Package) -> list[Finding]:
    """Verification after the switch: reachable, ready, the very digest serves, alone."""
    with ApiClient(target.endpoint()) as client:
        ready = client.ask("GET", "/health/ready")
    findings = [_judge("ready", ready.is_ok, f"readiness answers {ready.status}", status=ready.status)]
    try:
        serving = target.serving()
    except DeploymentError as error:
        return [*findings, Finding("digest", "fail", error.what)]
    if serving is None:
        return [*findings, Finding("digest", "fail", "nothing serves")]
    release = package.release
    findings.append(
        _judge(
            "digest",
            serving.digest == release.digest and serving.model_id == release.facts.model_id,
            f"{serving.model_id} serves",
            expected=release.digest,
            served=serving.digest,
        )
    )
    share = serving.weights.get(release.release_id, 0.0) / sum(serving.weights.values())
    findings.append(_judge("traffic", share == 1.0, f"it has {share:.0%} of the traffic", share=share))
    running = target.digests()
    if running is not None:
        summary = f"{len(running)} image digest(s) run"
        same = running == {package.digest}
        findings.append(_judge("image", same, summary, expected=package.digest, running=sorted(running)))
    return findings


def observe(
    target: Target,
    package: Package,
    records: Sequence[Features],
    scorers: tuple[Scorer, Scorer | None],
    limits: DeploymentSettings,
    seconds: float,
) -> list[Finding]:
    """Watch the package under traffic for a while, with requests of our own beside the real ones.

    Args:
        target: environment.
        package: what is watched.
        records: inputs of our own requests.
        scorers: the watched model and the former one, for the shift of the predictions.
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
        _judge(
            "success_rate",
            rate >= limits.min_success_rate,
            f"{rate:.2%} of {len(durations)} requests were answered",
            rate=rate,
            requests=len(durations),
        ),
        _judge("p99", p99 <= limits.max_p99_seconds, f"p99 {p99 * 1000:.1f} ms", p99_seconds=p99),
        _traffic_errors(before, _counted(target, package), limits),
        shift_of(scorers, records, limits),
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
    return _judge(
        "release_errors",
        rate >= limits.min_success_rate,
        f"the release failed on {errors} of {requests} requests",
        requests=requests,
        errors=errors,
    )


def shift_of(
    scorers: tuple[Scorer, Scorer | None], records: Sequence[Features], limits: DeploymentSettings
) -> Finding | None:
    """Population stability index of new against former predictions on the same records."""
    import numpy as np

    from health_pipeline.monitoring.statistics import psi

    new, former = scorers
    if former is None:
        return None
    if len(records) < limits.min_requests:
        return Finding("prediction_shift", "inconclusive", f"only {len(records)} records to compare on")
    ours, theirs = (
        np.asarray(scorer.probabilities([values_in_order(scorer.features, record) for record in records]))
        for scorer in (new, former)
    )
    edges = np.unique(np.quantile(theirs, np.linspace(0, 1, SHIFT_BINS + 1)[1:-1]))
    counts = [
        np.bincount(np.searchsorted(edges, part), minlength=len(edges) + 1).astype(float) for part in (ours, theirs)
    ]
    index = psi(counts[0], counts[1])
    if not math.isfinite(index):
        return Finding("prediction_shift", "inconclusive", "the shift cannot be computed")
    return _judge(
        "prediction_shift",
        index <= limits.max_shift,
        f"population stability index {index:.3f} against the former model",
        psi=index,
        mean_new=float(ours.mean()),
        mean_former=float(theirs.mean()),
        records=len(records),
    )
