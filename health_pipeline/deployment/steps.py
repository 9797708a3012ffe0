"""Steps of a deployment: their names, their order, and what one comes to."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

from health_pipeline.deployment.admission import Options, Plan
from health_pipeline.deployment.findings import Finding

STEPS = (
    "registered_model",
    "api_image",
    "api_tests",
    "published_image",
    "rollout",
    "verification",
    "health",
    "promotion",
)
TOUCHES_TRAFFIC = frozenset({"rollout", "verification", "health", "promotion"})
GOOD = frozenset({"pass", "no-op", "skipped"})


@dataclass(frozen=True)
class StepResult:
    """What a step came to.

    Attributes:
        outcome: ``pass``, ``no-op``, ``skipped``, ``fail`` or ``inconclusive``.
        release: release id.
        digest: of the package: the image where there is one, else the release.
        release_digest: of the release inside; what the API itself reports.
        reference: what the target calls the package.
        findings: examined properties.
    """

    step: str
    outcome: str
    summary: str
    release: str | None = None
    digest: str | None = None
    release_digest: str | None = None
    reference: str | None = None
    findings: Sequence[Finding] = field(default_factory=tuple)
    seconds: float = 0.0

    @property
    def is_good(self) -> bool:
        """Whether the next step may begin."""
        return self.outcome in GOOD


def evidence_of(result: StepResult, options: Options, plan: Plan) -> dict[str, Any]:
    """What the history keeps beside the outcome."""
    evidence: dict[str, Any] = {"decision": plan.decision}
    for name in ("reference", "release_digest"):
        if getattr(result, name) is not None:
            evidence[name] = getattr(result, name)
    if options.force_deployment:
        evidence["forced"] = {"by": options.actor, "why": options.force_reason}
    if options.improvement_threshold is not None:
        evidence["improvement_threshold"] = options.improvement_threshold
    if result.findings:
        evidence["findings"] = [
            {"name": found.name, "outcome": found.outcome, "summary": found.summary, **dict(found.numbers)}
            for found in result.findings
        ]
    return evidence
