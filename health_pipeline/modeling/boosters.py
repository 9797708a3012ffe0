"""XGBoost's C library, called directly: margins of many rows, and exact tree SHAP.

Importing the ``xgboost`` package would bring pandas, SciPy and scikit-learn into the serving process (5 s, 100 MB);
the library itself needs none of them (10 ms, 6 MB).
"""

from __future__ import annotations

import ctypes
import importlib.util
import json
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from health_pipeline.errors import ModelError
from health_pipeline.modeling.onnx_trees import base_margin

Floats = NDArray[np.float32]

_WHOLE_MODEL = {"training": False, "iteration_begin": 0, "iteration_end": 0, "strict_shape": False}
# What is predicted has a number: 1 margins, 2 contributions.
_MARGINS = json.dumps({**_WHOLE_MODEL, "type": 1, "missing": float("nan"), "cache_id": 0}).encode()
_CONTRIBUTIONS = json.dumps({**_WHOLE_MODEL, "type": 2}).encode()


@cache
def _library() -> ctypes.CDLL:
    spec = importlib.util.find_spec("xgboost")
    for place in (spec.submodule_search_locations or []) if spec is not None else []:
        for name in ("libxgboost.so", "libxgboost.dylib", "xgboost.dll"):
            path = Path(place) / "lib" / name
            if path.is_file():
                library = ctypes.CDLL(str(path))
                library.XGBGetLastError.restype = ctypes.c_char_p
                return library
    raise ModelError("the XGBoost library is not installed", remedy="pip install xgboost-cpu")


def _call(name: str, *arguments: Any) -> None:
    library = _library()
    if getattr(library, name)(*arguments) != 0:
        message = library.XGBGetLastError().decode(errors="replace").splitlines()
        raise ModelError(f"XGBoost refused {name}: {message[0] if message else 'no reason given'}")


def _array_interface(matrix: Floats) -> bytes:
    return json.dumps(
        {"data": [matrix.ctypes.data, True], "shape": matrix.shape, "typestr": matrix.dtype.str, "version": 3}
    ).encode()


class _Result:
    """Where the library says where its answer lies; it stays valid until the thread's next call."""

    def __init__(self) -> None:
        self._shape, self._dimensions = ctypes.POINTER(ctypes.c_uint64)(), ctypes.c_uint64()
        self._values = ctypes.POINTER(ctypes.c_float)()
        self.places = ctypes.byref(self._shape), ctypes.byref(self._dimensions), ctypes.byref(self._values)

    def copy(self) -> Floats:
        """The answer."""
        sizes = [self._shape[index] for index in range(self._dimensions.value)]
        return np.ctypeslib.as_array(self._values, shape=sizes).copy()


class Booster:
    """A booster of log-odds (``binary:logistic``) read from UBJSON bytes; one thread computes.

    Args:
        content: what ``xgboost.Booster.save_raw("ubj")`` wrote.

    Raises:
        ModelError: the library is missing or refuses the bytes.
    """

    def __init__(self, content: bytes) -> None:
        self._handle = ctypes.c_void_p()
        _call("XGBoosterCreate", None, ctypes.c_uint64(0), ctypes.byref(self._handle))
        _call("XGBoosterLoadModelFromBuffer", self._handle, content, ctypes.c_uint64(len(content)))
        _call("XGBoosterSetParam", self._handle, b"nthread", b"1")
        # XGBoost would add the leaves to the base, our ONNX graph adds the base to the leaves, which rounds otherwise.
        self._base = self._take_base()

    def _take_base(self) -> np.float32:
        """Log-odds that every row begins with; from here on the library begins with zero."""
        length, text = ctypes.c_uint64(), ctypes.c_char_p()
        _call("XGBoosterSaveJsonConfig", self._handle, ctypes.byref(length), ctypes.byref(text))
        base = base_margin(json.loads(text.value or b"{}")["learner"])
        _call("XGBoosterSetParam", self._handle, b"base_score", b"0.5")
        return np.float32(base)

    def margins(self, matrix: Floats) -> Floats:
        """Log-odds of the rows, shape (rows,)."""
        matrix = np.ascontiguousarray(matrix, dtype=np.float32)
        result = _Result()
        _call("XGBoosterPredictFromDense", self._handle, _array_interface(matrix), _MARGINS, None, *result.places)
        return result.copy().reshape(-1) + self._base

    def contributions(self, matrix: Floats) -> Floats:
        """Exact tree SHAP in log-odds, shape (rows, columns + 1); the last column is the bias."""
        matrix = np.ascontiguousarray(matrix, dtype=np.float32)
        data = ctypes.c_void_p()
        _call(
            "XGDMatrixCreateFromDense", _array_interface(matrix), b'{"missing": NaN, "nthread": 1}', ctypes.byref(data)
        )
        try:
            result = _Result()
            _call("XGBoosterPredictFromDMatrix", self._handle, data, _CONTRIBUTIONS, *result.places)
            contributions = result.copy()
        finally:
            _call("XGDMatrixFree", data)
        contributions[:, -1] += self._base
        return contributions

    def __del__(self) -> None:
        if self._handle:
            _library().XGBoosterFree(self._handle)
