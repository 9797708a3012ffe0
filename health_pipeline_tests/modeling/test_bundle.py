"""The artefact: the same bytes, the same probability everywhere, and no surprise in the rows that stops it."""

from __future__ import annotations

import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import numpy as np
import pyarrow as pa
import pytest

from health_pipeline.errors import ModelError
from health_pipeline.modeling.bundle import Bundle, load_bundle
from health_pipeline.modeling.candidate import Subject, fit_candidate, read_subject
from health_pipeline.modeling.encoding import encode, read_inputs
from health_pipeline.modeling.families import family_named
from health_pipeline.modeling.families.base import Sample
from health_pipeline.modeling.preprocessing import learn_features
from health_pipeline.modeling.profiles import PROFILES, effort_of
from health_pipeline.modeling.tuning import Tuned
from health_pipeline.months import parse_month
from health_pipeline.settings import Settings
from health_pipeline.warehouse import Warehouse
from health_pipeline_tests.modeling.conftest import FEATURES, LABELS, hospital, settings_in, store, whole

MONTH = parse_month("2023-06")


@pytest.fixture(scope="module")
def settings(tmp_path_factory) -> Settings:
    return settings_in(tmp_path_factory.mktemp("home"))


@pytest.fixture(scope="module")
def subject(settings) -> Subject:
    warehouse = Warehouse.from_settings(settings)
    store(warehouse, *hospital())
    subject = read_subject(warehouse, whole(FEATURES), whole(LABELS), MONTH, settings)
    assert isinstance(subject, Subject)
    return subject


@pytest.fixture(scope="module", params=["logistic_regression", "random_forest", "xgboost"])
def bundle(request, settings, subject) -> Bundle:
    family = family_named(request.param)
    effort = replace(effort_of(settings.training), bags=2, max_rounds=40)
    return fit_candidate(family, subject, Tuned(MONTH, dict(family.defaults)), settings, effort, 1).bundle


def with_column(rows: pa.Table, name: str, values) -> pa.Table:
    column = values if isinstance(values, pa.Array) else pa.array(values)
    return rows.set_column(rows.column_names.index(name), name, column)


def test_saved_and_loaded_it_is_the_same_model(bundle, subject, tmp_path):
    digest = bundle.save(tmp_path / "one")
    loaded = load_bundle(tmp_path / "one", digest)
    assert loaded.files() == bundle.files()
    assert loaded.model_id == bundle.model_id
    rows = subject.holdout.rows
    np.testing.assert_array_equal(loaded.probabilities(rows), bundle.probabilities(rows))


def test_the_folder_holds_data_only(bundle, tmp_path):
    bundle.save(tmp_path / "one")
    names = {path.suffix for path in (tmp_path / "one").iterdir()}
    assert names <= {".json", ".onnx", ".ubj"}


def test_other_bytes_than_those_judged_are_refused(bundle, tmp_path):
    digest = bundle.save(tmp_path / "one")
    document = tmp_path / "one" / "bundle.json"
    document.write_text(document.read_text().replace('"threshold": 0', '"threshold": 1'))
    with pytest.raises(ModelError, match="digest"):
        load_bundle(tmp_path / "one", digest)


def test_no_bundle_and_another_format_are_refused(tmp_path):
    with pytest.raises(ModelError, match="no readable model bundle"):
        load_bundle(tmp_path)
    (tmp_path / "bundle.json").write_text('{"format": 99}')
    with pytest.raises(ModelError, match="format 99"):
        load_bundle(tmp_path)


def test_saving_again_keeps_what_lies_beside_the_bundle(bundle, tmp_path):
    bundle.save(tmp_path / "one")
    (tmp_path / "one" / "card.html").write_text("card")
    (tmp_path / "one" / "trees-9.onnx").write_text("left over")
    digest = bundle.save(tmp_path / "one")
    assert (tmp_path / "one" / "card.html").read_text() == "card"
    assert load_bundle(tmp_path / "one", digest).digest == digest


