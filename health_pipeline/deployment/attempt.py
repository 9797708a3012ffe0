"""A deployment attempt: one model on its way through the steps, every step recorded before and after.

What may go wrong, goes wrong here: a step that fails leaves the former release serving, the registry's alias where it
was, and a row that says so. Each step is a no-op when its work is already done for the same digest.
"""

from __future__ import annotations

import contextlib
import dataclasses
import time
from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, Any

import structlog

import health_pipeline
from health_pipeline.deployment.admission import Options, Plan
from health_pipeline.deployment.examination import examine_api, verify
from health_pipeline.deployment.findings import Finding, overall
from health_pipeline.deployment.history import Event
from health_pipeline.deployment.observation import observe
from health_pipeline.deployment.prediction_shift import Comparison
from health_pipeline.deployment.progress import Progress
from health_pipeline.deployment.records import NO_SAMPLES, Features, Samples, varied_records
from health_pipeline.deployment.recovery import open_transition, recover, take_back
from health_pipeline.deployment.registry import CHALLENGER, CHAMPION, PREVIOUS
from health_pipeline.deployment.standing import JUDGING
from health_pipeline.deployment.steps import STEPS, TOUCHES_TRAFFIC, StepResult, evidence_of
from health_pipeline.deployment.target import Package, Target
from health_pipeline.deployment.tools import Tools
from health_pipeline.errors import DeploymentError, PipelineError
from health_pipeline.months import month_key
from health_pipeline.notify import templates
from health_pipeline.serving.release import Release, ReleaseFacts, pack_release, read_release

if TYPE_CHECKING:
    from pathlib import Path

    from health_pipeline.serving.engine import Scorer

RECORDS = 400

_log = structlog.get_logger(__name__)


