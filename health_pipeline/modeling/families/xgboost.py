"""Model 2: gradient-boosted trees, slow and shallow, stopped early on the validation rows."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

import numpy as np

from health_pipeline.modeling.bundle import Member
from health_pipeline.modeling.encoding import Encoding, Feature, encode, width_of
from health_pipeline.modeling.families.base import Fit, Floats, Observer, Parameters, Sample, log_loss_of
from health_pipeline.modeling.onnx_trees import trees_to_onnx
from health_pipeline.modeling.predictors import Trees
from health_pipeline.modeling.preprocessing import Style, fit_encodings
from health_pipeline.modeling.profiles import Effort

if TYPE_CHECKING:
    import xgboost

_BATCH_ROWS = 1 << 17
_MAX_BIN = 64

MEASURE_EVERY = 5
"""Rounds between two looks at the validation loss."""

REPORT_EVERY = 25
"""Rounds between two reports to the tuner, which may then end the trial."""


@dataclass(frozen=True)
class XGBoost:
    """Numbers within those of training, nulls on the branch learned for them, categories one-hot with rare ones pooled.

    The classes are not reweighted: weights would spoil the probabilities, and the threshold that
    is chosen on validation serves the imbalance instead.
    """

    name: str = "xgboost"
    short: str = "xgb"
    role: str = "model_2"
    defaults: Mapping[str, Any] = field(
        default_factory=lambda: {
            "eta": 0.05,
            "max_depth": 4,
            "min_child_weight": 10.0,
            "subsample": 0.8,
            "colsample_bytree": 0.4,
            "reg_lambda": 10.0,
            "reg_alpha": 0.01,
        }
    )
    fewest_rows: int = 100

    def suggest(self, trial: Any) -> dict[str, Any]:
        """Draw parameters from an Optuna trial."""
        return {
            "eta": 0.05,
            "max_depth": trial.suggest_int("max_depth", 3, 6),
            "min_child_weight": trial.suggest_float("min_child_weight", 1.0, 100.0, log=True),
            "subsample": trial.suggest_float("subsample", 0.5, 1.0),
            "colsample_bytree": trial.suggest_float("colsample_bytree", 0.2, 0.9),
            "reg_lambda": trial.suggest_float("reg_lambda", 0.1, 100.0, log=True),
            "reg_alpha": trial.suggest_float("reg_alpha", 0.01, 10.0, log=True),
        }

    def prepare(
        self, training: Sample, validation: Sample, features: Sequence[Feature], effort: Effort, threads: int
    ) -> PreparedXGBoost:
        """Encode and quantise the rows, in batches."""
        style = Style(for_trees=True, fewest_rows=self.fewest_rows)
        encodings = fit_encodings(training.inputs, features, style)
        quantised = _quantise(training, features, encodings, threads)
        judged = _quantise(validation, features, encodings, threads, quantised)
        return PreparedXGBoost(encodings, quantised, judged, validation.y, effort, threads)


@dataclass
class PreparedXGBoost:
    """Quantised training and validation rows."""

    encodings: tuple[Encoding, ...]
    training: xgboost.QuantileDMatrix
    validation: xgboost.QuantileDMatrix
    outcome: Floats
    effort: Effort
    threads: int
    fixed: Mapping[str, Any] = field(default_factory=dict)

    def fit(self, parameters: Parameters, seed: int, observer: Observer | None = None) -> Fit:
        """Fit as many boosters as the effort asks for and average their margins."""
        boosters: list[xgboost.Booster] = []
        rounds: list[int] = []
        curve: list[float] = []
        for bag in range(1 if observer else self.effort.bags):
            booster, kept, curve = self._boost(parameters, seed + bag, observer)
            boosters.append(booster)
            rounds.append(kept)
        drawn = np.array([booster.predict(self.validation, output_margin=True) for booster in boosters])
        margins = np.asarray(drawn.mean(axis=0, dtype=np.float64))
        onnx = b"" if observer else trees_to_onnx(boosters, width_of(self.encodings))
        files = tuple(bytes(booster.save_raw("ubj")) for booster in boosters)
        facts = {"columns": width_of(self.encodings), "rounds": rounds}
        member = Member(self.encodings, Trees(onnx, files))
        return Fit((member,), margins, log_loss_of(margins, self.outcome), facts, curve)

    def _boost(
        self, parameters: Parameters, seed: int, observer: Observer | None
    ) -> tuple[xgboost.Booster, int, list[float]]:
        """Boost until the validation loss stops falling.

        The loss is taken every few rounds: on small validation windows measuring costs as much as boosting.

        Returns:
            The booster up to its best round, that round, and the loss at every measurement.
        """
        import xgboost as xgb

        settings = {
            "objective": "binary:logistic",
            "tree_method": "hist",
            "max_bin": _MAX_BIN,
            "device": self.effort.device,
            "nthread": self.threads,
            "seed": seed,
            **self.fixed,
            **parameters,
        }
        booster = xgb.Booster(settings, [self.training, self.validation])
        curve: list[float] = []
        best, best_loss = 0, np.inf
        for rounds in range(1, self.effort.max_rounds + 1):
            booster.update(self.training, rounds - 1)
            if rounds % MEASURE_EVERY and rounds != self.effort.max_rounds:
                continue
            margins = booster.predict(self.validation, output_margin=True)
            loss = log_loss_of(margins.astype(np.float64), self.outcome)
            curve.append(loss)
            if loss < best_loss:
                best, best_loss = rounds, loss
            if rounds - best >= self.effort.patience:
                break
            if observer is not None and rounds % REPORT_EVERY == 0:
                observer(rounds, best_loss)
        return booster[:best], best, curve


def _quantise(
    sample: Sample,
    features: Sequence[Feature],
    encodings: Sequence[Encoding],
    threads: int,
    reference: Any = None,
) -> xgboost.QuantileDMatrix:
    """Histogram bins of the rows, built batch by batch: the whole float matrix never exists."""
    import xgboost as xgb

    class Batches(xgb.DataIter):
        """Encodes a batch of rows at a time."""

        def __init__(self) -> None:
            self.start = 0
            super().__init__(release_data=True)

        def next(self, input_data: Callable[..., None]) -> bool:
            """Hand over the next batch."""
            if self.start >= sample.inputs.rows and self.start > 0:
                return False
            stop = self.start + _BATCH_ROWS
            matrix = encode(sample.inputs.part(self.start, stop), features, encodings, np.float32)
            input_data(data=matrix, label=sample.y[self.start : stop])
            self.start = stop
            return True

        def reset(self) -> None:
            """Begin again."""
            self.start = 0

    return xgb.QuantileDMatrix(Batches(), max_bin=_MAX_BIN, nthread=threads, ref=reference)
