"""Where XGBoost trains: a device that is asked for is there, or training says why it is not.

XGBoost itself only warns and goes on with the CPU, many times slower and with other last digits.
"""

from __future__ import annotations

import json
import warnings

from health_pipeline.errors import SettingsError

_SETTING = "HEALTH_PIPELINE_TRAINING__DEVICE"


def require_device(device: str) -> None:
    """Make sure that XGBoost can train on a device.

    Args:
        device: ``cpu`` or ``cuda``.

    Raises:
        SettingsError: the installed XGBoost was built without CUDA, or no GPU can be used.
    """
    if device == "cpu":
        return
    import xgboost as xgb

    if not xgb.build_info()["USE_CUDA"]:
        raise SettingsError(
            f"the installed XGBoost cannot train on {device}: it was built without CUDA",
            where=_SETTING,
            remedy="pip uninstall xgboost-cpu && pip install 'xgboost>=3.2,<3.3', or set the device to cpu",
        )
    if (found := _device_in_use(device)) != device:
        raise SettingsError(
            f"XGBoost finds no {device} device that it can use and would train on {found}",
            where=_SETTING,
            remedy="check that nvidia-smi shows a GPU in this process's environment, or set the device to cpu",
        )


def _device_in_use(device: str) -> str:
    """Device on which one tree was really grown, without its number (``cuda:0`` is ``cuda``)."""
    import numpy as np
    import xgboost as xgb

    with warnings.catch_warnings():
        warnings.simplefilter("ignore", UserWarning)  # "Device is changed from GPU to CPU": becomes the error above
        tiny = xgb.QuantileDMatrix(np.array([[0.0], [1.0]]), np.array([0.0, 1.0]))
        booster = xgb.Booster({"device": device, "objective": "binary:logistic"}, [tiny])
        booster.update(tiny, 0)
        configuration = json.loads(booster.save_config())
    return str(configuration["learner"]["generic_param"]["device"]).partition(":")[0]
