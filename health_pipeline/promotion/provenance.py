"""Scores through the very artefact that will be served, after asserting that it is the one that was recorded."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from health_pipeline.errors import ModelError
from health_pipeline.promotion.candidates import Model

if TYPE_CHECKING:
    import pyarrow as pa

Scorer = Callable[[Model, "pa.Table"], NDArray[np.float64]]
"""Probabilities of a model for the feature rows, shape (rows,)."""


def artefact_scorer(home: Path) -> Scorer:
    """Scores with the bundles under ``home``; the digest of the files must be the recorded one."""

    def score(model: Model, rows: pa.Table) -> NDArray[np.float64]:
        from health_pipeline.modeling.bundle import load_bundle

        bundle = load_bundle(home / model.artefact_path)
        _refuse_other("artefact hash", bundle.digest, model.artefact_hash, model, "restore the folder or train again")
        return np.asarray(bundle.probabilities(rows), dtype=np.float64)

    return score


def refuse_other_schema(incumbent: Model, challenger: Model) -> None:
    """Both models must have been fitted on the feature schema of the rows they are judged on.

    Raises:
        ModelError: they were not; says what is stored, what was expected and what to do.
    """
    _refuse_other(
        "feature schema hash",
        incumbent.feature_schema_hash,
        challenger.feature_schema_hash,
        incumbent,
        "features changed: materialise models.champion and its candidates again from the first model month",
    )


def _refuse_other(what: str, stored: str, expected: str, model: Model, remedy: str) -> None:
    if stored != expected:
        raise ModelError(
            f"{what} of {model.model_id} differs: stored {stored}, expected {expected}",
            where=model.artefact_path,
            remedy=remedy,
        )
