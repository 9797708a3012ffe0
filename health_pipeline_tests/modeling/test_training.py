"""A range of months is its months; the future cannot be seen; the holdout changes no byte of a model."""

from __future__ import annotations

import datetime as dt
import json

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pytest

from health_pipeline.clock import frozen_clock
from health_pipeline.errors import ModelError, SettingsError
from health_pipeline.modeling import load_bundle, model_table, train_months
from health_pipeline.modeling.families import FAMILIES
from health_pipeline.months import MonthRange, month_key, parse_month, shift
from health_pipeline.warehouse import Slice, Warehouse
from health_pipeline_tests.modeling.conftest import CLOCK, FEATURES, LABELS, MONTHS, settings_in, store, whole

SAME_EVERYWHERE = [
    name
    for name in model_table("xgboost").column_names
    if name not in {"mlflow_run_id", "mlflow_version", "trained_at"}
]


@pytest.fixture(autouse=True)
def _no_tracking(monkeypatch):
    """MLflow has its own test; here it would only cost time."""
    from health_pipeline.modeling.tracking import Tracked, Tracker

    monkeypatch.setattr(Tracker, "log", lambda *_args: Tracked("run", "1"))


def train(family, warehouse, settings, months, previous=None):
    table = model_table(family)
    earlier = previous or Slice(table, MonthRange(MONTHS.first, shift(months.first, -1)))
    return train_months(family, warehouse, whole(FEATURES), whole(LABELS), earlier, months, settings, CLOCK, str)


def comparable(rows: pa.Table) -> list[dict]:
    return rows.select(SAME_EVERYWHERE).to_pylist()


def bundle_files(settings, row):
    folder = settings.home / row["artefact_path"]
    return {path.name: path.read_bytes() for path in folder.iterdir()}


@pytest.mark.parametrize("family", ["logistic_regression", "xgboost"])
def test_a_range_gives_the_rows_of_single_months(family, warehouse, settings):
    """Tuning included: the third month carries the parameters that the first one tuned."""
    settings = settings_in(settings.home, samples=3, tune_every_months=3, max_rounds=40)
    first = settings.first_model_month
    months = MonthRange(first, shift(first, 3))
    together = comparable(train(family, warehouse, settings, months))
    apart = []
    for month in months:
        single = train(family, warehouse, settings, MonthRange(month, month))
        warehouse.replace(model_table(family), MonthRange(month, month), single)
        apart += comparable(single)
    assert together == apart
    tuned = [json.loads(row["parameters"])["tuning"]["month"] for row in together]
    assert tuned == [f"{first:%Y-%m}"] * 3 + [f"{shift(first, 3):%Y-%m}"]


def test_a_single_month_tunes_its_tuning_month_when_no_row_carries_it(warehouse, settings):
    settings = settings_in(settings.home, samples=3, tune_every_months=4, max_rounds=40)
    first = settings.first_model_month
    later = MonthRange(shift(first, 2), shift(first, 2))
    alone = comparable(train("xgboost", warehouse, settings, later))
    warehouse.replace(
        model_table("xgboost"),
        MonthRange(first, first),
        train("xgboost", warehouse, settings, MonthRange(first, first)),
    )
    assert comparable(train("xgboost", warehouse, settings, later)) == alone


def test_carried_parameters_are_taken_from_the_earlier_row(warehouse, settings):
    settings = settings_in(settings.home, samples=3, tune_every_months=6, max_rounds=40)
    first = settings.first_model_month
    row = train("logistic_regression", warehouse, settings, MonthRange(first, first)).to_pylist()[0]
    parameters = json.loads(row["parameters"])
    parameters["hyperparameters"] = {"strength": 777.0, "knots": 0, "fewest_rows": 50}
    row["parameters"] = json.dumps(parameters)
    table = model_table("logistic_regression")
    warehouse.replace(table, MonthRange(first, first), pa.Table.from_pylist([row]))
    second = MonthRange(shift(first, 1), shift(first, 1))
    carried = train("logistic_regression", warehouse, settings, second).to_pylist()[0]
    assert json.loads(carried["parameters"])["hyperparameters"]["strength"] == 777.0
    other_recipe = settings_in(settings.home, samples=2, tune_every_months=6, max_rounds=40)
    tuned = train("logistic_regression", warehouse, other_recipe, second).to_pylist()[0]
    assert json.loads(tuned["parameters"])["hyperparameters"]["strength"] != 777.0


