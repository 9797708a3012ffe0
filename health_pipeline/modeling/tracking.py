"""Candidates in MLflow: one run a model month, tuning trials below it, a registry version for each model.

What is logged as model is the bundle with an ``MLmodel`` file beside it: no pickle, and ``mlflow.pyfunc.load_model``
scores through the bundle (:mod:`health_pipeline.modeling.mlflow_flavor`). Only client calls with an explicit store are
used, so that nothing depends on a global tracking address.
"""

from __future__ import annotations

import datetime as dt
import math
import tempfile
from collections.abc import Iterable
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any

from health_pipeline.errors import ModelError
from health_pipeline.modeling.bundle import Bundle
from health_pipeline.modeling.candidate import Candidate
from health_pipeline.modeling.tuning import Trial, Tuned
from health_pipeline.months import Month

if TYPE_CHECKING:
    from mlflow import MlflowClient

    from health_pipeline.settings import Settings

MODEL_FOLDER = "model"
CHALLENGER = "challenger"
_CURVE_POINTS = 100
_DIGEST_LENGTH = 36
_BATCH = 900


@dataclass(frozen=True, slots=True)
class Tracked:
    """Where a model stands in MLflow."""

    run_id: str
    version: str


@dataclass
class Tracker:
    """Writes candidates to the tracking store and registry of the settings."""

    settings: Settings
    _logged_tuning: set[str] = field(default_factory=set)

    @cached_property
    def client(self) -> MlflowClient:
        """Client of the store.

        Raises:
            ModelError: the store cannot be reached.
        """
        from mlflow import MlflowClient
        from mlflow.exceptions import MlflowException

        uri = self.settings.mlflow_uri
        try:
            if uri.startswith("sqlite:///"):
                Path(uri.removeprefix("sqlite:///")).parent.mkdir(parents=True, exist_ok=True)
            client = MlflowClient(uri, registry_uri=uri)
            client.search_experiments(max_results=1)
        except (MlflowException, OSError) as error:
            raise ModelError(
                f"the model store cannot be used ({type(error).__name__})",
                where="HEALTH_PIPELINE_MLFLOW__TRACKING_URI",
                remedy="start the server or mend the address; the month can be trained again",
            ) from error
        return client

    @property
    def name(self) -> str:
        """Experiment and registered model."""
        return self.settings.mlflow.experiment

    @cached_property
    def experiment_id(self) -> str:
        """Experiment, created at first use; its files lie in the home unless a server keeps them."""
        from mlflow.exceptions import MlflowException

        self._ensure_registered_model()
        if found := self.client.get_experiment_by_name(self.name):
            return str(found.experiment_id)
        local = self.settings.mlflow.tracking_uri is None
        location = (self.settings.home / "mlartifacts").resolve().as_uri() if local else None
        try:
            return str(self.client.create_experiment(self.name, artifact_location=location))
        except MlflowException:
            if found := self.client.get_experiment_by_name(self.name):  # another process was first
                return str(found.experiment_id)
            raise

    def _ensure_registered_model(self) -> None:
        from mlflow.exceptions import MlflowException

        try:
            self.client.create_registered_model(
                self.name, description="30-day readmission; aliases: champion, challenger, previous"
            )
        except MlflowException as error:
            if error.error_code != "RESOURCE_ALREADY_EXISTS":
                raise

    def log(self, candidate: Candidate, tuned: Tuned, folder: Path, digest: str) -> Tracked:
        """Log a candidate with its parameters, metrics, inputs, files and trials, and register it.

        Args:
            candidate: the model with its measures.
            tuned: where its parameters come from.
            folder: its bundle, with any files to be kept beside it.
            digest: digest of the bundle.
        """
        bundle, subject = candidate.bundle, candidate.subject
        run = self.client.create_run(
            self.experiment_id,
            run_name=bundle.model_id,
            tags={
                "model_id": bundle.model_id,
                "family": bundle.family,
                "month": f"{subject.month:%Y-%m}",
                "profile": str(bundle.metadata["profile"]),
                "artefact_hash": digest,
                "data_snapshot": subject.snapshot,
                "feature_schema_hash": subject.feature_schema_hash,
            },
        )
        run_id = str(run.info.run_id)
        self._log_numbers(run_id, candidate)
        self._log_inputs(run_id, candidate)
        self._log_files(run_id, bundle, folder)
        self._log_trials(run_id, bundle.family, tuned)
        self.client.set_terminated(run_id)
        return Tracked(run_id, self._register(run_id, bundle, digest))

    def _log_numbers(self, run_id: str, candidate: Candidate) -> None:
        from mlflow.entities import Metric, Param

        bundle, subject = candidate.bundle, candidate.subject
        parameters: dict[str, Any] = {
            **bundle.metadata["parameters"],
            "training": str(subject.windows.training),
            "validation": str(subject.windows.validation),
            "holdout": str(subject.windows.holdout),
            "seed": bundle.metadata["seed"],
            "calibration": bundle.calibration.method,
        }
        numbers = {
            "threshold": bundle.threshold,
            "training_rows": float(subject.training.size),
            "validation_rows": float(subject.validation.size),
            "holdout_rows": float(subject.holdout.size),
        }
        for name, estimate in candidate.metrics.items():
            numbers[name] = estimate.value
            numbers[f"{name}_ci_low"] = estimate.ci_low
            numbers[f"{name}_ci_high"] = estimate.ci_high
        moment = _milliseconds(subject.month)
        metrics = [Metric(name, value, moment, 0) for name, value in numbers.items() if math.isfinite(value)]
        stride = max(1, len(candidate.loss_curve) // _CURVE_POINTS)
        metrics += [
            Metric("validation_log_loss", loss, moment, step)
            for step, loss in enumerate(candidate.loss_curve)
            if step % stride == 0
        ]
        self.client.log_batch(run_id, metrics[:_BATCH], [Param(key, str(value)) for key, value in parameters.items()])

    def _log_inputs(self, run_id: str, candidate: Candidate) -> None:
        """Lineage: what the run read, by window, with the digest of the rows."""
        from mlflow.entities import Dataset, DatasetInput, InputTag

        subject = candidate.subject
        windows = {"training": subject.training, "validation": subject.validation, "holdout": subject.holdout}
        inputs = [
            DatasetInput(
                Dataset(
                    name=f"gold.features+labels {getattr(subject.windows, context)}",
                    digest=subject.snapshot[:_DIGEST_LENGTH],
                    source_type="duckdb",
                    source='{"tables": ["gold.features", "gold.labels"]}',
                    profile=f'{{"num_rows": {rows.size}}}',
                ),
                [InputTag("mlflow.data.context", context)],
            )
            for context, rows in windows.items()
        ]
        self.client.log_inputs(run_id, inputs)

    def _log_files(self, run_id: str, bundle: Bundle, folder: Path) -> None:
        from health_pipeline.modeling.mlflow_flavor import write_model

        with tempfile.TemporaryDirectory() as scratch:
            model = Path(scratch) / MODEL_FOLDER
            write_model(bundle, model, run_id)
            self.client.log_artifacts(run_id, str(model), MODEL_FOLDER)
        for extra in sorted(folder.glob("*.html")):
            self.client.log_artifact(run_id, str(extra))

    def _log_trials(self, parent: str, family: str, tuned: Tuned) -> None:
        """Every trial as a nested run, below the first model that uses the parameters; the best is marked."""
        key = f"{family}:{tuned.month}"
        if not tuned.trials or key in self._logged_tuning:
            return
        self._logged_tuning.add(key)
        best = min((trial for trial in tuned.trials if trial.state == "complete"), key=_loss, default=None)
        for trial in tuned.trials:
            self._log_trial(parent, family, tuned, trial, is_best=trial is best)

    def _log_trial(self, parent: str, family: str, tuned: Tuned, trial: Trial, *, is_best: bool) -> None:
        from mlflow.entities import Metric, Param

        run = self.client.create_run(
            self.experiment_id,
            run_name=f"{family} {tuned.month:%Y-%m} trial {trial.number}",
            tags={
                "mlflow.parentRunId": parent,
                "state": trial.state,
                "best": str(is_best).lower(),
                "tuning_month": f"{tuned.month:%Y-%m}",
            },
        )
        parameters = [Param(name, str(value)) for name, value in trial.parameters.items()]
        metrics = [] if trial.loss is None else [Metric("log_loss", trial.loss, _milliseconds(tuned.month), 0)]
        self.client.log_batch(run.info.run_id, metrics, parameters)
        self.client.set_terminated(run.info.run_id)

    def _register(self, run_id: str, bundle: Bundle, digest: str) -> str:
        """Version of the model; one that was trained before keeps its version, unless its files were lost."""
        known = self.find_versions(bundle.model_id)[:1]
        if known and not missing_files(self, known):
            return known[0]
        version = self.client.create_model_version(
            self.name,
            source=f"runs:/{run_id}/{MODEL_FOLDER}",
            run_id=run_id,
            tags={
                "model_id": bundle.model_id,
                "family": bundle.family,
                "month": str(bundle.metadata["month"]),
                "profile": str(bundle.metadata["profile"]),
                "artefact_hash": digest,
            },
        )
        return str(version.version)

    def find_versions(self, model_id: str) -> list[str]:
        """Registry versions of a model id, newest first."""
        found = self.client.search_model_versions(f"name = '{self.name}' and tags.model_id = '{model_id}'")
        return [str(version.version) for version in sorted(found, key=lambda item: -int(item.version))]

    def set_alias(self, alias: str, model_id: str) -> str:
        """Point an alias at a model.

        Returns:
            The version it points at.

        Raises:
            ModelError: the registry has no such model.
        """
        versions = self.find_versions(model_id)
        if not versions:
            raise ModelError(
                f"the registry has no version of model {model_id}",
                where=f"registered model {self.name}",
                remedy="train the month again, so that the model is registered",
            )
        self.client.set_registered_model_alias(self.name, alias, versions[0])
        return versions[0]


def missing_files(tracker: Tracker, versions: Iterable[str]) -> list[str]:
    """Registry versions whose ``MLmodel`` file cannot be found any more."""
    return [version for version in versions if f"{MODEL_FOLDER}/MLmodel" not in _model_files(tracker, version)]


def _model_files(tracker: Tracker, version: str) -> set[str]:
    from mlflow.exceptions import MlflowException

    run_id = tracker.client.get_model_version(tracker.name, version).run_id
    if not run_id:  # a deployment registered it, which needs the bundle only
        return set()
    try:
        return {item.path for item in tracker.client.list_artifacts(run_id, MODEL_FOLDER)}
    except MlflowException as error:
        if error.error_code != "RESOURCE_DOES_NOT_EXIST":  # ``mlflow gc`` took the run away
            raise
        return set()


def _loss(trial: Trial) -> float:
    return math.inf if trial.loss is None else trial.loss


def _milliseconds(month: Month) -> int:
    """The model month as MLflow time, so that charts over months have a sensible axis."""
    return int(dt.datetime(month.year, month.month, 1, tzinfo=dt.UTC).timestamp() * 1000)


__all__ = ["CHALLENGER", "MODEL_FOLDER", "Tracked", "Tracker", "missing_files"]
