"""Predictors: from a matrix to log-odds, out of files that hold data only."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from functools import cached_property
from typing import Any, ClassVar, Protocol

import numpy as np
import structlog
from numpy.typing import NDArray

from health_pipeline.errors import ModelError
from health_pipeline.modeling.boosters import Booster

Floats = NDArray[np.float64]

BULK_ROWS = 24
"""From so many rows on XGBoost is faster than ONNX Runtime, which needs no warming up but goes row by row."""

_OUTPUTS = ["margin"]

_log = structlog.get_logger(__name__)


class Predictor(Protocol):
    """What a member of a bundle must be able to do."""

    dtype: ClassVar[Any]

    def margins(self, matrix: NDArray[Any]) -> Floats:
        """Log-odds of the rows, shape (rows,)."""
        ...

    def to_json(self, number: int) -> tuple[dict[str, Any], dict[str, bytes]]:
        """Plain data, and the content of extra files by name."""
        ...


@dataclass(frozen=True)
class Linear:
    """Intercept and one coefficient a column; standardisation is folded into them."""

    intercept: float
    coefficients: tuple[float, ...]
    dtype: ClassVar[Any] = np.float64

    def margins(self, matrix: NDArray[Any]) -> Floats:
        """Log-odds of the rows, shape (rows,)."""
        # Row by row: a product of matrix and vector is summed in blocks, and last bits of a score would depend on the
        # number of threads and on the rows that are scored with it.
        return np.asarray(np.vecdot(matrix, np.asarray(self.coefficients)) + self.intercept)

    def to_json(self, number: int) -> tuple[dict[str, Any], dict[str, bytes]]:
        """Plain data, and the content of extra files by name (none)."""
        del number
        return {"kind": "linear", "intercept": self.intercept, "coefficients": list(self.coefficients)}, {}


@dataclass(frozen=True)
class Trees:
    """An ensemble of trees in ONNX (``ai.onnx.ml`` TreeEnsembleRegressor): input ``X`` float32, output ``margin``.

    The graph alone decides a score. Where one booster lies behind it, XGBoost's library walks the trees for many rows
    at once, three times as fast and equal bit for bit; that is tried out before it is relied upon.

    Attributes:
        onnx: the serialised graph.
        boosters: XGBoost models (UBJSON) whose mean margin the graph computes; they also serve explanations.
    """

    onnx: bytes
    boosters: tuple[bytes, ...] = ()
    dtype: ClassVar[Any] = np.float32

    @cached_property
    def _session(self) -> Any:
        import onnxruntime as ort

        options = ort.SessionOptions()
        # One thread: a score must not depend on the number of cores, and callers run in parallel themselves.
        options.intra_op_num_threads = options.inter_op_num_threads = 1
        options.log_severity_level = 3
        return ort.InferenceSession(self.onnx, options, providers=["CPUExecutionProvider"])

    @cached_property
    def _booster(self) -> Booster | None:
        """What scores many rows; None where that is the graph as well."""
        if len(self.boosters) != 1:
            return None  # the mean of several is rounded otherwise than the graph's sum
        try:
            booster = Booster(self.boosters[0])
            probes = _probes(self._session.get_inputs()[0].shape[1])
            is_equal = np.array_equal(booster.margins(probes), self._graph_margins(probes))
        except ModelError as error:
            _log.warning("booster_not_used", reason=str(error))
            return None
        if not is_equal:
            _log.warning("booster_not_used", reason="its margins are not those of the graph")
        return booster if is_equal else None

    def _graph_margins(self, matrix: NDArray[Any]) -> Floats:
        (margin,) = self._session.run(_OUTPUTS, {"X": matrix})
        return np.asarray(margin[:, 0], dtype=np.float64)

    def margins(self, matrix: NDArray[Any]) -> Floats:
        """Log-odds of the rows, shape (rows,)."""
        if matrix.shape[0] == 0:
            return np.zeros(0)
        if matrix.shape[0] >= BULK_ROWS and self._booster is not None:
            return self._booster.margins(matrix).astype(np.float64)
        return self._graph_margins(matrix)

    def margin(self, row: NDArray[np.float32]) -> float:
        """Log-odds of one row, shape (1, columns), without the arrays around it: for the request path."""
        return float(self._session.run(_OUTPUTS, {"X": row})[0][0, 0])

    def to_json(self, number: int) -> tuple[dict[str, Any], dict[str, bytes]]:
        """Plain data, and the content of extra files by name."""
        boosters = {f"booster-{number}-{index}.ubj": content for index, content in enumerate(self.boosters)}
        data = {"kind": "trees", "onnx": f"trees-{number}.onnx", "boosters": list(boosters)}
        return data, {f"trees-{number}.onnx": self.onnx, **boosters}


def _probes(columns: int, rows: int = 64) -> NDArray[np.float32]:
    """Rows of all magnitudes, with nulls."""
    generator = np.random.default_rng(0)
    values = generator.normal(size=(rows, columns)) * 10.0 ** generator.integers(-2, 5, (rows, columns))
    values[generator.random(values.shape) < 0.1] = np.nan
    return values.astype(np.float32)


def predictor_from_json(data: Mapping[str, Any], files: Mapping[str, bytes]) -> Predictor:
    """The predictor that ``to_json`` described.

    Raises:
        ValueError: unknown kind.
    """
    if data["kind"] == "linear":
        return Linear(data["intercept"], tuple(data["coefficients"]))
    if data["kind"] == "trees":
        return Trees(files[data["onnx"]], tuple(files[name] for name in data["boosters"]))
    raise ValueError(f"unknown kind of predictor {data['kind']!r}")