def test_a_tuning_month_that_was_made_again_goes_before_months_that_carry_its_former_parameters(warehouse, settings):
    settings = settings_in(settings.home, samples=2, tune_every_months=6, max_rounds=40)
    first = settings.first_model_month
    table = model_table("logistic_regression")
    for steps, strength in ((0, 777.0), (1, 555.0)):
        month = MonthRange(shift(first, steps), shift(first, steps))
        row = train("logistic_regression", warehouse, settings, month).to_pylist()[0]
        parameters = json.loads(row["parameters"])
        parameters["hyperparameters"] = {"strength": strength, "knots": 0, "fewest_rows": 50}
        warehouse.replace(table, month, pa.Table.from_pylist([row | {"parameters": json.dumps(parameters)}]))
    third = MonthRange(shift(first, 2), shift(first, 2))
    carried = train("logistic_regression", warehouse, settings, third).to_pylist()[0]
    assert json.loads(carried["parameters"])["hyperparameters"]["strength"] == 777.0


@pytest.mark.parametrize("family", ["logistic_regression", "xgboost"])
def test_rows_after_the_cut_off_change_nothing(family, rows, tmp_path):
    """Features and labels from M-1 on are turned upside down: the row and the bundle stay the same, bit for bit."""
    month = parse_month("2023-06")
    cut_off = shift(month, -1)
    found = []
    for name, disturb in (("as it was", False), ("disturbed", True)):
        settings = settings_in(tmp_path / name, samples=2, max_rounds=40)
        warehouse = Warehouse.from_settings(settings)
        store(warehouse, *(_disturbed(table, cut_off) if disturb else table for table in rows))
        row = train(family, warehouse, settings, MonthRange(month, month)).to_pylist()[0]
        found.append((row, bundle_files(settings, row)))
    (clean, clean_files), (disturbed, disturbed_files) = found
    assert clean == disturbed
    assert clean_files == disturbed_files


@pytest.mark.parametrize("family", ["logistic_regression", "xgboost"])
def test_the_holdout_changes_measures_but_no_byte_of_the_model(family, rows, tmp_path):
    month = parse_month("2023-06")
    found = []
    for name, disturb in (("as it was", False), ("disturbed", True)):
        settings = settings_in(tmp_path / name, samples=2, max_rounds=40)
        warehouse = Warehouse.from_settings(settings)
        holdout_first = shift(month, -3)
        store(warehouse, *(_disturbed(table, holdout_first) if disturb else table for table in rows))
        row = train(family, warehouse, settings, MonthRange(month, month)).to_pylist()[0]
        assert row["holdout_first"] == holdout_first
        found.append((row, bundle_files(settings, row)))
    (clean, clean_files), (disturbed, disturbed_files) = found
    assert clean_files.pop("card.html") != disturbed_files.pop("card.html")  # the card tells the measures
    assert clean_files == disturbed_files
    assert clean["model_id"] == disturbed["model_id"]
    assert clean["metrics"] != disturbed["metrics"]
    assert clean["data_snapshot"] != disturbed["data_snapshot"]


def _disturbed(table: pa.Table, first: dt.date) -> pa.Table:
    """From ``first`` on: outcomes flipped, numbers and categories replaced."""
    later = pc.greater_equal(table["month"], pa.scalar(first, pa.date32()))
    for position, field in enumerate(table.schema):
        column = table[field.name]
        if pa.types.is_boolean(field.type):
            changed = pc.invert(column)
        elif pa.types.is_floating(field.type):
            changed = pc.fill_null(pc.multiply(column, -3.5), 9.0)
        elif field.name in {"discharge_disposition", "payer"}:
            changed = pa.array(["from the future"] * len(table))
        else:
            continue
        table = table.set_column(position, field, pc.if_else(later, changed, column))
    return table


def test_a_training_row_does_change_the_model(rows, tmp_path):
    """The two tests above could pass on a model that ignores its data."""
    month = parse_month("2023-06")
    ids = []
    for name, first in (("one", None), ("two", shift(month, -8))):
        settings = settings_in(tmp_path / name)
        warehouse = Warehouse.from_settings(settings)
        store(warehouse, *(_disturbed(table, first) if first else table for table in rows))
        row = train("logistic_regression", warehouse, settings, MonthRange(month, month)).to_pylist()[0]
        ids.append(row["model_id"])
    assert ids[0] != ids[1]


def test_months_without_history_or_events_are_skipped_with_the_reason(warehouse, settings):
    early = MonthRange.of("2022-03", "2022-04")
    rows = train("xgboost", warehouse, settings, early).to_pylist()
    assert [row["status"] for row in rows] == ["skipped", "skipped"]
    assert all("months of training history" in row["reason"] and row["model_id"] is None for row in rows)
    strict = settings_in(settings.home, min_events=100_000)
    month = MonthRange.of("2023-06")
    (row,) = train("xgboost", warehouse, strict, month).to_pylist()
    assert row["reason"] == "fewer than 100000 readmissions in training"
    assert row["holdout_last"] == parse_month("2023-04")
    strict = settings_in(settings.home, min_rows=100_000)
    (row,) = train("xgboost", warehouse, strict, month).to_pylist()
    assert row["reason"] == "fewer than 100000 training rows"


