from __future__ import annotations

import numpy as np
import pytest

from health_pipeline.modeling.metrics import measure as values_of
from health_pipeline.promotion.measure import Bootstrap, Holdout, Scored, against_lace, compare, measure, model_metrics
from health_pipeline_tests.promotion.evidences import policy
from health_pipeline_tests.promotion.hospital import hospital

GIVEN = hospital(4, 1500)
NEW, OLD = Scored(GIVEN.model(0, 1, 2), 0.2), Scored(GIVEN.model(0), 0.15)
DRAWS = Bootstrap(200, 7)


def holdout(y=GIVEN.y, lace=None):
    return Holdout(y, GIVEN.patients, lace, {"sex": GIVEN.sex})


def test_metrics_are_those_of_the_modeling_room():
    found = model_metrics(holdout(), NEW, policy(primary_metric="f1"), DRAWS)
    names = ("f1", "roc_auc", "average_precision", "brier", "calibration_slope", "observed_expected", "top_decile_lift")
    expected = values_of(GIVEN.y, NEW.probabilities, 0.2, names)
    assert found["top_decile_capture"].value == pytest.approx(expected.pop("top_decile_lift") / 10)
    for name, value in expected.items():
        assert found[name].value == pytest.approx(value)
        assert found[name].low < value < found[name].high


def test_the_lift_is_shown_as_capture_and_kept_where_it_is_primary():
    expected = {"roc_auc", "average_precision", "brier", "calibration_slope", "calibration_intercept"}
    expected |= {"observed_expected", "top_decile_capture"}
    assert set(model_metrics(holdout(), NEW, policy(), DRAWS)) == expected
    lift = policy(primary_metric="top_decile_lift")
    found = model_metrics(holdout(), NEW, lift, DRAWS)
    assert set(found) == {*expected, "top_decile_lift"}
    assert found["top_decile_capture"].value == found["top_decile_lift"].value * 0.1
    gains = compare(holdout(), NEW, OLD, lift, DRAWS, compared=1)
    assert gains.non_inferiority.value == gains.difference["top_decile_lift"].value


def test_differences_are_positive_when_the_challenger_is_better():
    found = compare(holdout(), NEW, OLD, policy(), DRAWS, compared=1)
    back = compare(holdout(), OLD, NEW, policy(), DRAWS, compared=1)
    assert set(found.difference) == {"roc_auc", "average_precision", "brier", "top_decile_capture"}
    for name, estimate in found.difference.items():
        assert estimate.value > 0, name  # Brier too, although its smaller value is better
        assert estimate.low < estimate.value < estimate.high
        assert back.difference[name].value == pytest.approx(-estimate.value)
        assert back.difference[name].low == pytest.approx(-estimate.high)


def test_each_model_is_flagged_at_its_own_threshold():
    found = compare(holdout(), NEW, OLD, policy(primary_metric="f1"), DRAWS, compared=1)
    f1 = [values_of(GIVEN.y, model.probabilities, model.threshold, ("f1",))["f1"] for model in (NEW, OLD)]
    assert found.difference["f1"].value == pytest.approx(f1[0] - f1[1])


def test_one_sided_bound_is_inside_the_two_sided_interval():
    found = compare(holdout(), NEW, OLD, policy(), DRAWS, compared=1)
    both = found.difference["roc_auc"]
    assert both.low < found.non_inferiority.low < both.value < found.non_inferiority.high < both.high


def test_picking_from_more_candidates_widens_the_interval():
    one, three = (compare(holdout(), NEW, OLD, policy(), DRAWS, compared=count) for count in (1, 3))
    assert three.difference["roc_auc"].low < one.difference["roc_auc"].low
    assert three.non_inferiority.low < one.non_inferiority.low
    assert three.difference["roc_auc"].value == one.difference["roc_auc"].value


def test_primary_metric_gives_the_non_inferiority_bound():
    found = compare(holdout(), NEW, OLD, policy(primary_metric="brier"), DRAWS, compared=1)
    assert found.non_inferiority.value == found.difference["brier"].value


def test_lace_is_compared_on_the_rows_that_have_one():
    index = np.round(10 + 3 * GIVEN.signals[:, 0])
    index[:300] = np.nan
    found = against_lace(holdout(lace=index), NEW, policy(), DRAWS)
    known = slice(300, None)
    ranked = (index[known] - 0) / 100
    expected = (
        values_of(GIVEN.y[known], NEW.probabilities[known], metrics=("roc_auc",))["roc_auc"]
        - values_of(GIVEN.y[known], ranked, metrics=("roc_auc",))["roc_auc"]
    )
    assert found.value == pytest.approx(expected)
    assert found.low < found.value < found.high


@pytest.mark.parametrize("index", [None, np.full(GIVEN.y.size, np.nan)])
def test_lace_that_nobody_has_is_not_measured(index):
    assert against_lace(holdout(lace=index), NEW, policy(), DRAWS).value is None


def test_a_constant_lace_index_is_a_coin():
    found = against_lace(holdout(lace=np.full(GIVEN.y.size, 7.0)), NEW, policy(), DRAWS)
    assert found.value == pytest.approx(values_of(GIVEN.y, NEW.probabilities, metrics=("roc_auc",))["roc_auc"] - 0.5)


@pytest.mark.parametrize("outcome", [0.0, 1.0])
def test_one_outcome_gives_no_numbers(outcome):
    found = measure(holdout(np.full(GIVEN.y.size, outcome)), NEW, OLD, policy(), DRAWS, compared=1, small_number=11)
    assert found.challenger_metrics == found.incumbent_metrics == found.comparison.difference == {}
    assert found.comparison.non_inferiority.value is None


def test_without_challenger_only_the_incumbent_is_measured():
    found = measure(holdout(), None, OLD, policy(), DRAWS, compared=0, small_number=11)
    assert found.challenger_metrics == {}
    assert found.incumbent_metrics["roc_auc"].value > 0.6
    assert found.subgroups == ()


def test_the_same_seed_gives_the_same_numbers():
    found = [
        measure(holdout(), NEW, OLD, policy(), Bootstrap(100, seed), compared=1, small_number=11) for seed in (1, 1, 2)
    ]
    assert found[0] == found[1] != found[2]
