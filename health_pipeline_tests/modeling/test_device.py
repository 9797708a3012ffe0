"""A device that was asked for is used, or training stops with the reason."""

from __future__ import annotations

import pytest
import xgboost as xgb

from health_pipeline.errors import SettingsError
from health_pipeline.modeling import train_months
from health_pipeline.modeling.device import _device_in_use, require_device
from health_pipeline.months import MonthRange
from health_pipeline.settings import Settings
from health_pipeline_tests.modeling.conftest import CLOCK, FEATURES, LABELS, whole

HAS_GPU = bool(xgb.build_info()["USE_CUDA"]) and _device_in_use("cuda") == "cuda"
without_gpu = pytest.mark.skipif(HAS_GPU, reason="a GPU is here")


def test_the_cpu_is_always_there():
    require_device("cpu")
    assert _device_in_use("cpu") == "cpu"


@without_gpu
def test_xgboost_alone_would_go_on_with_the_cpu():
    assert _device_in_use("cuda") == "cpu"


@without_gpu
def test_a_build_with_cuda_and_no_gpu_is_refused(monkeypatch):
    monkeypatch.setattr(xgb, "build_info", lambda: {"USE_CUDA": True})
    with pytest.raises(SettingsError, match=r"no cuda device .* would train on cpu .*nvidia-smi"):
        require_device("cuda")


@pytest.mark.skipif(xgb.build_info()["USE_CUDA"], reason="XGBoost is built with CUDA")
def test_training_with_a_build_without_cuda_says_what_to_install(warehouse, tmp_path):
    settings = Settings(home=tmp_path, training={"device": "cuda"})
    months = MonthRange.of("2023-02", "2023-02")
    with pytest.raises(SettingsError, match=r"built without CUDA .*TRAINING__DEVICE.*uninstall xgboost-cpu"):
        train_months(
            "xgboost", warehouse, whole(FEATURES), whole(LABELS), whole(FEATURES), months, settings, CLOCK, print
        )


@pytest.mark.skipif(not HAS_GPU, reason="no GPU that XGBoost can use")
def test_the_gpu_is_used_where_it_is():
    require_device("cuda")