def test_one_outcome_only_is_skipped(rows, tmp_path):
    features, labels = rows
    position = labels.column_names.index("readmitted_30d")
    nobody = labels.set_column(position, "readmitted_30d", pa.array(np.zeros(labels.num_rows, dtype=bool)))
    settings = settings_in(tmp_path)
    warehouse = Warehouse.from_settings(settings)
    store(warehouse, features, nobody)
    (row,) = train("xgboost", warehouse, settings, MonthRange.of("2023-06")).to_pylist()
    assert row["status"] == "skipped"
    assert "readmissions" in row["reason"]


def test_labels_of_two_cohort_definitions_are_not_mixed(warehouse, settings, rows):
    month = settings.first_model_month
    labels = rows[1]
    mine = pc.if_else(pc.less(labels["month"], shift(MONTHS.first, 2)), "cms_30_day-1-309d400b", "mine-1-0123abcd")
    position = labels.column_names.index("cohort_version")
    warehouse.replace(LABELS, MONTHS, labels.set_column(position, "cohort_version", mine))
    said = "different cohort definitions: cms_30_day-1-309d400b, mine-1-0123abcd"
    with pytest.raises(ModelError, match=said):
        train("xgboost", warehouse, settings, MonthRange(month, month))
    later = shift(month, 10)  # whose windows lie behind the change
    (row,) = train("xgboost", warehouse, settings, MonthRange(later, later)).to_pylist()
    assert row["status"] == "trained"


def test_the_row_tells_where_the_model_comes_from(warehouse, settings):
    month = parse_month("2023-06")
    (row,) = train("xgboost", warehouse, settings, MonthRange(month, month)).to_pylist()
    bundle = load_bundle(settings.home / row["artefact_path"], row["artefact_hash"])
    assert row["model_id"] == bundle.model_id
    assert row["model_id"].startswith("xgb-202306-")
    assert row["trained_at"].isoformat() == "2024-01-02T00:00:00"
    assert row["threshold"] == bundle.threshold
    assert (row["training_last"], row["validation_first"]) == (shift(month, -6), shift(month, -5))
    assert row["training_rows"] == 12 * 150
    metrics = json.loads(row["metrics"])
    auc = metrics["roc_auc"]
    assert auc["ci_low"] < auc["value"] < auc["ci_high"]
    assert auc["n"] == row["holdout_rows"] == 300
    assert month_key(month)[:7] == bundle.metadata["month"]


def test_the_clock_only_moves_trained_at(warehouse, settings):
    months = MonthRange.of("2023-06")
    one = train("logistic_regression", warehouse, settings, months)
    previous = Slice(model_table("logistic_regression"), MonthRange.of("2022-01"))
    later = frozen_clock(dt.datetime(2031, 1, 1, tzinfo=dt.UTC))
    two = train_months(
        "logistic_regression", warehouse, whole(FEATURES), whole(LABELS), previous, months, settings, later, str
    )
    assert comparable(one) == comparable(two)


def test_demographics_can_be_kept_from_models(warehouse, settings):
    months = MonthRange.of("2023-06")
    without = settings.model_copy(update={"features": settings.features.model_copy(update={"demographics": False})})
    names = []
    for each in (settings, without):
        (row,) = train("logistic_regression", warehouse, each, months).to_pylist()
        names.append(load_bundle(settings.home / row["artefact_path"]).feature_names)
    assert set(names[0]) - set(names[1]) == {"age_years"}


def test_an_unknown_family_is_refused_by_name(warehouse, settings):
    with pytest.raises(SettingsError, match="neural_network"):
        train_months(
            "neural_network", warehouse, whole(FEATURES), whole(LABELS), whole(FEATURES), MONTHS, settings, CLOCK, str
        )
    assert "neural_network" not in FAMILIES


def test_threads_do_not_change_a_bit(warehouse, settings):
    found = []
    for threads in (1, 2):
        each = settings_in(settings.home, threads=threads)
        found.append(comparable(train("xgboost", warehouse, each, MonthRange.of("2023-06", "2023-07"))))
        found.append(comparable(train("xgboost", warehouse, each, MonthRange.of("2023-06"))))
    assert found[0] == found[2]
    assert found[1] == found[3] == found[0][:1]
