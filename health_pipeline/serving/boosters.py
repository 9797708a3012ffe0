"""XGBoost's C library, called directly for exact tree SHAP.

Importing the ``xgboost`` package would bring pandas, SciPy and scikit-learn into the serving process (5 s, 100 MB);
the library itself needs none of them.
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

_CONTRIBUTIONS = 2  # XGBoosterPredictFromDMatrix: type 2 is predict(pred_contribs=True)


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


def _array_interface(matrix: NDArray[np.float32]) -> bytes:
    return json.dumps(
        {"data": [matrix.ctypes.data, True], "shape": matrix.shape, "typestr": matrix.dtype.str, "version": 3}
    ).encode()


class Booster:
    """A booster read from UBJSON bytes.

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

    def contributions(self, matrix: NDArray[np.float32]) -> NDArray[np.float32]:
        """Exact tree SHAP in log-odds, shape (rows, columns + 1); the last column is the bias."""
        matrix = np.ascontiguousarray(matrix, dtype=np.float32)
        data = ctypes.c_void_p()
        _call(
            "XGDMatrixCreateFromDense", _array_interface(matrix), b'{"missing": NaN, "nthread": 1}', ctypes.byref(data)
        )
        try:
            shape, dimensions = ctypes.POINTER(ctypes.c_uint64)(), ctypes.c_uint64()
            result = ctypes.POINTER(ctypes.c_float)()
            settings = {"type": _CONTRIBUTIONS, "training": False, "iteration_begin": 0, "iteration_end": 0}
            _call(
                "XGBoosterPredictFromDMatrix",
                self._handle,
                data,
                json.dumps({**settings, "strict_shape": False}).encode(),
                ctypes.byref(shape),
                ctypes.byref(dimensions),
                ctypes.byref(result),
            )
            sizes = [shape[index] for index in range(dimensions.value)]
            return np.ctypeslib.as_array(result, shape=sizes).copy()
        finally:
            _call("XGDMatrixFree", data)

    def __del__(self) -> None:
        if self._handle:
            _library().XGBoosterFree(self._handle)
