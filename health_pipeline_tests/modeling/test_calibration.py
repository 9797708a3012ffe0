"""Recalibration only where rows ask for it; what reweighting ruins, calibration mends; thresholds by F1."""

from __future__ import annotations

import numpy as np
import pytest
from sklearn.metrics import f1_score

from health_pipeline.modeling.calibration import best_f1_threshold, fit_calibration
from health_pipeline.modeling.metrics import measure


def outcome(margin, seed=0):
    random = np.random.default_rng(seed)
    return (random.random(margin.size) < 1 / (1 + np.exp(-margin))).astype(float)


def margins(rows=3000, seed=1):
    return np.random.default_rng(seed).normal(-2, 0.8, rows)


def test_a_calibrated_model_is_left_alone_in_most_samples():
    methods = [fit_calibration(margins(seed=s), outcome(margins(seed=s), s + 1000)).method for s in range(200)]
    assert methods.count("none") >= 180


@pytest.mark.parametrize(
    ("distort", "method", "slope", "intercept"),
    [
        (lambda margin: margin + 0.7, "intercept", 1.0, -0.7),
        (lambda margin: 3 * margin, "platt", 1 / 3, 0.0),
    ],
    ids=["shifted", "overconfident"],
)
def test_a_distorted_model_is_mended(distort, method, slope, intercept):
    margin = margins(20_000)
    found = fit_calibration(distort(margin), outcome(margin))
    assert found.method == method
    assert found.slope == pytest.approx(slope, abs=0.03)
    assert found.intercept == pytest.approx(intercept, abs=0.2)


def test_class_weights_ruin_probabilities_and_calibration_brings_them_back():
    """Weighting the classes to balance adds the log of the weight to the margin."""
    margin = margins(8000)
    y = outcome(margin)
    weighted = margin + np.log((1 - y.mean()) / y.mean())
    ruined = measure(y, 1 / (1 + np.exp(-weighted)), metrics=["ece"])["ece"]
    calibration = fit_calibration(weighted[:4000], y[:4000])
    mended = measure(y[4000:], calibration.probabilities(weighted[4000:]), metrics=["ece"])["ece"]
    assert ruined > 0.2
    assert mended < 0.02


@pytest.mark.parametrize("y", [np.zeros(50), np.ones(50)], ids=["no events", "only events"])
def test_one_outcome_only_changes_nothing(y):
    assert fit_calibration(margins(50), y).method == "none"


def test_a_model_that_ranks_upside_down_is_not_turned_around():
    margin = margins(5000)
    assert fit_calibration(-margin, outcome(margin)).slope == 1


def test_the_threshold_is_the_best_f1_of_all():
    random = np.random.default_rng(3)
    p = np.round(random.random(300), 2)
    y = (random.random(300) < p / 3).astype(float)
    found = best_f1_threshold(p, y)
    best = max(f1_score(y, p >= threshold) for threshold in np.unique(p))
    assert f1_score(y, p >= found) == pytest.approx(best)
    assert not np.isin(found, p)
