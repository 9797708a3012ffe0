from __future__ import annotations

import datetime as dt
import json

import pytest
from threadpoolctl import threadpool_limits

from health_pipeline.errors import ModelError
from health_pipeline.modeling.rows import arrow_rows
from health_pipeline.months import MonthRange, shift
from health_pipeline.promotion import CHAMPION
from health_pipeline_tests.promotion.history import (
    FAMILIES,
    candidate_row,
    run,
    score,
    settings_in,
    slices,
    write_candidates,
    write_months,
)

STORY = ["INITIAL", "SKIP", "DEPLOY", "SKIP", "SKIP", "DEPLOY_REFRESH"]


def test_story_of_half_a_year(rows):
    assert [row["decision"] for row in rows] == STORY
    assert [row["model_id"] for row in rows] == [
        "logistic_regression@202207:0",
        "logistic_regression@202207:0",
        "xgboost@202209:012",
        "xgboost@202209:012",
        "xgboost@202209:012",
        "xgboost@202212:012",
    ]
    assert [row["incumbent_id"] for row in rows][1:] == [row["model_id"] for row in rows][:-1]
    assert rows[0]["incumbent_id"] is None
    assert rows[1]["model_month"] == dt.date(2022, 7, 1)
    assert rows[1]["artefact_hash"] == rows[0]["artefact_hash"]
    assert rows[1]["fitted_last"] == dt.date(2022, 2, 1)
    assert rows[1]["threshold"] == 0.2
    assert rows[1]["holdout_first"] == dt.date(2022, 4, 1)
    assert rows[1]["holdout_last"] == dt.date(2022, 6, 1)
    assert rows[1]["holdout_rows"] == 2100
    metrics = json.loads(rows[2]["metrics"])
    assert 0.69 < metrics["roc_auc"]["value"] < 0.78
    assert metrics["roc_auc"]["ci_low"] < metrics["roc_auc"]["value"] < metrics["roc_auc"]["ci_high"]
    assert metrics["roc_auc"]["n"] == 2100
    criteria = {item["criterion"]: item for item in json.loads(rows[2]["criteria"])}
    assert set(criteria["improvement"]) >= {"criterion", "value", "threshold", "passed", "severity", "detail"}
    assert criteria["improvement"]["value"] > 0.02
    assert criteria["better_than_lace"]["applicable"]
    assert "4 groups" not in criteria["subgroup_calibration"]["detail"]


def test_range_is_month_by_month(warehouse, settings, rows):
    warehouse.replace(CHAMPION, MonthRange.of("2022-07", "2022-12"), arrow_rows(CHAMPION, []))
    alone = [run(warehouse, settings, f"2022-{month:02d}")[0] for month in range(7, 13)]
    assert alone == rows


def test_decisions_are_the_same_bits_whatever_the_threads(warehouse, settings, rows):
    for threads in (1, 2):
        with threadpool_limits(threads):
            assert run(warehouse, settings, "2022-09") == rows[2:3]


def test_repeating_a_month_changes_nothing(warehouse, settings, rows):
    assert run(warehouse, settings, "2022-09", "2022-10") == rows[2:4]


def test_the_future_cannot_be_seen(warehouse, settings, rows):
    """Months after M-2 are replaced by other patients with other outcomes; the decision of M stays bit for bit."""
    write_months(warehouse, MonthRange.of("2022-09", "2022-12"), seed=99)
    wide = MonthRange.of("2022-01", "2022-12")
    given = slices(MonthRange.of("2022-10"))
    given |= {name: given[name].only(wide) for name in ("features", "labels")}
    assert run(warehouse, settings, "2022-10", **given) == rows[3:4]


def test_the_last_matured_month_is_seen(warehouse, settings, rows):
    write_months(warehouse, MonthRange.of("2022-08"), seed=99)
    assert run(warehouse, settings, "2022-10") != rows[3:4]


def test_first_model_month_looks_at_no_champion(warehouse, settings):
    given = slices(MonthRange.of("2022-07")) | {"previous": None}
    assert run(warehouse, settings, "2022-07", **given)[0]["decision"] == "INITIAL"


@pytest.mark.parametrize("previous", ["empty", "none"])
def test_unknown_champion_before_is_refused(warehouse, settings, previous):
    given = {"previous": None} if previous == "none" else {}
    with pytest.raises(ModelError, match=r"no row for 2022-08.*materialise models.champion from 2022-07 to 2022-08"):
        run(warehouse, settings, "2022-09", **given)


def test_skipped_training_carries_the_champion_over(warehouse, settings, rows):
    for family in FAMILIES:
        write_candidates(warehouse, family, [])
    row = run(warehouse, settings, "2022-08")[0]
    assert row["decision"] == "SKIP"
    assert row["challenger_id"] is None
    assert row["model_id"] == "logistic_regression@202207:0"
    assert "no candidate was trained this month" in row["reason"]
    assert json.loads(row["metrics"])["roc_auc"]["value"] > 0.6


