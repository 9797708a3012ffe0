"""Trains a family's candidates for a range of months."""

from __future__ import annotations

import datetime as dt
import json
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

from health_pipeline.clock import Clock
from health_pipeline.modeling.candidate import Candidate, Skipped, Subject, fit_candidate, read_subject
from health_pipeline.modeling.card import CARD_FILE, write_card
from health_pipeline.modeling.device import require_device
from health_pipeline.modeling.families import Family, family_named
from health_pipeline.modeling.parallel import Plan, in_order, one_blas_thread, plan_threads
from health_pipeline.modeling.profiles import effort_of
from health_pipeline.modeling.rows import arrow_rows, metrics_json, to_json
from health_pipeline.modeling.tables import model_table
from health_pipeline.modeling.tracking import Tracker
from health_pipeline.modeling.tuning import Tuned, carried, purpose_of, recipe_of, seed_of, tune, tuning_month
from health_pipeline.months import Month, MonthRange, month_key

if TYPE_CHECKING:
    import pyarrow as pa

    from health_pipeline.settings import Settings
    from health_pipeline.warehouse import Slice, Warehouse

Log = Callable[[str], None]


def train_months(
    family: str,
    warehouse: Warehouse,
    features: Slice,
    labels: Slice,
    previous: Slice,
    months: MonthRange,
    settings: Settings,
    clock: Clock,
    log: Log,
) -> pa.Table:
    """Train the candidate of each month of a range.

    Every month sees only its own windows, so the range gives the rows that single runs would give. Hyper-parameters
    of a month are those tuned in the latest tuning month; they are taken from an earlier row where there is one,
    and tuned again on that month's windows where there is not.

    Args:
        family: name of a model family.
        warehouse: where the slices live.
        features: ``gold.features``.
        labels: ``gold.labels``.
        previous: earlier rows of this family's table.
        months: model months.
        settings: windows, training, home.
        clock: gives ``trained_at``.
        log: takes progress lines.

    Returns:
        Rows of ``models.<family>``, one for each month; a month that cannot be trained has status ``skipped``.

    Raises:
        SettingsError: the device of the settings is not there.
    """
    _import_first()
    require_device(settings.training.device)
    rows = []
    with one_blas_thread():
        trainer = _Trainer(family_named(family), warehouse, features, labels, months, settings)
        parameters = trainer.parameters(_earlier_parameters(warehouse, previous, months), log)
        plan = plan_threads(len(months), settings.training.threads)
        for month, outcome in zip(months, in_order(trainer.candidate(parameters, plan), months, plan), strict=True):
            rows.append(trainer.record(month, outcome, parameters, clock))
            log(f"{family} {month:%Y-%m}: {rows[-1].get('model_id') or rows[-1]['reason']}")
    return arrow_rows(model_table(family), rows)


def _import_first() -> None:
    """Import what this thread and the workers use before they run side by side.

    scikit-learn asks ``sys.modules`` for data frame libraries and fails on one that another thread is still importing.
    """
    import mlflow  # noqa: F401
    import pandas as pd  # noqa: F401
    import sklearn.linear_model  # noqa: F401
    import xgboost  # noqa: F401


