"""Explanations add up to the prediction; the card tells numbers, never a small one."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pyarrow as pa
import pytest

from health_pipeline.modeling.candidate import fit_candidate, read_subject
from health_pipeline.modeling.card import group_rows, risk_rows, write_card
from health_pipeline.modeling.explain import coefficients, contributions, importance
from health_pipeline.modeling.families import family_named
from health_pipeline.modeling.profiles import effort_of
from health_pipeline.modeling.tuning import Tuned
from health_pipeline.months import parse_month
from health_pipeline.warehouse import Warehouse
from health_pipeline_tests.modeling.conftest import FEATURES, LABELS, hospital, settings_in, store, whole

MONTH = parse_month("2023-06")


@pytest.fixture(scope="module")
def settings(tmp_path_factory):
    return settings_in(tmp_path_factory.mktemp("home"))


@pytest.fixture(scope="module", params=["logistic_regression", "xgboost"])
def candidate(request, settings):
    warehouse = Warehouse.from_settings(settings)
    store(warehouse, *hospital())
    subject = read_subject(warehouse, whole(FEATURES), whole(LABELS), MONTH, settings)
    family = family_named(request.param)
    effort = replace(effort_of(settings.training), bags=2, max_rounds=40)
    return fit_candidate(family, subject, Tuned(MONTH, dict(family.defaults)), settings, effort, 1)


def test_contributions_add_up_to_the_probability(candidate):
    rows = candidate.subject.holdout.rows.slice(0, 80)
    found = contributions(candidate.bundle, rows)
    logit = found.base + found.values.sum(axis=1)
    probability = 1 / (1 + np.exp(-logit))
    np.testing.assert_allclose(probability, candidate.bundle.probabilities(rows), atol=2e-6)


def test_what_drives_the_outcome_matters_most(candidate):
    ranked = list(importance(candidate.bundle, candidate.subject.training.rows))
    assert set(ranked[:4]) >= {"prior_inpatient_1y", "discharge_disposition"}
    assert ranked.index("prior_inpatient_1y") < ranked.index("payer")


def test_coefficients_carry_the_names_of_their_columns(candidate):
    found = coefficients(candidate.bundle)
    if candidate.bundle.family == "xgboost":
        assert found == {}
        return
    assert found["discharge_disposition=skilled_nursing"] > found["discharge_disposition=home"]


def test_the_card_names_the_model_and_its_windows_and_no_patient(candidate, settings):
    page = write_card(candidate, settings)
    assert candidate.bundle.model_id in page
    assert "2023-03..2023-04" in page
    assert "TRIPOD+AI" in page
    assert "quick profile" in page
    keys = candidate.subject.holdout.rows["patient_key"].to_pylist()
    stays = candidate.subject.holdout.rows["encounter_id"].to_pylist()
    assert not any(name in page for name in (*keys, *stays))
    assert write_card(candidate, settings) == page


def test_small_groups_are_suppressed_and_large_ones_are_not(candidate):
    holdout = candidate.subject.holdout
    probabilities = candidate.bundle.probabilities(holdout.rows)
    found = {
        row.level: row for row in group_rows(holdout.rows, holdout.y, probabilities, holdout.patients, smallest=11)
    }
    events = {
        level: int(holdout.y[np.array(holdout.rows["payer"].to_pylist(), dtype=object) == level].sum())
        for level in ("medicare", "medicaid")
    }
    assert events["medicaid"] < 11 <= events["medicare"]
    assert found["medicaid"].rows is None
    assert found["medicaid"].roc_auc is None
    assert found["medicare"].rows > 0


@pytest.mark.parametrize(
    ("sexes", "ages", "hidden"),
    [
        ({"female": 200, "male": 196, None: 4}, {50.0: 200, 70.0: 200}, {"male", "unknown"}),
        ({"female": 220, "male": 180}, {50.0: 190, 70.0: 205, None: 5}, {"45 to 64"}),
        ({"female": 200, "male": 100, "other": 100}, {50.0: 200, 70.0: 200}, set()),
    ],
    ids=["a small group", "rows without a value", "nothing small"],
)
def test_no_small_group_can_be_subtracted_from_what_the_card_shows(sexes, ages, hidden):
    def column(counts):
        return [value for value, rows in counts.items() for _ in range(rows)]

    rows = pa.table({"sex": column(sexes), "age_years": pa.array(column(ages), pa.float64())})
    generator = np.random.default_rng(2)
    y = (generator.random(400) < 0.4).astype(float)
    found = group_rows(rows, y, generator.random(400), np.arange(400), smallest=11)
    assert {row.level for row in found if row.rows is None} - {"under 45", "80 and older"} == hidden
    for attribute in ("sex", "age"):
        shown = sum(row.rows for row in found if row.attribute == attribute and row.rows is not None)
        assert not 0 < 400 - shown < 11


def test_a_rare_word_of_free_text_is_not_named_on_the_card():
    rows = pa.table({"race": ["misplaced"] * 10 + [None] * 15 + ["white"] * 375})
    y = (np.arange(400) % 2).astype(float)
    found = group_rows(rows, y, np.linspace(0, 1, 400), np.arange(400), smallest=11)
    assert [row.level for row in found if row.attribute == "race"] == ["other", "unknown", "white"]


def test_an_observed_rate_of_few_events_is_left_out():
    y = np.zeros(200)
    y[-30:] = 1
    rows = risk_rows(np.linspace(0, 1, 200), y, smallest=5)
    assert [row.observed for row in rows] == [None] * 8 + [0.5, None]
