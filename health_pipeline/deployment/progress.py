"""Progress: what the history says about a release on its way; later processes find the earlier steps by it."""

from __future__ import annotations

from health_pipeline.deployment.history import History
from health_pipeline.deployment.recovery import last_promoted, open_transition
from health_pipeline.deployment.steps import GOOD, STEPS
from health_pipeline.deployment.target import Package, Target
from health_pipeline.errors import DeploymentError
from health_pipeline.serving.release import Release


class Progress:
    """Answers out of the history.

    Args:
        history: of the home.
    """

    def __init__(self, history: History) -> None:
        self._history = history

    def model_of(self, attempt: str) -> str | None:
        """The model with which an attempt began; None where its first step belongs to another attempt."""
        for event in reversed(self._history.events()):
            if event.attempt == attempt and event.step == STEPS[0]:
                return event.model_id
        return None

    def package(self, release: Release, step: str) -> Package:
        """What an earlier step made of this release; its digest is the one that travels."""
        for event in reversed(self._history.events()):
            if event.release == release.release_id and event.step == step and event.outcome in GOOD:
                return Package(release, str(event.evidence["reference"]), str(event.digest))
        raise DeploymentError(f"{step} of this release has not passed", remedy=f"run deployment/{step} first")

    def passed_before(self, step: str, package: Package) -> bool:
        """Whether the step has passed for this release, now or earlier."""
        return any(
            event.step == step and event.outcome in {"pass", "no-op"} and event.release == package.release.release_id
            for event in self._history.events()
        )

    def healthy_since_rollout(self, package: Package) -> bool:
        """Whether the health window was passed after the last change of traffic."""
        for event in reversed(self._history.events()):
            if event.step == "health" and event.release == package.release.release_id:
                return event.outcome in {"pass", "no-op"}
            if event.step in {"rollout", "rollback", "recovery"}:
                return False
        return False

    def former(self, target: Target, model_id: str) -> dict[str, str | None]:
        """What serves before the rollout touches anything; when that cannot be asked, what was promoted last."""
        transition = open_transition(self._history.events())
        if transition is not None:
            if transition.event.model_id != model_id:
                raise DeploymentError(
                    f"the {transition.event.step} of model {transition.event.model_id} has not ended",
                    remedy="let it end, or start this deployment at deployment/registered_model, which takes it back",
                )
            return {"former": transition.release, "former_digest": transition.digest}
        try:
            serving = target.serving()
        except DeploymentError:
            promoted = last_promoted(self._history.events())
            if promoted is None:
                raise
            return {"former": promoted.release, "former_digest": promoted.evidence.get("release_digest")}
        if serving is None:
            return {"former": None, "former_digest": None}
        return {"former": serving.release, "former_digest": serving.digest}
