"""Measures agree with scikit-learn, intervals respect patients, pairs cancel what models share."""

from __future__ import annotations

import time

import numpy as np
import pytest
from sklearn import metrics as reference

from health_pipeline.modeling.calibration import fit_logistic
from health_pipeline.modeling.metrics import METRICS, measure, measure_with_intervals, paired_bootstrap

THRESHOLD = 0.2


def sample(rows: int = 3000, seed: int = 1, decimals: int | None = None):
    random = np.random.default_rng(seed)
    p = 1 / (1 + np.exp(-random.normal(-2, 0.9, rows)))
    y = (random.random(rows) < p).astype(float)
    return y, p if decimals is None else np.round(p, decimals)


@pytest.mark.parametrize("decimals", [None, 2], ids=["distinct", "ties"])
def test_measures_agree_with_scikit_learn(decimals):
    y, p = sample(decimals=decimals)
    label = p >= THRESHOLD
    found = measure(y, p, THRESHOLD)
    expected = {
        "accuracy": reference.accuracy_score(y, label),
        "precision": reference.precision_score(y, label),
        "recall": reference.recall_score(y, label),
        "f1": reference.f1_score(y, label),
        "roc_auc": reference.roc_auc_score(y, p),
        "average_precision": reference.average_precision_score(y, p),
        "brier": reference.brier_score_loss(y, p),
        "log_loss": reference.log_loss(y, np.clip(p, 1e-15, 1 - 1e-15)),
        "observed_expected": y.sum() / p.sum(),
    }
    for name, value in expected.items():
        assert found[name] == pytest.approx(value, abs=1e-9), name


def test_calibration_measures_of_a_distorted_model():
    y, p = sample(60_000)
    logit = np.log(p / (1 - p))
    distorted = 1 / (1 + np.exp(-(2 * logit + 1)))
    found = measure(y, distorted, THRESHOLD)
    assert found["calibration_slope"] == pytest.approx(0.5, abs=0.02)
    right = measure(y, p, THRESHOLD)
    assert right["calibration_slope"] == pytest.approx(1, abs=0.04)
    assert right["calibration_intercept"] == pytest.approx(0, abs=0.04)
    assert right["ece"] < 0.005 < found["ece"]


def test_top_decile_by_hand():
    p = np.linspace(1, 0, 20)
    y = np.zeros(20)
    y[[0, 10, 11, 12]] = 1
    found = measure(y, p, 0.5, ["top_decile_precision", "top_decile_lift"])
    assert found == {"top_decile_precision": 0.5, "top_decile_lift": 2.5}


def test_rows_of_one_score_count_alike_in_the_top_decile():
    first = np.r_[np.ones(50), np.zeros(150)]
    names = ["top_decile_precision", "top_decile_lift"]
    for y in (first, first[::-1]):
        assert measure(y, np.full(200, 0.3), 0.5, names) == {"top_decile_precision": 0.25, "top_decile_lift": 1.0}
    y, p = sample(decimals=1)
    order = np.random.default_rng(3).permutation(y.size)
    assert measure(y[order], p[order], 0.5, names) == pytest.approx(measure(y, p, 0.5, names))


def test_undefined_measures_are_nan_and_not_zero():
    p = np.array([0.1, 0.2, 0.3])
    found = measure(np.zeros(3), p, 0.9)
    for name in ("precision", "recall", "roc_auc", "average_precision", "calibration_slope"):
        assert np.isnan(found[name]), name
    assert found["accuracy"] == 1


def test_no_rows_and_unknown_names_are_refused():
    with pytest.raises(ValueError, match="no rows"):
        measure([], [])
    with pytest.raises(ValueError, match="unknown metric"):
        measure([0, 1], [0.1, 0.2], metrics=["gini"])
    with pytest.raises(ValueError, match="clusters"):
        measure_with_intervals([0, 1], [0.1, 0.2], clusters=[1])


def test_weighted_replicates_equal_repeated_rows():
    """The one pass over weights gives what copying the drawn rows gives."""
    y, p = sample(300, decimals=2)
    clusters = np.arange(300) // 2
    found = measure_with_intervals(
        y, p, threshold=THRESHOLD, clusters=clusters, replicates=60, seed=4, metrics=["roc_auc", "average_precision"]
    )
    random = np.random.default_rng(4)
    drawn = random.integers(0, 150, size=(60, 150))
    naive = {"roc_auc": [], "average_precision": []}
    for replicate in drawn:
        rows = np.concatenate([np.flatnonzero(clusters == cluster) for cluster in replicate])
        naive["roc_auc"].append(reference.roc_auc_score(y[rows], p[rows]))
        naive["average_precision"].append(reference.average_precision_score(y[rows], p[rows]))
    for name, values in naive.items():
        low, high = np.quantile(values, [0.025, 0.975])
        assert (found[name].ci_low, found[name].ci_high) == pytest.approx((low, high), abs=1e-6)