def test_a_model_that_is_trained_again_is_there_all_the_time(bundle, tmp_path, monkeypatch):
    """Scoring, a deployment or a backup may read it meanwhile, and the process may be killed at any moment."""
    digest = bundle.save(tmp_path / "one")
    seen, original = [], Path.rename

    def rename(path, target):
        seen.append((tmp_path / "one").exists())
        original(path, target)
        seen.append((tmp_path / "one").exists())

    monkeypatch.setattr(Path, "rename", rename)
    assert bundle.save(tmp_path / "one") == digest
    assert all(seen)
    (tmp_path / "one" / "bundle.json").write_text("damaged")
    assert bundle.save(tmp_path / "one") == digest
    assert load_bundle(tmp_path / "one", digest).model_id == bundle.model_id


def test_one_row_at_a_time_gives_the_batch(bundle, subject):
    rows = subject.holdout.rows.slice(0, 60)
    batch = bundle.probabilities(rows)
    single = [bundle.probabilities(rows.slice(index, 1))[0] for index in range(rows.num_rows)]
    shuffled = np.random.default_rng(0).permutation(rows.num_rows)
    np.testing.assert_allclose(single, batch, atol=1e-6, rtol=0)
    np.testing.assert_allclose(bundle.probabilities(rows.take(pa.array(shuffled))), batch[shuffled], atol=1e-6, rtol=0)


def test_the_onnx_graph_is_the_boosters(bundle, subject):
    """The graph that scores and the boosters that explain are one model, nulls included."""
    if bundle.family == "logistic_regression":
        pytest.skip("no trees")
    import xgboost as xgb

    inputs = read_inputs(subject.holdout.rows, bundle.features)
    (member,) = bundle.members
    matrix = encode(inputs, bundle.features, member.encodings, np.float32)
    assert np.isnan(matrix).any()
    margins = []
    for content in member.predictor.boosters:
        booster = xgb.Booster(model_file=bytearray(content))
        margins.append(booster.inplace_predict(matrix, predict_type="margin"))
    np.testing.assert_allclose(member.predictor.margins(matrix), np.mean(margins, axis=0), atol=2e-6)


def test_rows_of_any_shape_are_scored_and_reported(bundle, subject):
    rows = subject.holdout.rows.slice(0, 4)
    clean = bundle.score(rows)
    assert clean.inputs.counts() == {}
    changed = rows.drop_columns(["prior_inpatient_1y"]).append_column("unknown_column", pa.array([1, 2, 3, 4]))
    changed = with_column(changed, "emergency", [None, True, False, True])
    changed = with_column(changed, "discharge_disposition", ["moon", "home", None, "home"])
    changed = with_column(changed, "age_years", ["71", "old", " 40.5 ", None])
    scores = bundle.score(changed)
    assert np.isfinite(scores.probabilities).all()
    assert scores.inputs.counts() == {
        "invalid:age_years": 1,
        "missing_column:prior_inpatient_1y": 4,
        "null:age_years": 1,
        "null:discharge_disposition": 1,
        "null:emergency": 1,
        "unseen:discharge_disposition": 1,
    }
    assert scores.inputs.row_warnings()[1] == "missing_column:prior_inpatient_1y;invalid:age_years"


def test_a_model_does_not_name_what_few_rows_hold(settings, subject):
    rows = subject.training.rows
    words = np.array(rows["discharge_disposition"].to_pylist(), dtype=object)
    words[:10], words[10:21] = "misplaced", "rare"
    changed = replace(subject.training, rows=with_column(rows, "discharge_disposition", list(words)))
    family = family_named("logistic_regression")
    tuned, effort = Tuned(MONTH, dict(family.defaults)), effort_of(settings.training)
    bundle = fit_candidate(family, replace(subject, training=changed), tuned, settings, effort, 1).bundle
    stored = b"".join(content for content in bundle.files().values())
    assert b"misplaced" not in stored
    assert b"rare" in stored
    misplaced, rare, new = (
        bundle.score(with_column(rows.slice(0, 1), "discharge_disposition", [word]))
        for word in ("misplaced", "rare", "new")
    )
    assert misplaced.inputs.counts() == new.inputs.counts() == {"unseen:discharge_disposition": 1}
    assert rare.inputs.counts() == {}
    assert misplaced.probabilities == rare.probabilities == new.probabilities