class _Trainer:
    """What all months of one call share."""

    def __init__(
        self,
        family: Family,
        warehouse: Warehouse,
        features: Slice,
        labels: Slice,
        months: MonthRange,
        settings: Settings,
    ) -> None:
        self.family, self.warehouse, self.features, self.labels = family, warehouse, features, labels
        self.months, self.settings = months, settings
        self.effort = effort_of(settings.training)
        self.tracker = Tracker(settings)
        self.recipe = recipe_of(settings, self.effort)

    def tuning_month_of(self, month: Month) -> Month:
        """Tuning month whose parameters a month uses."""
        training = self.settings.training
        return tuning_month(month, self.settings.first_model_month, training.tune_every_months)

    def parameters(self, earlier: list[Mapping[str, Any]], log: Log) -> dict[Month, Tuned]:
        """Parameters by tuning month, carried over or tuned here."""
        wanted = sorted({self.tuning_month_of(month) for month in self.months})
        found: dict[Month, Tuned] = {}
        for month in wanted:
            known = (carried(row, month, self.recipe) for row in earlier)
            if tuned := next((item for item in known if item is not None), None):
                found[month] = tuned
        missing = [month for month in wanted if month not in found]
        plan = plan_threads(len(missing), self.settings.training.threads)
        for month, tuned in zip(missing, in_order(lambda m: self._tune(m, plan), missing, plan), strict=True):
            found[month] = tuned
            log(f"{self.family.name} {month:%Y-%m}: tuned with {len(tuned.trials)} trials")
        return found

    def _tune(self, month: Month, plan: Plan) -> Tuned:
        """Tune on the windows of a tuning month; thin data keeps the defaults."""
        if self.effort.samples == 0:
            return Tuned(month, dict(self.family.defaults))
        subject = self._read(month)
        if isinstance(subject, Skipped) or not subject.can_be_tuned_on:
            return Tuned(month, dict(self.family.defaults))
        training = self.settings.training
        prepared = subject.prepare_for_tuning(self.family, self.effort, plan.threads)
        seed = seed_of(training.seed, self.family.name, month_key(month), "tuning")
        purpose = purpose_of(subject.snapshot, subject.feature_schema_hash, self.recipe)
        return tune(self.family, prepared, self.effort, seed, month, training.study_storage, purpose=purpose)

    def _read(self, month: Month) -> Subject | Skipped:
        return read_subject(self.warehouse, self.features, self.labels, month, self.settings)

    def candidate(self, parameters: Mapping[Month, Tuned], plan: Plan) -> Callable[[Month], Candidate | Skipped]:
        """The work on one month, to run in a worker."""

        def work(month: Month) -> Candidate | Skipped:
            subject = self._read(month)
            if isinstance(subject, Skipped):
                return subject
            tuned = parameters[self.tuning_month_of(month)]
            return fit_candidate(self.family, subject, tuned, self.settings, self.effort, plan.threads)

        return work

    def record(
        self, month: Month, outcome: Candidate | Skipped, parameters: Mapping[Month, Tuned], clock: Clock
    ) -> dict[str, Any]:
        """Store the bundle and describe the month as a row."""
        common = {"month": month, "family": self.family.name, "profile": self.effort.profile}
        if isinstance(outcome, Skipped):
            return {**common, "status": "skipped", "reason": outcome.reason, **_window_columns(outcome.windows)}
        tuned = parameters[self.tuning_month_of(month)]
        bundle, subject = outcome.bundle, outcome.subject
        path = Path("models") / self.family.name / bundle.model_id
        folder = self.settings.home / path
        digest = bundle.save(folder)
        (folder / CARD_FILE).write_text(write_card(outcome, self.settings), encoding="utf-8")
        tracked = self.tracker.log(outcome, tuned, folder, digest)
        return {
            **common,
            **_window_columns(subject.windows),
            "model_id": bundle.model_id,
            "status": "trained",
            "mlflow_run_id": tracked.run_id,
            "mlflow_version": tracked.version,
            "parameters": to_json(
                {
                    "hyperparameters": dict(tuned.parameters),
                    "tuning": {"month": f"{tuned.month:%Y-%m}", "loss": tuned.loss, "recipe": self.recipe},
                    "fit": bundle.metadata["fit"],
                }
            ),
            "metrics": metrics_json(outcome.metrics),
            "threshold": bundle.threshold,
            "training_rows": subject.training.size,
            "validation_rows": subject.validation.size,
            "holdout_rows": subject.holdout.size,
            "data_snapshot": subject.snapshot,
            "feature_schema_hash": bundle.metadata["feature_schema_hash"],
            "code_version": bundle.metadata["code_version"],
            "artefact_path": path.as_posix(),
            "artefact_hash": digest,
            "trained_at": clock().astimezone(dt.UTC).replace(tzinfo=None),
        }


def _window_columns(windows: Any) -> dict[str, Month]:
    if windows is None:
        return {}
    return {
        f"{name}_{end}": getattr(getattr(windows, name), end)
        for name in ("training", "validation", "holdout")
        for end in ("first", "last")
    }


def _earlier_parameters(warehouse: Warehouse, previous: Slice, months: MonthRange) -> list[Mapping[str, Any]]:
    """Parameters of the trained rows before the range, earliest first; rows inside it are about to be replaced.

    The tuning month itself goes before those that carry its parameters: they may still carry what it had found before
    it was trained again, and a month would not get the parameters that a run of the whole range gives it.
    """
    warehouse.ensure(previous.table)
    with warehouse.read(f"earlier parameters of {previous.table.qualified}") as connection:
        rows = connection.execute(
            f"SELECT parameters FROM {previous} WHERE status = 'trained' AND month < ? ORDER BY month",
            [months.first],
        ).fetchall()
    return [json.loads(parameters) for (parameters,) in rows]
