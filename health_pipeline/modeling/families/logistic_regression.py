"""Model 1: L2-penalised logistic regression, folded into plain weights."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
from numpy.typing import NDArray

from health_pipeline.modeling.bundle import Member
from health_pipeline.modeling.encoding import Encoding, Feature, encode
from health_pipeline.modeling.families.base import Fit, Observer, Parameters, Sample, log_loss_of
from health_pipeline.modeling.parallel import one_blas_thread
from health_pipeline.modeling.predictors import Linear
from health_pipeline.modeling.preprocessing import Style, fit_encodings
from health_pipeline.modeling.profiles import Effort


@dataclass(frozen=True)
class LogisticRegression:
    """Numbers capped, logged and imputed with hinges at quantiles; categories one-hot with rare ones pooled.

    Numbers are brought to unit variance while 0/1 columns keep their scale, so that the penalty shrinks rare
    categories most. The scaling is folded into the stored coefficients.
    """

    name: str = "logistic_regression"
    short: str = "lr"
    role: str = "model_1"
    defaults: Mapping[str, Any] = field(default_factory=lambda: {"strength": 200.0, "knots": 3, "fewest_rows": 50})

    def suggest(self, trial: Any) -> dict[str, Any]:
        """Draw parameters from an Optuna trial."""
        return {
            "strength": trial.suggest_float("strength", 1.0, 2000.0, log=True),
            "knots": trial.suggest_categorical("knots", [0, 3, 5]),
            "fewest_rows": trial.suggest_categorical("fewest_rows", [25, 50, 100, 200]),
        }

    def prepare(
        self, training: Sample, validation: Sample, features: Sequence[Feature], effort: Effort, threads: int
    ) -> PreparedLogisticRegression:
        """Put the data in place."""
        del effort, threads
        return PreparedLogisticRegression(training, validation, tuple(features))


@dataclass
class PreparedLogisticRegression:
    """Training and validation rows of a logistic regression.

    Only the matrices encoded last are kept: those of every proposal of a study would be ten times the rows themselves.
    """

    training: Sample
    validation: Sample
    features: tuple[Feature, ...]
    _style: Style | None = None
    _matrices: tuple[tuple[Encoding, ...], NDArray[Any], NDArray[Any]] | None = None

    def _encoded(self, style: Style) -> tuple[tuple[Encoding, ...], NDArray[Any], NDArray[Any]]:
        if self._matrices is None or style != self._style:
            self._matrices = None  # before the next ones are made
            encodings = fit_encodings(self.training.inputs, self.features, style)
            self._style = style
            self._matrices = (
                encodings,
                encode(self.training.inputs, self.features, encodings, np.float32),
                encode(self.validation.inputs, self.features, encodings, np.float64),
            )
        return self._matrices

    def fit(self, parameters: Parameters, seed: int, observer: Observer | None = None) -> Fit:
        """Fit on the training rows; ``strength`` is the L2 penalty on weights of unit-variance columns."""
        del seed, observer
        from sklearn.linear_model import LogisticRegression as Solver

        style = Style(for_trees=False, knots=parameters["knots"], fewest_rows=parameters["fewest_rows"])
        encodings, matrix, validation = self._encoded(style)
        center = matrix.mean(axis=0, dtype=np.float64)
        scale = np.where(_is_number(encodings), matrix.std(axis=0, dtype=np.float64), 1.0)
        scale[scale == 0] = 1.0
        scaled = matrix - center.astype(np.float32)
        scaled /= scale.astype(np.float32)
        solver = Solver(C=1 / parameters["strength"], max_iter=500, tol=1e-5)
        with one_blas_thread():
            solver.fit(scaled, self.training.y)
        coefficients = solver.coef_[0].astype(np.float64) / scale
        intercept = float(solver.intercept_[0] - coefficients @ center)
        predictor = Linear(intercept, tuple(float(value) for value in coefficients))
        margins = predictor.margins(validation)
        loss = log_loss_of(margins, self.validation.y)
        facts = {"columns": matrix.shape[1], "iterations": int(solver.n_iter_[0])}
        return Fit((Member(encodings, predictor),), margins, loss, facts)


def _is_number(encodings: Sequence[Encoding]) -> NDArray[np.bool_]:
    flags: list[bool] = []
    for encoding in encodings:
        numbers = len(encoding.columns) - encoding.missing_column if encoding.kind == "numeric" else 0
        flags += [True] * numbers + [False] * (len(encoding.columns) - numbers)
    return np.array(flags)
