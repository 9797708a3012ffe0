"""Where an Optuna study is kept, and which of its trials are finished or at work, in this process or another."""

from __future__ import annotations

import warnings
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    import optuna

HEARTBEAT_SECONDS = 5
"""Pause between two signs of life of a trial kept in a database."""

GRACE_SECONDS = 60
"""Silence after which a trial counts as dead, and its worker with it."""


def open_storage(address: str | None) -> optuna.storages.BaseStorage | None:
    """Storage of a study.

    Args:
        address: ``journal:<file>``, the URL of a database, or None for memory. Several workers need a database:
            there a trial gives signs of life, so that nobody waits for a dead one.
    """
    import optuna

    if address is None:
        return None
    if address.startswith("journal:"):
        from optuna.storages.journal import JournalFileBackend

        return optuna.storages.JournalStorage(JournalFileBackend(address.removeprefix("journal:")))
    with warnings.catch_warnings():
        # Signs of life are marked as experimental since Optuna 2.9.
        warnings.simplefilter("ignore", optuna.exceptions.ExperimentalWarning)
        return optuna.storages.RDBStorage(address, heartbeat_interval=HEARTBEAT_SECONDS, grace_period=GRACE_SECONDS)


def finished(study: optuna.Study) -> list[optuna.trial.FrozenTrial]:
    """Trials that came to an end, their own or an early one."""
    import optuna

    states = (optuna.trial.TrialState.COMPLETE, optuna.trial.TrialState.PRUNED)
    return study.get_trials(deepcopy=False, states=states)


def at_work(study: optuna.Study) -> list[optuna.trial.FrozenTrial]:
    """Trials that some process works on now; always none where trials give no signs of life (memory, journal)."""
    import optuna
    from optuna.storages._heartbeat import is_heartbeat_enabled

    if not is_heartbeat_enabled(study._storage):
        return []
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", optuna.exceptions.ExperimentalWarning)
        optuna.storages.fail_stale_trials(study)
    return study.get_trials(deepcopy=False, states=(optuna.trial.TrialState.RUNNING,))