class Attempt:
    """The steps of one deployment.

    Args:
        plan: the admitted model.
        options: of the run.
        tools: what to work with.
        attempt_id: the same for all steps; a step of a later process finds the earlier ones by it.
        samples: feature rows to try the API with.
    """

    def __init__(
        self, plan: Plan, options: Options, tools: Tools, attempt_id: str, samples: Samples = NO_SAMPLES
    ) -> None:
        self._plan, self._options, self._tools, self._id, self._samples = plan, options, tools, attempt_id, samples
        self._progress = Progress(tools.history)

    def run(self, step: str) -> StepResult:
        """Run a step by name; never raises for what can go wrong with a release.

        Raises:
            ValueError: no such step.
            PipelineError: the history cannot be written.
        """
        if step not in STEPS:
            raise ValueError(f"no step {step!r}")
        work: Callable[[], StepResult] = getattr(self, f"_{step}")
        if step == STEPS[0]:
            recover(self._tools, self._options.actor)
        elif (began_with := self._progress.model_of(self._id)) not in {None, self._plan.model_id}:
            return self._overtaken(step, str(began_with))
        began = time.perf_counter()
        try:
            self._record(step, "started", **(self._former() if step == "rollout" else {}))
            result = work()
        except PipelineError as error:
            result = StepResult(step, "fail", str(error))
        except Exception as error:  # noqa: BLE001  (whatever breaks, traffic must go back)
            _log.exception("deployment_step_broke", step=step)
            result = StepResult(step, "fail", f"{type(error).__name__}: {error}")
        except BaseException:
            # Cancelled: put things right as far as there is time; what remains, recovery finds in the history.
            if step in TOUCHES_TRAFFIC:
                self._take_back(f"{step} was cancelled")
            raise
        result = dataclasses.replace(result, seconds=round(time.perf_counter() - began, 3))
        self._record(
            step,
            result.outcome,
            release=result.release,
            digest=result.digest,
            seconds=result.seconds,
            summary=result.summary,
            evidence=evidence_of(result, self._options, self._plan),
        )
        _log.info("deployment_step", step=step, outcome=result.outcome, seconds=result.seconds)
        if not result.is_good:
            self._failed(result)
        elif (step, result.outcome) == ("promotion", "pass"):
            self._succeeded()
        return result

    def _overtaken(self, step: str, model_id: str) -> StepResult:
        """The month was decided again on the way: this attempt ends, and no verdict is spoken on either model."""
        reason = f"{self._plan.model_id} was chosen while {model_id} was on its way; that needs an attempt of its own"
        known: dict[str, Any] = {"month": self._plan.month, "attempt": self._id, "actor": self._options.actor}
        known["model_id"] = model_id
        self._tools.history.append(**known, step="skip", outcome="skipped", summary=reason)
        if step in TOUCHES_TRAFFIC:
            take_back(self._tools, **known, reason=reason)
        return StepResult(step, "fail", reason)

    # The steps ---------------------------------------------------------------------------------------------------

    def _registered_model(self) -> StepResult:
        """The model is in the registry as challenger, its artefacts are there and unchanged, the tools too."""
        plan, tools = self._plan, self._tools
        for target in (*tools.stages, tools.target):
            target.check()
        release = self._pack()
        from health_pipeline.serving.scorers import load_scorer

        load_scorer(tools.target.build_root / release.release_id, release)
        version = tools.registry.register(plan.model_id, plan.bundle, plan.bundle_hash)
        if tools.registry.holder(CHAMPION) == plan.model_id:
            summary = f"{plan.model_id} is champion already (version {version})"
            return StepResult("registered_model", "no-op", summary, release.release_id, release.digest)
        tools.registry.point(CHALLENGER, plan.model_id)
        return StepResult(
            "registered_model",
            "pass",
            f"{plan.model_id} is version {version}, alias {CHALLENGER}",
            release=release.release_id,
            digest=release.digest,
        )

    def _api_image(self) -> StepResult:
        package = self._tools.target.build(self._pack())
        return self._result("api_image", "pass", f"built {package.reference}", package)

    def _api_tests(self) -> StepResult:
        package = self._package("api_image")
        if self._options.skip_api_tests:
            return self._result("api_tests", "skipped", f"skipped by order of {self._options.actor}", package)
        if self._progress.passed_before("api_tests", package):
            return self._result("api_tests", "no-op", "this digest has passed before", package)
        scorer = self._scorer(package.release.release_id)
        with self._tools.target.trial(package) as endpoint:
            findings = examine_api(
                endpoint, package, scorer, self._records(scorer), self._tools.limits, self._tools.serving
            )
        return self._judged("api_tests", findings, package)

    def _published_image(self) -> StepResult:
        package = self._package("api_image")
        if not (self._options.skip_api_tests or self._progress.passed_before("api_tests", package)):
            raise DeploymentError("this digest has not passed the API tests", remedy="run deployment/api_tests first")
        published = self._tools.target.publish(package)
        return self._result("published_image", "pass", f"published as {published.reference}", published)

    def _rollout(self) -> StepResult:
        tools, package = self._tools, self._package("published_image")
        release = package.release
        serving = tools.target.serving()
        if serving is not None and serving.digest == release.digest and set(serving.weights) == {release.release_id}:
            return self._result("rollout", "no-op", "this digest serves already", package)
        comparison = self._comparison(release, serving.release if serving else None)
        findings: list[Finding] = []
        for stage in tools.stages:
            findings += self._stage(stage, package, comparison)
            if overall(findings) != "pass":
                return self._judged("rollout", findings, package)
        weights = tools.limits.canary_weights if serving is not None else ()
        for weight in weights:
            self._shift(package, weight)
            findings += self._observed(package, comparison, tools.limits.canary_seconds, f"canary_{weight:g}")
            if overall(findings) != "pass":
                return self._judged("rollout", findings, package)
        self._shift(package, 1.0)
        findings.append(Finding("traffic", "pass", "all traffic goes to the new release"))
        return self._judged("rollout", findings, package)

    def _verification(self) -> StepResult:
        package = self._package("published_image")
        return self._judged("verification", verify(self._tools.target, package), package)

    def _health(self) -> StepResult:
        package, limits = self._package("published_image"), self._tools.limits
        if self._tools.registry.holder(CHAMPION) == self._plan.model_id and self._progress.passed_before(
            "health", package
        ):
            return self._result("health", "no-op", "this digest has passed before, and is champion", package)
        transition = open_transition(self._tools.history.events())
        comparison = self._comparison(package.release, transition.release if transition else None)
        findings = self._observed(package, comparison, limits.health_seconds, "health")
        return self._judged("health", findings, package)

    def _promotion(self) -> StepResult:
        tools, plan, package = self._tools, self._plan, self._package("published_image")
        if not self._progress.healthy_since_rollout(package):
            raise DeploymentError("the release has not passed the health window", remedy="run deployment/health first")
        old = tools.registry.holder(CHAMPION)
        if old == plan.model_id and open_transition(tools.history.events()) is None:
            return self._result("promotion", "no-op", f"{plan.model_id} is champion already", package)
        if old not in {None, plan.model_id}:  # the same model in another release: with the API of another version
            tools.registry.point(PREVIOUS, old)
        tools.registry.point(CHAMPION, plan.model_id)
        tools.registry.point(CHALLENGER, None)
        tools.registry.describe(
            plan.model_id,
            {
                "deployed_at": tools.clock().isoformat(),
                "deployed_digest": package.digest,
                "deployed_by": self._options.actor,
                "gain_over_former": "" if plan.gain is None else f"{plan.gain:.6f}",
            },
        )
        tools.target.settle(package)
        return self._result("promotion", "pass", f"{plan.model_id} is champion, {old or 'nothing'} was", package)

    # What they share ---------------------------------------------------------------------------------------------

    def _stage(self, stage: Target, package: Package, comparison: Comparison) -> list[Finding]:
        """Pass a stage before production; a release that fails there leaves the stage as it was."""
        limits = self._tools.limits
        before = stage.serving()
        staged = stage.publish(package)
        is_settled = False
        try:
            stage.shift(staged, 1.0)
            findings = verify(stage, staged)
            if overall(findings) == "pass":
                records = self._records(comparison.new)
                findings += observe(stage, staged, records, comparison, limits, limits.canary_seconds)
            if overall(findings) == "pass":
                stage.settle(staged)
                is_settled = True
        except DeploymentError as error:
            findings = [Finding("shift", "fail", str(error))]
        finally:  # whatever broke, also where the run is cancelled
            if not is_settled:
                stage.restore(before.release if before is not None else None)
        return [dataclasses.replace(found, name=f"{stage.environment}_{found.name}") for found in findings]

    def _shift(self, package: Package, weight: float) -> None:
        """Move traffic, unless somebody has taken it back since this rollout began."""
        transition = open_transition(self._tools.history.events())
        if transition is None or transition.event.attempt != self._id:
            raise DeploymentError("traffic was taken back meanwhile", remedy="see deployment.history: by whom, and why")
        self._tools.target.shift(package, weight)

    def _observed(self, package: Package, comparison: Comparison, seconds: float, prefix: str) -> list[Finding]:
        tools = self._tools
        findings = observe(tools.target, package, self._records(comparison.new), comparison, tools.limits, seconds)
        return [dataclasses.replace(found, name=f"{prefix}_{found.name}") for found in findings]

    def _comparison(self, release: Release, former: str | None) -> Comparison:
        """New and former model; made-up records stand in where there are too few real ones."""
        new, samples, least = self._scorer(release.release_id), self._samples, self._tools.limits.min_requests
        if len(samples.recent) < least:
            samples = Samples(self._records(new))
        elif len(samples.judged) < least:
            samples = Samples(samples.recent)
        old = self._former_scorer(former)
        return Comparison(new, old, samples, missing=former if old is None else None)

    def _records(self, scorer: Scorer) -> Sequence[Features]:
        return varied_records(scorer.features, self._samples.recent, RECORDS)

    def _pack(self) -> Release:
        plan = self._plan
        facts = ReleaseFacts(
            model_id=plan.model_id,
            family=plan.family,
            month=month_key(plan.month),
            threshold=plan.threshold,
            bundle_hash=plan.bundle_hash,
            trained_at=plan.trained_at,
            metrics=plan.metrics,
            built_by=health_pipeline.__version__,
        )
        return pack_release(plan.bundle, facts, self._tools.target.build_root)

    def _package(self, step: str) -> Package:
        return self._progress.package(self._pack(), step)

    def _former(self) -> dict[str, str | None]:
        return self._progress.former(self._tools.target, self._plan.model_id)

    def _scorer(self, release_id: str, releases: Path | None = None) -> Scorer:
        from health_pipeline.serving.scorers import load_scorer

        folder = (releases or self._tools.target.build_root) / release_id
        return load_scorer(folder, read_release(folder))

    def _former_scorer(self, release_id: str | None) -> Scorer | None:
        if release_id is None:
            return None
        # A local release lies among the published ones too, where what was built is gone.
        for folder in (self._tools.target.build_root, self._tools.target.build_root.parent / "releases"):
            with contextlib.suppress(PipelineError):
                return self._scorer(release_id, folder)
        _log.warning("former_release_not_here", release=release_id)
        return None  # built elsewhere: there is nothing here to compare with

    def _judged(self, step: str, findings: Sequence[Finding], package: Package) -> StepResult:
        outcome = overall(findings)
        wrong = [finding for finding in findings if finding.outcome != "pass"] or list(findings)
        summary = "; ".join(f"{finding.name}: {finding.summary}" for finding in wrong)
        return dataclasses.replace(self._result(step, outcome, summary, package), findings=tuple(findings))

    def _result(self, step: str, outcome: str, summary: str, package: Package) -> StepResult:
        release = package.release
        return StepResult(
            step, outcome, summary, release.release_id, package.digest, release.digest, reference=package.reference
        )

    def _record(self, step: str, outcome: str, **fields: Any) -> Event:
        return self._tools.history.append(
            month=self._plan.month,
            attempt=self._id,
            actor=self._options.actor,
            step=step,
            outcome=outcome,
            model_id=self._plan.model_id,
            **fields,
        )

    def _succeeded(self) -> None:
        plan, target = self._plan, self._tools.target
        told = templates.deployed(
            month=month_key(plan.month),
            release=plan.model_id,
            target=f"{target.name} {target.environment}",
            attempt=self._id,
        )
        self._tools.alert(told)

    def _failed(self, result: StepResult) -> None:
        plan, tools = self._plan, self._tools
        month, reason = month_key(plan.month), f"{result.step}: {result.summary}"
        if result.step in TOUCHES_TRAFFIC and self._options.rollback_on_failure:
            self._take_back(reason)
        elif result.step in TOUCHES_TRAFFIC:
            self._record("rollback", "skipped", summary="rollback_on_failure is off")
        else:
            self._withdraw_challenger()
        tools.alert(
            templates.deployment_failed(
                month=month,
                release=plan.model_id,
                step=result.step,
                reason=result.summary,
                is_verdict=result.step in JUDGING,
            )
        )

    def _take_back(self, reason: str) -> None:
        take_back(
            self._tools,
            month=self._plan.month,
            attempt=self._id,
            model_id=self._plan.model_id,
            actor=self._options.actor,
            reason=reason,
        )

    def _withdraw_challenger(self) -> None:
        try:
            if self._tools.registry.holder(CHALLENGER) == self._plan.model_id:
                self._tools.registry.point(CHALLENGER, None)
        except DeploymentError as error:
            _log.error("challenger_alias_left", reason=error.what)
