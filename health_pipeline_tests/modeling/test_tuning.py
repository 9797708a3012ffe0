"""Tuning is repeatable, can be resumed, keeps patients apart, and ends hopeless trials."""

from __future__ import annotations

import json
from dataclasses import replace
from types import SimpleNamespace

import numpy as np
import pyarrow as pa
import pytest

from health_pipeline.modeling import model_table, train_months
from health_pipeline.modeling.candidate import read_subject
from health_pipeline.modeling.families import LogisticRegression, family_named
from health_pipeline.modeling.profiles import PROFILES, effort_of
from health_pipeline.modeling.tracking import Tracked, Tracker
from health_pipeline.modeling.tuning import carried, seed_of, tune, tuning_month
from health_pipeline.months import MonthRange, parse_month
from health_pipeline.settings import TrainingSettings
from health_pipeline.warehouse import Slice, Warehouse
from health_pipeline_tests.modeling.conftest import CLOCK, FEATURES, LABELS, settings_in, store, whole

MONTH = parse_month("2023-02")
EFFORT = replace(PROFILES["standard"], samples=6, max_rounds=60, grace_rounds=25)


class Valley:
    """Loss falls with the rounds towards a floor that depends on the strength alone."""

    def __init__(self):
        self.tried: list[float] = []
        self.rounds = 0

    def fit(self, parameters, seed, observer=None):
        self.tried.append(parameters["strength"])
        floor = abs(np.log10(parameters["strength"]) - 1.5)
        for rounds in range(25, 101, 25):
            self.rounds = rounds
            observer(rounds, floor + 1 / rounds)
        return SimpleNamespace(loss=floor)


def test_the_same_seed_tries_the_same_parameters_and_another_seed_others():
    runs = [Valley(), Valley(), Valley()]
    for prepared, seed in zip(runs, (1, 1, 2), strict=True):
        tune(LogisticRegression(), prepared, EFFORT, seed, MONTH)
    assert runs[0].tried == runs[1].tried != runs[2].tried
    assert runs[0].tried[0] == LogisticRegression().defaults["strength"]


def test_the_best_finished_trial_wins():
    tuned = tune(LogisticRegression(), Valley(), replace(EFFORT, samples=15), 1, MONTH)
    losses = [trial.loss for trial in tuned.trials if trial.state == "complete"]
    assert tuned.loss == min(losses)
    assert 10 < tuned.parameters["strength"] < 100
    assert len(tuned.trials) == 15


def test_hopeless_trials_end_early_and_never_before_the_grace():
    tuned = tune(LogisticRegression(), Valley(), replace(EFFORT, samples=15), 1, MONTH)
    assert any(trial.state == "pruned" for trial in tuned.trials)
    patient = replace(EFFORT, samples=15, grace_rounds=101)
    tuned = tune(LogisticRegression(), Valley(), patient, 1, MONTH)
    assert all(trial.state == "complete" for trial in tuned.trials)


def test_a_study_that_was_interrupted_goes_on_as_if_it_had_not_been(tmp_path):
    whole_run = Valley()
    uninterrupted = tune(LogisticRegression(), whole_run, EFFORT, 5, MONTH)
    storage = f"journal:{tmp_path / 'study.log'}"
    first, second = Valley(), Valley()
    tune(LogisticRegression(), first, replace(EFFORT, samples=3), 5, MONTH, storage)
    resumed = tune(LogisticRegression(), second, EFFORT, 5, MONTH, storage)
    assert len(first.tried) == 3
    assert [*first.tried, *second.tried] == whole_run.tried
    assert resumed.parameters == uninterrupted.parameters


def test_no_samples_keep_the_defaults():
    tuned = tune(LogisticRegression(), Valley(), replace(EFFORT, samples=0), 1, MONTH)
    assert tuned.parameters == LogisticRegression().defaults
    assert tuned.trials == ()


@pytest.mark.parametrize("family", ["logistic_regression", "random_forest", "xgboost"])
def test_defaults_lie_in_what_may_be_drawn(family, warehouse, settings):
    """The defaults are the first trial: a study must accept them."""
    subject = read_subject(warehouse, whole(FEATURES), whole(LABELS), MONTH, settings)
    effort = replace(EFFORT, samples=1, max_rounds=10)
    prepared = subject.prepare_for_tuning(family_named(family), effort, 1)
    tuned = tune(family_named(family), prepared, effort, 1, MONTH)
    assert tuned.parameters == family_named(family).defaults