def test_one_step_slope_interval_is_that_of_full_refits():
    y, p = sample(2000)
    found = measure_with_intervals(y, p, metrics=["calibration_slope"], replicates=300, seed=2)["calibration_slope"]
    design = np.column_stack([np.ones_like(p), np.log(p / (1 - p))])
    random = np.random.default_rng(2)
    slopes = []
    for rows in random.integers(0, 2000, size=(300, 2000)):
        slopes.append(fit_logistic(design, y, np.bincount(rows, minlength=2000).astype(float))[1])
    low, high = np.quantile(slopes, [0.025, 0.975])
    assert found.ci_low == pytest.approx(low, abs=0.02)
    assert found.ci_high == pytest.approx(high, abs=0.02)


def test_copies_of_a_patient_do_not_narrow_the_interval():
    y, p = sample(800)
    alone = measure_with_intervals(y, p, clusters=np.arange(800), metrics=["roc_auc"], seed=1)["roc_auc"]
    repeated = [np.tile(values, 4) for values in (y, p, np.arange(800))]
    grouped = measure_with_intervals(repeated[0], repeated[1], clusters=repeated[2], metrics=["roc_auc"], seed=1)
    rows = measure_with_intervals(repeated[0], repeated[1], metrics=["roc_auc"], seed=1)
    width = alone.ci_high - alone.ci_low
    assert grouped["roc_auc"].ci_high - grouped["roc_auc"].ci_low == pytest.approx(width, rel=0.02)
    assert rows["roc_auc"].ci_high - rows["roc_auc"].ci_low < 0.65 * width


def test_the_same_seed_gives_the_same_interval_and_chunks_do_not_matter(monkeypatch):
    y, p = sample(500)
    first = measure_with_intervals(y, p, replicates=100, seed=9)
    assert measure_with_intervals(y, p, replicates=100, seed=9) == first
    assert measure_with_intervals(y, p, replicates=100, seed=10) != first


def test_pairs_of_equal_models_have_no_difference():
    y, p = sample(500)
    found = paired_bootstrap("roc_auc", y, p, p, replicates=200)
    assert (found.difference, found.ci_low, found.ci_high, found.p_value) == (0, 0, 0, 1)


def test_pairs_see_a_small_difference_that_separate_intervals_hide():
    y, p = sample(4000)
    worse = 1 / (1 + np.exp(-(np.log(p / (1 - p)) + np.random.default_rng(0).normal(0, 0.4, p.size))))
    pair = paired_bootstrap("roc_auc", y, worse, p, seed=3)
    apart = [measure_with_intervals(y, score, metrics=["roc_auc"], seed=3)["roc_auc"] for score in (worse, p)]
    assert pair.ci_low > 0
    assert pair.p_value < 0.05
    assert apart[0].ci_high > apart[1].ci_low
    assert pair.difference == pytest.approx(pair.value_b - pair.value_a)
    assert pair.replicates.shape == (1000,)


def test_intervals_cover_the_truth_about_as_often_as_they_say():
    random = np.random.default_rng(5)
    truth = measure(*sample(400_000, seed=77), metrics=["roc_auc"])["roc_auc"]
    hits = 0
    for _ in range(120):
        y, p = sample(400, seed=int(random.integers(1 << 31)))
        found = measure_with_intervals(y, p, metrics=["roc_auc"], replicates=200, seed=1, level=0.9)["roc_auc"]
        hits += found.ci_low <= truth <= found.ci_high
    assert 0.82 <= hits / 120 <= 0.97


def test_a_thousand_replicates_on_twenty_thousand_rows_are_quick():
    y, p = sample(20_000)
    clusters = np.random.default_rng(0).integers(0, 14_000, 20_000)
    measure_with_intervals(y, p, clusters=clusters, replicates=10)
    started = time.process_time()
    found = measure_with_intervals(y, p, threshold=THRESHOLD, clusters=clusters)
    assert time.process_time() - started < 4  # CPU seconds of all threads; about 1.2 alone on the machine
    assert set(found) == set(METRICS)


def test_rows_may_have_thresholds_of_their_own():
    random = np.random.default_rng(8)
    p, y = random.random(400), random.integers(0, 2, 400)
    cut = random.choice([0.2, 0.7], 400)
    found = measure(y, p, cut, ("recall", "precision", "roc_auc"))
    labels = p >= cut
    assert found["recall"] == pytest.approx(y[labels].sum() / y.sum())
    assert found["precision"] == pytest.approx(y[labels].mean())
    assert found["roc_auc"] == measure(y, p)["roc_auc"]
    with pytest.raises(ValueError, match="broadcast"):
        measure(y, p, cut[:5])
