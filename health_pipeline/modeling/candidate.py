"""One candidate: read its windows, fit, calibrate, choose the threshold, judge on the holdout."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from health_pipeline import __version__
from health_pipeline.features import schema_hash
from health_pipeline.modeling.bundle import Bundle
from health_pipeline.modeling.calibration import best_f1_threshold, fit_calibration
from health_pipeline.modeling.dataset import Dataset, read_dataset, snapshot_hash
from health_pipeline.modeling.encoding import Kind, read_inputs
from health_pipeline.modeling.families import Family, Sample
from health_pipeline.modeling.families.base import Prepared
from health_pipeline.modeling.metrics import Estimate, measure_with_intervals
from health_pipeline.modeling.preprocessing import feature_kinds, learn_features
from health_pipeline.modeling.profiles import Effort
from health_pipeline.modeling.tuning import Tuned, seed_of
from health_pipeline.modeling.windows import Windows, windows_of
from health_pipeline.months import Month, month_key

if TYPE_CHECKING:
    from health_pipeline.settings import Settings
    from health_pipeline.warehouse import Slice, Warehouse

MIN_VALIDATION_EVENTS = 10
"""Fewest readmissions from which calibration and threshold can be found, or on which a trial can be fitted."""


@dataclass(frozen=True, slots=True)
class Skipped:
    """A month that cannot be trained, and why; the reason holds no small number."""

    reason: str
    windows: Windows | None = None


@dataclass(frozen=True)
class Subject:
    """Everything a month's model may be fitted and judged on.

    Attributes:
        month: model month.
        windows: its windows.
        training: rows to fit on.
        validation: rows for early stopping, calibration and threshold.
        holdout: rows to judge on; never fitted on.
        kinds: features a model may see, with their kinds.
        feature_schema_hash: digest of the feature catalogue.
        snapshot: digest of all three.
        smallest: count that is published.
    """

    month: Month
    windows: Windows
    training: Dataset
    validation: Dataset
    holdout: Dataset
    kinds: Mapping[str, Kind]
    feature_schema_hash: str
    snapshot: str
    smallest: int

    @property
    def of_others(self) -> NDArray[np.bool_]:
        """Training rows of patients who are not in the validation rows: what a trial is fitted on."""
        return ~np.isin(self.training.patients, self.validation.patients)

    @property
    def can_be_tuned_on(self) -> bool:
        """Whether enough is left for trials: where patients come every month, hardly anybody is."""
        outcome = self.training.y[self.of_others]
        return bool(min(outcome.sum(), (1 - outcome).sum()) >= MIN_VALIDATION_EVENTS)

    def prepare_for_tuning(self, family: Family, effort: Effort, threads: int) -> Prepared:
        """Data of a trial: training rows of patients who are not in the validation rows, and the validation rows."""
        apart = self.training.where(self.of_others)
        features = learn_features(apart.rows, self.kinds, self.smallest)
        training = Sample(read_inputs(apart.rows, features), apart.y)
        validation = Sample(read_inputs(self.validation.rows, features), self.validation.y)
        return family.prepare(training, validation, features, effort, threads)


@dataclass(frozen=True)
class Candidate:
    """A fitted model with its measures on the holdout."""

    subject: Subject
    bundle: Bundle
    metrics: Mapping[str, Estimate]
    loss_curve: Sequence[float] = ()


def read_subject(
    warehouse: Warehouse, features: Slice, labels: Slice, month: Month, settings: Settings
) -> Subject | Skipped:
    """Rows of a month's windows, or why there is no model of that month."""
    windows = windows_of(month, settings.windows, settings.start_month)
    if windows is None:
        return Skipped(f"fewer than {settings.windows.min_training_months} months of training history")
    rows = read_dataset(warehouse, features, labels, windows.span, f"training rows of {month:%Y-%m}")
    training, validation, holdout = (
        rows.only(window) for window in (windows.training, windows.validation, windows.holdout)
    )
    limits = settings.training
    reasons = (
        (training.size < limits.min_rows, f"fewer than {limits.min_rows} training rows"),
        (training.events < limits.min_events, f"fewer than {limits.min_events} readmissions in training"),
        (training.events == training.size, "every training row is a readmission"),
        (
            validation.events < MIN_VALIDATION_EVENTS or validation.events == validation.size,
            f"fewer than {MIN_VALIDATION_EVENTS} readmissions, or nothing else, in validation",
        ),
        (not 0 < holdout.events < holdout.size, "the holdout lacks one of the two outcomes"),
    )
    for applies, reason in reasons:
        if applies:
            return Skipped(reason, windows)
    return Subject(
        month=month,
        windows=windows,
        training=training,
        validation=validation,
        holdout=holdout,
        kinds=feature_kinds(features.table, settings),
        feature_schema_hash=schema_hash(settings),
        snapshot=snapshot_hash(rows),
        smallest=settings.privacy.small_number,
    )


def fit_candidate(
    family: Family, subject: Subject, tuned: Tuned, settings: Settings, effort: Effort, threads: int
) -> Candidate:
    """Fit on training, stop, calibrate and choose the threshold on validation, judge on the holdout."""
    seed = seed_of(settings.training.seed, family.name, month_key(subject.month))
    features = learn_features(subject.training.rows, subject.kinds, subject.smallest)
    training = Sample(read_inputs(subject.training.rows, features), subject.training.y)
    validation = Sample(read_inputs(subject.validation.rows, features), subject.validation.y)
    fit = family.prepare(training, validation, features, effort, threads).fit(tuned.parameters, seed)
    calibration = fit_calibration(fit.margins, validation.y)
    threshold = best_f1_threshold(calibration.probabilities(fit.margins), validation.y)
    bundle = Bundle(
        family=family.name,
        features=features,
        members=fit.members,
        calibration=calibration,
        threshold=threshold,
        metadata=_metadata(subject, tuned, effort, seed, fit.facts),
    ).named(family.short, month_key(subject.month))
    metrics = judge(bundle, subject.holdout, effort.replicates, seed_of(settings.training.seed, "intervals"))
    return Candidate(subject, bundle, metrics, fit.loss_curve)


def judge(bundle: Bundle, rows: Dataset, replicates: int, seed: int) -> dict[str, Estimate]:
    """Measures of a bundle on labelled rows, scored through the very bundle that is stored."""
    return measure_with_intervals(
        rows.y,
        bundle.probabilities(rows.rows),
        threshold=bundle.threshold,
        clusters=rows.patients,
        replicates=replicates,
        seed=seed,
    )


def _metadata(subject: Subject, tuned: Tuned, effort: Effort, seed: int, facts: Mapping[str, Any]) -> dict[str, Any]:
    """Origin of the bundle. Nothing of the holdout stands here: it must not change a byte of the model."""
    windows = subject.windows
    return {
        "month": f"{subject.month:%Y-%m}",
        "training": str(windows.training),
        "validation": str(windows.validation),
        "training_rows": subject.training.size,
        "training_rate": round(float(subject.training.y.mean()), 6),
        "validation_rows": subject.validation.size,
        "profile": effort.profile,
        "seed": seed,
        "parameters": dict(tuned.parameters),
        "fit": dict(facts),
        "feature_schema_hash": subject.feature_schema_hash,
        "code_version": __version__,
    }
