"""Where an Optuna study is kept, and which of its trials are finished or at work, in this process or another."""

from __future__ import annotations

import time
import warnings
from dataclasses import dataclass
from typing import TYPE_CHECKING

from health_pipeline.errors import ModelError

if TYPE_CHECKING:
    import optuna

HEARTBEAT_SECONDS = 5
"""Pause between two signs of life of a trial kept in a database."""

GRACE_SECONDS = 60
"""Silence after which a trial counts as dead, and its worker with it."""

_ATTEMPTS = 5
_PAUSE_SECONDS = 0.2


def open_storage(address: str | None) -> optuna.storages.BaseStorage | None:
    """Storage of a study.

    Args:
        address: ``journal:<file>``, the URL of a database, or None for memory. Several workers need a database:
            there a trial gives signs of life, so that nobody waits for a dead one.

    Raises:
        ModelError: the database cannot be used.
    """
    import optuna

    if address is None:
        return None
    if address.startswith("journal:"):
        from optuna.storages.journal import JournalFileBackend

        return optuna.storages.JournalStorage(JournalFileBackend(address.removeprefix("journal:")))
    return _database(address)


def _database(address: str) -> optuna.storages.BaseStorage:
    """Storage in a database. Workers that all find it empty make its tables at once: all but one must look again."""
    import optuna
    from sqlalchemy.exc import SQLAlchemyError

    attempt = 0
    while True:
        attempt += 1
        try:
            with warnings.catch_warnings():
                # Signs of life are marked as experimental since Optuna 2.9.
                warnings.simplefilter("ignore", optuna.exceptions.ExperimentalWarning)
                return optuna.storages.RDBStorage(
                    address, heartbeat_interval=HEARTBEAT_SECONDS, grace_period=GRACE_SECONDS
                )
        except (SQLAlchemyError, optuna.exceptions.StorageInternalError, ImportError) as error:
            if attempt == _ATTEMPTS:
                raise ModelError(
                    f"the study storage cannot be used ({type(error).__name__})",
                    where="HEALTH_PIPELINE_TRAINING__STUDY_STORAGE",
                    remedy="start the database, mend the address, or install the extra `postgres`",
                ) from error
        time.sleep(_PAUSE_SECONDS * attempt)


@dataclass(frozen=True)
class Progress:
    """Trials of a study at one moment.

    Attributes:
        finished: those that came to an end, their own or an early one.
        at_work: those that some process works on now; none where trials give no signs of life (memory, journal).
        waiting: those that are given and not begun.
    """

    finished: list[optuna.trial.FrozenTrial]
    at_work: list[optuna.trial.FrozenTrial]
    waiting: list[optuna.trial.FrozenTrial]


def progress_of(study: optuna.Study) -> Progress:
    """How far a study is. Read at once: a trial that ends meanwhile must not be missed by both counts."""
    import optuna
    from optuna.storages._heartbeat import is_heartbeat_enabled
    from optuna.trial import TrialState

    lively = is_heartbeat_enabled(study._storage)
    if lively:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", optuna.exceptions.ExperimentalWarning)
            optuna.storages.fail_stale_trials(study)
    trials = study.get_trials(deepcopy=False)
    return Progress(
        finished=[trial for trial in trials if trial.state in (TrialState.COMPLETE, TrialState.PRUNED)],
        at_work=[trial for trial in trials if lively and trial.state == TrialState.RUNNING],
        waiting=[trial for trial in trials if trial.state == TrialState.WAITING],
    )