def test_no_patient_is_on_both_sides_of_a_trial_and_the_holdout_is_not_there(warehouse, settings):
    seen = []

    class Spy:
        def prepare(self, training, validation, features, effort, threads):
            seen.append((training, validation))
            return Valley()

    subject = read_subject(warehouse, whole(FEATURES), whole(LABELS), MONTH, settings)
    subject.prepare_for_tuning(Spy(), EFFORT, 1)
    ((training, validation),) = seen
    shared = np.isin(subject.training.patients, subject.validation.patients)
    assert shared.any()
    assert training.inputs.rows == int((~shared).sum())
    assert validation.inputs.rows == subject.validation.size


@pytest.mark.parametrize("family", ["logistic_regression", "xgboost"])
def test_where_the_same_patients_come_every_month_the_defaults_stay(family, settings, rows, monkeypatch):
    """No training row, or no readmission, is left beside the patients of the validation rows."""
    monkeypatch.setattr(Tracker, "log", lambda *_args: Tracked("run", "1"))
    everybody = pa.array([f"{row % 150:032x}" for row in range(rows[0].num_rows)])
    settings = settings_in(settings.home, profile="standard", samples=3, max_rounds=20)
    warehouse = Warehouse.from_settings(settings)
    store(warehouse, *(table.set_column(2, "patient_key", everybody) for table in rows))
    table = model_table(family)
    months = MonthRange(settings.first_model_month, settings.first_model_month)
    earlier = Slice(table, MonthRange.of("2022-01"))
    found = train_months(family, warehouse, whole(FEATURES), whole(LABELS), earlier, months, settings, CLOCK, str)
    (row,) = found.to_pylist()
    assert row["status"] == "trained"
    assert json.loads(row["parameters"])["hyperparameters"] == family_named(family).defaults


def test_tuning_months_do_not_depend_on_the_range():
    first = parse_month("2023-02")
    found = [tuning_month(parse_month(month), first, 6) for month in ("2023-02", "2023-07", "2023-08", "2024-02")]
    assert found == [parse_month(month) for month in ("2023-02", "2023-02", "2023-08", "2024-02")]
    assert tuning_month(parse_month("2022-05"), first, 6) == parse_month("2022-05")


def test_parameters_of_another_month_or_recipe_are_not_carried():
    row = {"hyperparameters": {"a": 1}, "tuning": {"month": "2023-02", "loss": 0.3, "recipe": {"samples": 3}}}
    assert carried(row, MONTH, {"samples": 3}).parameters == {"a": 1}
    assert carried(row, MONTH, {"samples": 4}) is None
    assert carried(row, parse_month("2023-03"), {"samples": 3}) is None
    assert carried({}, MONTH, {"samples": 3}) is None


def test_seeds_differ_by_purpose_and_not_by_process():
    assert seed_of(1, "xgboost", "2023-02") == seed_of(1, "xgboost", "2023-02") != seed_of(1, "xgboost", "2023-03")
    assert seed_of(7, "a") == 609167927


def test_knobs_win_over_the_profile():
    assert effort_of(TrainingSettings(profile="quick")) == PROFILES["quick"]
    knobs = TrainingSettings(profile="thorough", samples=0, max_rounds=7, grace_rounds=2, bags=3, replicates=9)
    effort = effort_of(knobs)
    assert (effort.samples, effort.max_rounds, effort.grace_rounds) == (0, 7, 2)
    assert (effort.bags, effort.replicates, effort.profile) == (3, 9, "thorough")


def test_a_kept_study_does_not_answer_for_rows_that_came_after_it(tmp_path, warehouse, rows, monkeypatch):
    """Outcomes were restated: the parameters are those a study without a past finds, not those of the old rows."""
    monkeypatch.setattr(Tracker, "log", lambda *_args: Tracked("run", "1"))
    features, labels = rows
    table = model_table("logistic_regression")

    def tuning(storage: str | None) -> dict:
        settings = settings_in(tmp_path, samples=3, study_storage=storage)
        month = MonthRange(settings.first_model_month, settings.first_model_month)
        slices = whole(FEATURES), whole(LABELS), Slice(table, MonthRange(month.first, month.first))
        row = train_months("logistic_regression", warehouse, *slices, month, settings, CLOCK, str).to_pylist()[0]
        return json.loads(row["parameters"])["tuning"]

    kept = f"journal:{tmp_path / 'study.log'}"
    before = tuning(kept)
    assert tuning(kept) == before == tuning(None)
    place = labels.schema.get_field_index("readmitted_30d")
    restated = pa.array(np.random.default_rng(5).random(labels.num_rows) < 0.3)
    store(warehouse, features, labels.set_column(place, "readmitted_30d", restated))
    assert tuning(kept) == tuning(None) != before
