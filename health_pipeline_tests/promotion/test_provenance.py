"""The gate scores through the very artefact that will be served, and refuses any other."""

from __future__ import annotations

import dataclasses
import datetime as dt
import re

import numpy as np
import pyarrow as pa
import pytest

from health_pipeline.errors import ModelError
from health_pipeline.modeling.bundle import Bundle, Member, load_bundle
from health_pipeline.modeling.encoding import Encoding, Feature
from health_pipeline.modeling.predictors import Linear
from health_pipeline.promotion.candidates import Model
from health_pipeline.promotion.provenance import artefact_scorer, refuse_other_schema

BUNDLE = Bundle(
    family="logistic_regression",
    features=(Feature("age_years", "numeric"),),
    members=(Member((Encoding("age_years", "numeric"),), Linear(-4.0, (0.03,))),),
    threshold=0.2,
)
ROWS = pa.table({"age_years": [20.0, 50.0, 90.0], "encounter_id": ["1", "2", "3"]})


@pytest.fixture
def model(tmp_path):
    digest = BUNDLE.save(tmp_path / "models" / "lr")
    return Model(
        model_id="lr-202306",
        family="logistic_regression",
        month=dt.date(2023, 6, 1),
        profile="standard",
        fitted_last=dt.date(2023, 1, 1),
        artefact_path="models/lr",
        artefact_hash=digest,
        feature_schema_hash="schema-1",
        threshold=0.2,
    )


def test_scores_are_those_of_the_stored_bundle(tmp_path, model):
    found = artefact_scorer(tmp_path)(model, ROWS)
    assert np.array_equal(found, load_bundle(tmp_path / "models" / "lr").probabilities(ROWS))
    assert found == pytest.approx(1 / (1 + np.exp(4 - 0.03 * np.array([20, 50, 90]))))


def test_an_exchanged_artefact_is_refused(tmp_path, model):
    recorded = model.artefact_hash
    stored = dataclasses.replace(BUNDLE, threshold=0.3).save(tmp_path / "models" / "lr")
    with pytest.raises(ModelError) as caught:
        artefact_scorer(tmp_path)(model, ROWS)
    assert str(caught.value) == (
        f"artefact hash of lr-202306 differs: stored {stored}, expected {recorded} | where: models/lr | "
        "remedy: restore the folder or train again"
    )


def test_a_missing_artefact_is_refused(tmp_path, model):
    with pytest.raises(ModelError, match="no readable model bundle"):
        artefact_scorer(tmp_path)(dataclasses.replace(model, artefact_path="models/gone"), ROWS)


def test_another_feature_schema_is_refused(model):
    other = dataclasses.replace(model, model_id="new", feature_schema_hash="schema-2")
    with pytest.raises(ModelError, match=re.escape("of lr-202306 differs: stored schema-1, expected schema-2")):
        refuse_other_schema(model, other)
    refuse_other_schema(model, dataclasses.replace(other, feature_schema_hash="schema-1"))
