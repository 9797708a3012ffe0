"""Predictions of a month: by its own models, the same rows in a range, and only with the bytes that were judged."""

from __future__ import annotations

import datetime as dt
import json

import pyarrow as pa
import pytest

from health_pipeline.errors import ModelError
from health_pipeline.modeling import PREDICTIONS, load_bundle, model_table, score_months, train_months
from health_pipeline.modeling.rows import arrow_rows
from health_pipeline.months import MonthRange
from health_pipeline.promotion import CHAMPION
from health_pipeline.warehouse import Slice
from health_pipeline_tests.modeling.conftest import CLOCK, FEATURES, LABELS, MONTHS, whole

SCORED = MonthRange.of("2023-06", "2023-07")
FAMILIES = ("logistic_regression", "xgboost")


@pytest.fixture
def trained(warehouse, settings, monkeypatch):
    """Candidates of two months; the champion of the second month is the logistic regression of the first."""
    from health_pipeline.modeling.tracking import Tracked, Tracker

    monkeypatch.setattr(Tracker, "log", lambda *_args: Tracked("run", "1"))
    for family in FAMILIES:
        table = model_table(family)
        previous = Slice(table, MonthRange(MONTHS.first, SCORED.first))
        rows = train_months(family, warehouse, whole(FEATURES), whole(LABELS), previous, SCORED, settings, CLOCK, str)
        warehouse.replace(table, SCORED, rows)
        if family == "logistic_regression":
            first = rows.to_pylist()[0]
    known = {name: first[name] for name in ("model_id", "artefact_path", "artefact_hash", "threshold")}
    champion = {**known, "month": SCORED.last, "family": "logistic_regression", "decision": "SKIP"}
    champion |= {
        "reason": "carried over",
        "holdout_rows": 0,
        "criteria": "[]",
        "metrics": "{}",
        "model_month": SCORED.first,
    }
    warehouse.replace(CHAMPION, MonthRange(SCORED.last, SCORED.last), arrow_rows(CHAMPION, [champion]))
    return warehouse


def score(warehouse, settings, months):
    candidates = {family: whole(model_table(family)) for family in FAMILIES}
    return score_months(warehouse, whole(FEATURES), candidates, whole(CHAMPION), months, settings)


def test_every_discharge_is_scored_by_every_model_in_force(trained, settings):
    predictions = score(trained, settings, SCORED)
    counts = predictions.group_by(["month", "model_role"]).aggregate([([], "count_all")]).to_pylist()
    assert {(row["month"].month, row["model_role"]): row["count_all"] for row in counts} == {
        (6, "model_1"): 150,
        (6, "model_2"): 150,
        (7, "model_1"): 150,
        (7, "model_2"): 150,
        (7, "champion"): 150,
    }
    trained.replace(PREDICTIONS, SCORED, predictions)


def test_a_range_gives_the_rows_of_single_months_and_repeats_itself(trained, settings):
    together = score(trained, settings, SCORED)
    apart = pa.concat_tables([score(trained, settings, MonthRange(month, month)) for month in SCORED])
    assert together.equals(apart)
    assert together.equals(score(trained, settings, SCORED))


def test_probability_label_and_confidence_are_those_of_the_bundle(trained, settings):
    rows = [row for row in score(trained, settings, SCORED).to_pylist() if row["model_role"] == "champion"]
    with trained.read("test") as connection:
        features = connection.execute(
            f"SELECT * FROM {whole(FEATURES).only(MonthRange(SCORED.last, SCORED.last))} ORDER BY encounter_id"
        ).to_arrow_table()
        path, threshold = connection.execute("SELECT artefact_path, threshold FROM models.champion").fetchone()
    bundle = load_bundle(settings.home / path)
    for row, probability in zip(rows, bundle.probabilities(features), strict=True):
        assert row["probability"] == probability
        assert row["label"] == (probability >= threshold)
        assert row["confidence"] == (probability if row["label"] else 1 - probability)
        assert row["inference_dt"] == dt.datetime.fromisoformat("2023-08-01")
        assert row["model_id"] == bundle.model_id


def test_the_feature_hash_follows_the_values(trained, settings):
    hashes = score(trained, settings, SCORED).to_pylist()
    by_stay = {}
    for row in hashes:
        by_stay.setdefault(row["encounter_id"], set()).add(row["feature_hash"])
    assert all(len(found) == 1 for found in by_stay.values())
    assert len({next(iter(found)) for found in by_stay.values()}) > 0.95 * len(by_stay)


def test_a_new_category_is_scored_and_named(trained, settings):
    with trained.write("test") as connection:
        connection.execute("UPDATE gold.features SET payer = 'barter' WHERE encounter_id = 'e002600'")
    rows = [row for row in score(trained, settings, SCORED).to_pylist() if row["encounter_id"] == "e002600"]
    assert len(rows) >= 2
    assert {row["warnings"] for row in rows} == {"unseen:payer"}


def test_a_damaged_bundle_is_refused(trained, settings):
    for path in (settings.home / "models" / "xgboost").glob("*/bundle.json"):
        document = json.loads(path.read_text())
        path.write_text(json.dumps({**document, "threshold": 0.0}))
    with pytest.raises(ModelError, match="digest"):
        score(trained, settings, SCORED)


def test_a_month_without_models_has_no_predictions(trained, settings):
    empty = score(trained, settings, MonthRange.of("2022-03"))
    assert empty.num_rows == 0
    assert empty.column_names == list(PREDICTIONS.column_names)