@pytest.mark.parametrize("name", ["xgboost", "random_forest"])
def test_a_number_beyond_those_of_training_is_the_largest_and_no_null(name):
    """XGBoost tells nulls apart at about twice the largest number, and at as much below the smallest."""
    random = np.random.default_rng(1)
    count, learned = 6000, 4000
    high, low = random.uniform(0, 3, count), random.uniform(-3, 0, count)
    new = np.zeros(count, dtype=bool)
    nulls = random.random((3, count)) < 0.3
    y = (random.random(count) < 0.1 + 0.25 * nulls[0] + 0.25 * nulls[1] + 0.2 * nulls[2]).astype(float)
    high[learned::3] *= 8
    low[learned::3] *= 8
    new[learned::2] = True
    columns = zip(("high", "low", "new"), (high, low, new), nulls, strict=True)
    rows = pa.table({column: pa.array(values, mask=mask) for column, values, mask in columns})
    features = learn_features(rows.slice(0, learned), {"high": "numeric", "low": "numeric", "new": "boolean"}, 11)
    training = Sample(read_inputs(rows.slice(0, learned), features), y[:learned])
    validation = Sample(read_inputs(rows.slice(learned), features), y[learned:])
    family = family_named(name)
    fit = family.prepare(training, validation, features, PROFILES["quick"], 1).fit(family.defaults, 1)
    bundle = Bundle(name, features, fit.members)
    np.testing.assert_allclose(bundle.margins(validation.inputs), fit.margins, atol=1e-5)

    def margin(**values):
        row = pa.table({"high": [1.5], "low": [-1.5], "new": [False]} | {key: [each] for key, each in values.items()})
        return bundle.margins(read_inputs(row, features))[0]

    assert margin(high=1e30) == margin(high=high[:learned].max()) != margin(high=None)
    assert margin(low=-1e30) == margin(low=low[:learned].min()) != margin(low=None)
    assert margin(new=True) == margin(new=False) != margin(new=None)


def test_a_null_that_training_knew_is_no_warning(bundle, subject):
    rows = subject.holdout.rows.slice(0, 2)
    rows = with_column(rows, "last_hemoglobin", pa.nulls(2, pa.float64()))
    assert bundle.score(rows).inputs.counts() == {}


def test_an_infinite_number_is_a_null(bundle, subject):
    rows = subject.holdout.rows.slice(0, 1)
    rows = with_column(rows, "age_years", [float("inf")])
    scores = bundle.score(rows)
    assert np.isfinite(scores.probabilities).all()
    assert scores.inputs.counts() == {"null:age_years": 1}


def test_no_rows_give_no_scores(bundle, subject):
    assert bundle.probabilities(subject.holdout.rows.slice(0, 0)).shape == (0,)


def test_a_column_that_training_never_filled_is_no_feature(bundle):
    assert "never_filled" not in bundle.feature_names
    assert not {"month", "encounter_id", "patient_key", "discharged_at"} & set(bundle.feature_names)


def test_scoring_needs_neither_training_libraries_nor_pandas(bundle, tmp_path):
    """They are made impossible to import; pyarrow would otherwise pick up pandas by itself."""
    bundle.save(tmp_path / "one")
    code = (
        "import sys\n"
        "heavy = {'sklearn', 'pandas', 'mlflow', 'xgboost', 'optuna', 'scipy', 'duckdb', 'onnx'}\n"
        "class Absent:\n"
        "    def find_spec(self, name, path=None, target=None):\n"
        "        if name.split('.')[0] in heavy:\n"
        "            raise ImportError(name)\n"
        "sys.meta_path.insert(0, Absent())\n"
        "import pyarrow as pa\n"
        "from health_pipeline.modeling.bundle import load_bundle\n"
        f"p = load_bundle({str(tmp_path / 'one')!r}).probabilities(pa.table({{'age_years': [50.0]}}))\n"
        "assert 0 < p[0] < 1\n"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
