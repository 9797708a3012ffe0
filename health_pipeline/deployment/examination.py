"""Examinations of an API at rest: tests before it gets traffic, verification after the switch."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import msgspec

from health_pipeline.deployment.client import ApiClient
from health_pipeline.deployment.findings import Finding, judge
from health_pipeline.deployment.records import Features, values_in_order
from health_pipeline.deployment.target import Endpoint, Package, Target
from health_pipeline.errors import DeploymentError
from health_pipeline.settings import DeploymentSettings, ServingSettings

if TYPE_CHECKING:
    from health_pipeline.serving.engine import Scorer

PARITY = 1e-6
"""Largest difference between what the API answers and what the bundle says."""
PERFORMANCE_REQUESTS = 200
BATCH = 100
"""Most records in one request of the tests."""


def examine_api(
    endpoint: Endpoint,
    package: Package,
    scorer: Scorer,
    records: Sequence[Features],
    limits: DeploymentSettings,
    serving: ServingSettings,
) -> list[Finding]:
    """API tests before deployment: health, version, predictions on varied inputs, refusals, performance.

    Args:
        endpoint: the package, running by itself.
        package: what should run there.
        scorer: the bundle, loaded here, that answers must agree with.
        records: varied inputs.
        limits: largest response time.
        serving: what the API takes at once.
    """
    with ApiClient(endpoint) as client:
        return [
            _health(client),
            _version(client, package),
            _predictions(client, scorer, records, _batch(records, serving)),
            _refusals(client, records[0]),
            _performance(client, records, limits),
        ]


def _health(client: ApiClient) -> Finding:
    statuses = {path: client.ask("GET", path).status for path in ("/health/live", "/health/ready", "/metrics")}
    return judge("health", set(statuses.values()) == {200}, "live, ready and metrics answer", **statuses)


def _version(client: ApiClient, package: Package) -> Finding:
    try:
        serving = client.serving()
    except DeploymentError as error:
        return Finding("model_version", "fail", error.what)
    same = serving.digest == package.release.digest and serving.model_id == package.release.facts.model_id
    return judge(
        "model_version", same, f"serves {serving.model_id}", expected=package.release.digest, served=serving.digest
    )


def _batch(records: Sequence[Features], serving: ServingSettings) -> int:
    """How many of the records may go into one request."""
    longest = max(len(msgspec.json.encode({"features": record})) for record in records) + len(",")
    return max(1, min(BATCH, serving.max_records, (serving.max_body_bytes - len('{"records":[]}')) // longest))


def _predictions(client: ApiClient, scorer: Scorer, records: Sequence[Features], batch: int) -> Finding:
    expected = scorer.probabilities([values_in_order(scorer.features, record) for record in records])
    worst, wrong = 0.0, 0
    answered: list[float] = []
    for start in range(0, len(records), batch):
        part = records[start : start + batch]
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
    return judge(
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
    return judge("error_handling", passed and still, "wrong requests are refused and harm nothing", **got)


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
    return judge(
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
    findings = [judge("ready", ready.is_ok, f"readiness answers {ready.status}", status=ready.status)]
    try:
        serving = target.serving()
    except DeploymentError as error:
        return [*findings, Finding("digest", "fail", error.what)]
    if serving is None:
        return [*findings, Finding("digest", "fail", "nothing serves")]
    release = package.release
    findings.append(
        judge(
            "digest",
            serving.digest == release.digest and serving.model_id == release.facts.model_id,
            f"{serving.model_id} serves",
            expected=release.digest,
            served=serving.digest,
        )
    )
    share = serving.weights.get(release.release_id, 0.0) / sum(serving.weights.values())
    findings.append(judge("traffic", share == 1.0, f"it has {share:.0%} of the traffic", share=share))
    running = target.digests()
    if running is not None:
        summary = f"{len(running)} image digest(s) run"
        same = running == {package.digest}
        findings.append(judge("image", same, summary, expected=package.digest, running=sorted(running)))
    return findings
