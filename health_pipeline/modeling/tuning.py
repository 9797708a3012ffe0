"""Looks for parameters with Optuna: TPE proposes, successive halving ends hopeless trials early.

Trials are judged by log loss on the validation rows. Patients of the validation rows are left out of
the training rows of a trial, so that no patient is on both sides; the holdout is never here.
"""

from __future__ import annotations

import datetime as dt
import hashlib
import json
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from health_pipeline.modeling.families.base import Family, Prepared
from health_pipeline.modeling.profiles import Effort
from health_pipeline.modeling.study import open_storage, progress_of
from health_pipeline.months import Month, months_between, shift

if TYPE_CHECKING:
    import optuna

    from health_pipeline.settings import Settings

_REDUCTION = 3
_STARTUP_SHARE = 3
_POLL_SECONDS = 0.2


@dataclass(frozen=True, slots=True)
class Trial:
    """One parameter set that was tried: its loss, or None when it was pruned or failed."""

    number: int
    parameters: Mapping[str, Any]
    loss: float | None
    state: str


@dataclass(frozen=True, slots=True)
class Tuned:
    """Parameters for a tuning month and the months that follow it.

    Attributes:
        month: tuning month.
        parameters: best parameters found, or the defaults.
        loss: their validation loss; None for defaults that were never compared.
        trials: everything that was tried.
    """

    month: Month
    parameters: Mapping[str, Any]
    loss: float | None = None
    trials: tuple[Trial, ...] = ()


def tuning_month(month: Month, first_model_month: Month, every: int) -> Month:
    """Latest tuning month not after ``month``; a month before the first model month is its own."""
    steps = months_between(first_model_month, month)
    return month if steps < 0 else shift(first_model_month, steps - steps % every)


def recipe_of(settings: Settings, effort: Effort) -> dict[str, Any]:
    """What tuned parameters depend on besides the rows: parameters of another recipe are not carried over."""
    return {
        "profile": effort.profile,
        "samples": effort.samples,
        "max_rounds": effort.max_rounds,
        "grace_rounds": effort.grace_rounds,
        "seed": settings.training.seed,
        "windows": settings.windows.model_dump(),
    }


def purpose_of(snapshot: str, feature_schema_hash: str, recipe: Mapping[str, Any]) -> str:
    """Digest of what a study is about: the rows, the features that a model may see, and the recipe."""
    content = json.dumps([snapshot, feature_schema_hash, recipe], sort_keys=True)
    return hashlib.blake2b(content.encode(), digest_size=8).hexdigest()


def seed_of(seed: int, *parts: str) -> int:
    """A seed of its own for each purpose, the same in every process."""
    digest = hashlib.blake2b(":".join([str(seed), *parts]).encode(), digest_size=4)
    return int.from_bytes(digest.digest()) >> 1


def tune(
    family: Family,
    prepared: Prepared,
    effort: Effort,
    seed: int,
    month: Month,
    storage: str | None = None,
    *,
    purpose: str = "",
) -> Tuned:
    """Try the defaults and then what the sampler proposes.

    Each trial draws from a sampler seeded by the number of trials before it, so a study that was interrupted and
    resumed from its storage proposes the same parameters as one that ran through. Several processes may work on one
    study in a database: they share its trials, wait for each other's last ones and come to the same parameters. The
    order in which they finish then decides what is proposed next.

    Args:
        family: model family.
        prepared: its data.
        effort: number of trials and rounds.
        seed: of proposals and fits.
        month: tuning month.
        storage: Optuna storage; None keeps the study in memory.
        purpose: digest of the rows and the recipe. A kept study goes on only where it is the same: losses on other
            rows say nothing about these.
    """
    import optuna

    if effort.samples == 0:
        return Tuned(month, dict(family.defaults))
    optuna.logging.set_verbosity(optuna.logging.WARNING)
    study = optuna.create_study(
        study_name="-".join(filter(None, (family.name, f"{month:%Y-%m}", str(seed), purpose))),
        direction="minimize",
        storage=open_storage(storage),
        load_if_exists=True,
        pruner=optuna.pruners.SuccessiveHalvingPruner(
            min_resource=effort.grace_rounds, reduction_factor=_REDUCTION, bootstrap_count=0
        ),
    )
    while True:
        progress = progress_of(study)
        taken = len(progress.finished) + len(progress.at_work)
        if taken < effort.samples:
            if not taken and not progress.waiting:
                study.enqueue_trial(dict(family.defaults))
            study.optimize(_objective(study, family, prepared, effort, seed), n_trials=1)
        elif progress.at_work:
            time.sleep(_POLL_SECONDS)
        else:
            break
    best = study.best_trial
    trials = tuple(
        Trial(trial.number, dict(trial.user_attrs["parameters"]), trial.value, trial.state.name.lower())
        for trial in progress.finished
    )
    return Tuned(month, dict(best.user_attrs["parameters"]), best.value, trials)


def _objective(
    study: optuna.Study, family: Family, prepared: Prepared, effort: Effort, seed: int
) -> Callable[[optuna.Trial], float]:
    """Fit one proposal and give its loss."""
    import optuna

    def objective(trial: optuna.Trial) -> float:
        progress = progress_of(study)
        others = any(other.number != trial.number for other in progress.at_work)
        # Two workers with the same seed and the same finished trials would propose the same.
        purpose = [str(len(progress.finished)), *([f"trial {trial.number}"] if others else [])]
        study.sampler = optuna.samplers.TPESampler(
            seed=seed_of(seed, *purpose), n_startup_trials=max(3, effort.samples // _STARTUP_SHARE)
        )
        parameters = family.suggest(trial)
        trial.set_user_attr("parameters", parameters)

        def observe(rounds: int, loss: float) -> None:
            trial.report(loss, rounds)
            if trial.should_prune():
                raise optuna.TrialPruned

        return prepared.fit(parameters, seed, observe).loss

    return objective


def carried(parameters: Mapping[str, Any], month: Month, recipe: Mapping[str, Any]) -> Tuned | None:
    """Parameters that an earlier row carries for a tuning month, if they were tuned by the same recipe."""
    tuning = parameters.get("tuning", {})
    if tuning.get("month") != f"{month:%Y-%m}" or tuning.get("recipe") != recipe:
        return None
    return Tuned(dt.date(month.year, month.month, 1), parameters["hyperparameters"], tuning.get("loss"))