def test_neither_candidate_nor_incumbent(warehouse, settings):
    for family in FAMILIES:
        write_candidates(warehouse, family, [])
    first, second = run(warehouse, settings, "2022-07", "2022-08")
    for row in (first, second):
        assert row["decision"] == "SKIP"
        assert row["model_id"] is row["artefact_path"] is row["metrics"] is row["holdout_first"] is None
        assert row["holdout_rows"] == 0


def test_a_candidate_without_its_metric_is_none(warehouse, settings):
    write_candidates(warehouse, FAMILIES[0], [candidate_row(dt.date(2022, 7, 1), FAMILIES[0], metrics="{}")])
    assert run(warehouse, settings, "2022-07")[0]["challenger_id"] is None


def test_quick_models_never_serve(warehouse, settings):
    months = list(MonthRange.of("2022-07", "2022-08"))
    write_candidates(warehouse, FAMILIES[0], [candidate_row(month, FAMILIES[0], profile="quick") for month in months])
    rows = run(warehouse, settings, "2022-07", "2022-08")
    assert [row["decision"] for row in rows] == ["SKIP", "SKIP"]
    assert rows[1]["model_id"] is None


def test_other_feature_schema_is_refused(warehouse, settings, rows):
    row = candidate_row(dt.date(2022, 8, 1), FAMILIES[0], feature_schema_hash="schema-2")
    write_candidates(warehouse, FAMILIES[0], [row])
    with pytest.raises(ModelError, match=r"stored schema-1, expected schema-2.*from the first model month"):
        run(warehouse, settings, "2022-08")


def test_months_any_model_was_fitted_on_are_no_holdout(warehouse, settings):
    """An incumbent fitted until 2022-04 leaves 2022-05 and 2022-06 of the holdout of 2022-08."""
    late = candidate_row(dt.date(2022, 7, 1), FAMILIES[0], validation_last=dt.date(2022, 4, 1))
    write_candidates(warehouse, FAMILIES[0], [late, candidate_row(dt.date(2022, 8, 1), FAMILIES[0])])
    first, second = run(warehouse, settings, "2022-07", "2022-08")
    assert (first["holdout_first"], first["holdout_rows"]) == (dt.date(2022, 5, 1), 700)
    assert first["decision"] == "SKIP"  # 700 rows are too few
    loose = settings_in(settings.home, min_samples=600)
    first, second = run(warehouse, loose, "2022-07", "2022-08")
    assert first["decision"] == "INITIAL"
    assert (second["holdout_first"], second["holdout_rows"]) == (dt.date(2022, 5, 1), 1400)


def test_nothing_left_to_judge_on_promotes_nothing(warehouse, settings):
    late = candidate_row(dt.date(2022, 7, 1), FAMILIES[0], training_last=dt.date(2022, 5, 1))
    write_candidates(warehouse, FAMILIES[0], [late])
    row = run(warehouse, settings, "2022-07")[0]
    assert row["decision"] == "SKIP"
    assert row["holdout_rows"] == 0
    assert row["challenger_id"] == "logistic_regression@202207:0"


def test_force_is_recorded_with_person_and_reason(warehouse, settings, rows):
    forced = settings_in(
        settings.home, force_deployment=True, forced_by="A. Person", force_reason="old one is recalled"
    )
    row = run(warehouse, forced, "2022-08")[0]
    assert row["decision"] == "DEPLOY"
    assert row["model_id"] == "logistic_regression@202208:0"
    assert "ordered by A. Person (old one is recalled): carried out" in row["reason"]
    assert json.loads(row["evidence"])["evidence"]["force"] == {"by": "A. Person", "why": "old one is recalled"}


def test_no_patient_value_reaches_the_row(rows):
    for row in rows:
        text = json.dumps(row, default=str)
        assert "patient_key" not in text
        assert "202205-0" not in text  # encounter ids


def test_both_models_are_scored_on_the_same_rows(warehouse, settings, rows):
    seen = []

    def watching(model, rows):
        seen.append((model.model_id, rows["encounter_id"].to_pylist()))
        return score(model, rows)

    run(warehouse, settings, "2022-08", scorer=watching)
    assert [name for name, _ in seen] == ["logistic_regression@202208:0", "logistic_regression@202207:0"]
    assert seen[0][1] == seen[1][1] == sorted(seen[0][1])
    assert {text[:6] for text in seen[0][1]} == {f"{shift(dt.date(2022, 8, 1), -lag):%Y%m}" for lag in (2, 3, 4)}
