from __future__ import annotations

import datetime as dt
from typing import get_args

import pytest

from health_pipeline.modeling.metrics import METRICS
from health_pipeline.modeling.tables import model_table
from health_pipeline.monitoring.limits import RULES
from health_pipeline.months import MonthRange
from health_pipeline.promotion.candidates import LOWER_IS_BETTER, Model, challenger_of, read_candidates
from health_pipeline.settings import ComparedMetric
from health_pipeline.warehouse import Slice
from health_pipeline_tests.promotion.history import FAMILIES, candidate_row, write_candidates

MONTH = dt.date(2023, 6, 1)
LR, RF, XGB = "logistic_regression", "random_forest", "xgboost"


def model(family, roc_auc, **metrics):
    return Model(
        model_id=f"{family} model",
        family=family,
        month=MONTH,
        profile="standard",
        fitted_last=dt.date(2023, 1, 1),
        artefact_path="",
        artefact_hash="",
        feature_schema_hash="",
        threshold=0.5,
        metrics={"roc_auc": roc_auc, **metrics},
    )


def chosen(*models, primary="roc_auc", tolerance=0.002):
    found = [challenger_of(order, primary, tolerance) for order in (models, models[::-1])]
    assert found[0] is found[1]  # the order of the candidates does not matter
    return found[0] and found[0].family


def test_best_by_the_primary_metric():
    assert chosen(model(LR, 0.66), model(XGB, 0.67)) == XGB
    assert chosen(model(LR, 0.67), model(XGB, 0.66), model(RF, 0.65)) == LR


def test_ties_go_to_the_secondary_metrics():
    assert chosen(model(LR, 0.669, average_precision=0.2), model(XGB, 0.67, average_precision=0.3)) == XGB
    assert chosen(model(XGB, 0.669, average_precision=0.2), model(RF, 0.67, average_precision=0.3)) == RF
    assert (
        chosen(model(XGB, 0.67, average_precision=0.3, brier=0.09), model(LR, 0.67, average_precision=0.3, brier=0.08))
        == LR
    )


def test_a_lower_brier_score_is_better():
    tied = {"average_precision": 0.3}
    assert chosen(model(LR, 0.67, brier=0.10, **tied), model(XGB, 0.67, brier=0.08, **tied)) == XGB


def test_ties_of_everything_go_to_the_simplest():
    assert chosen(model(XGB, 0.67), model(RF, 0.67), model(LR, 0.67)) == LR
    assert chosen(model(XGB, 0.67), model(RF, 0.67)) == RF
    assert chosen(model(XGB, 0.67), model("neural_network", 0.67)) == XGB


@pytest.mark.parametrize(("gap", "winner"), [(0.00195, LR), (0.00205, XGB)])
def test_tolerance_of_a_tie(gap, winner):
    assert chosen(model(LR, 0.67 - gap), model(XGB, 0.67)) == winner


def test_tie_exactly_at_the_tolerance():
    assert chosen(model(LR, 0.5), model(XGB, 0.75), tolerance=0.25) == LR


def test_another_primary_metric():
    assert chosen(model(LR, 0.60, f1=0.4), model(XGB, 0.70, f1=0.3), primary="f1") == LR
    assert chosen(model(LR, 0.60, brier=0.1), model(XGB, 0.70, brier=0.2), primary="brier") == LR


def test_candidates_can_be_compared_by_every_metric_that_has_a_better_side():
    assert set(get_args(ComparedMetric)) == {name for name in METRICS if RULES[name].direction in {"loss", "rise"}}
    assert {name for name in METRICS if RULES[name].direction == "rise"} == LOWER_IS_BETTER


def test_without_its_primary_metric_a_model_is_no_candidate():
    assert chosen(model(LR, None), model(XGB, 0.60)) == XGB
    assert chosen(model(LR, None)) is None
    assert chosen() is None


def test_a_missing_secondary_metric_does_not_win():
    assert chosen(model(LR, 0.67), model(XGB, 0.67, average_precision=0.1)) == XGB


def test_reading_candidates(warehouse):
    months = MonthRange.of("2022-08", "2022-09")
    slices = {family: Slice(model_table(family), MonthRange.of("2022-01", "2022-12")) for family in FAMILIES}
    with warehouse.read("test") as connection:
        found = read_candidates(connection, slices, months)
    assert {month: [each.family for each in models] for month, models in found.items()} == {
        dt.date(2022, 8, 1): [LR],
        dt.date(2022, 9, 1): [LR, XGB],
    }
    simple = found[dt.date(2022, 8, 1)][0]
    assert simple.model_id == "logistic_regression@202208:0"
    assert simple.metrics == {"roc_auc": pytest.approx(0.68)}
    assert simple.fitted_last == dt.date(2022, 3, 1)
    assert simple.threshold == 0.2


@pytest.mark.parametrize("metrics", [None, '{"roc_auc": {"value": null}}', '{"roc_auc": {}}'])
def test_metrics_that_are_not_there(warehouse, metrics):
    write_candidates(warehouse, LR, [candidate_row(dt.date(2022, 8, 1), LR, metrics=metrics)])
    with warehouse.read("test") as connection:
        months = MonthRange.of("2022-08")
        found = read_candidates(connection, {LR: Slice(model_table(LR), months)}, months)
    assert challenger_of(found[dt.date(2022, 8, 1)], "roc_auc", 0.0) is None


def test_training_that_ends_after_validation_counts(warehouse):
    row = candidate_row(dt.date(2022, 8, 1), LR, training_last=dt.date(2022, 5, 1), validation_last=None)
    write_candidates(warehouse, LR, [row])
    with warehouse.read("test") as connection:
        months = MonthRange.of("2022-08")
        found = read_candidates(connection, {LR: Slice(model_table(LR), months)}, months)
    assert found[dt.date(2022, 8, 1)][0].fitted_last == dt.date(2022, 5, 1)
