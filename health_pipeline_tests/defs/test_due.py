"""Specification of what is due when: state in, requests out."""

import datetime as dt

import pytest

from health_pipeline.defs.due import EXTRACTED, Due, Ingest, Stage, State, due

JAN, FEB, MAR, APR = (dt.date(2022, month, 1) for month in range(1, 5))


def state(landed=None, stored=None, ingested=None, first_model_month=MAR, refused=None):
    return State(landed or {}, stored or {}, ingested or {}, first_model_month, refused or {})


def keys(current):
    return [item.key for item in due(current)]


def test_nothing_landed_nothing_due():
    assert keys(state()) == []


FILES = {"admissions": "a1", "claims": "c1"}


def extracts(fingerprints, ingest=None, features=0):
    """Keys of due extracts of January."""
    stored = extracted({JAN: features}) if features else {}
    return keys(state(landed={JAN: fingerprints}, ingested={JAN: ingest} if ingest else {}, stored=stored))


def extracted(records):
    """Everything that is made of a month's files, stored under these record numbers."""
    return {table: dict(records) for table in EXTRACTED}


def ingests(records):
    return {month: Ingest(FILES, record) for month, record in records.items()}


@pytest.mark.parametrize("missing", EXTRACTED)
def test_a_landed_month_is_due_until_everything_made_of_it_is_stored(missing):
    now = {"landed": {JAN: FILES}, "ingested": ingests({JAN: 4})}
    for record in (None, 2):  # never stored; stored from earlier files
        stored = extracted({JAN: 9}) | {missing: {JAN: record} if record else {}}
        assert [item.stage for item in due(state(stored=stored, **now))] == [Stage.EXTRACTS]


def test_a_landed_month_is_due_until_its_features_are_stored():
    (asked,) = extracts(FILES)
    assert asked.startswith("extracts:2022-01:")
    assert extracts(FILES, Ingest(FILES, 4)) == [asked], "bronze is stored, the rest of its run failed: same cause"
    assert extracts(FILES, Ingest(FILES, 4), features=9) == []


@pytest.mark.parametrize(
    "landed",
    [
        {"admissions": "a2", "claims": "c1"},
        {"admissions": "a1", "claims": "c2"},
        {"admissions": "a1"},
        {**FILES, "patients": "p1"},
    ],
    ids=["corrected", "another table corrected", "withdrawn", "late"],
)
def test_any_other_files_than_those_in_bronze_are_due_under_a_key_of_their_own(landed):
    (asked,) = extracts(landed, Ingest(FILES, 4), features=9)
    assert asked not in extracts(FILES)


def test_a_file_that_goes_back_to_what_it_was_is_asked_for_again():
    first = extracts(FILES)
    again = extracts(FILES, Ingest({**FILES, "claims": "c2"}, 14), features=19)
    assert len(again) == 1
    assert again != first


def test_labels_wait_until_the_next_month_has_closed():
    assert keys(state(stored=extracted({JAN: 5}), ingested=ingests({JAN: 4}))) == []
    both = state(stored=extracted({JAN: 5, FEB: 9}), ingested=ingests({JAN: 4, FEB: 8}))
    assert keys(both) == ["labels:2022-01:9"]


@pytest.mark.parametrize("missing", EXTRACTED)
@pytest.mark.parametrize("month", [JAN, FEB])
def test_labels_wait_until_both_months_were_read_to_the_end(missing, month):
    stored = extracted({JAN: 15, FEB: 19})
    stored[missing] |= {month: 3}  # still from the earlier files
    assert keys(state(stored=stored, ingested=ingests({JAN: 14, FEB: 18}))) == []


def test_labels_are_made_again_when_either_month_was_restated():
    read = {"ingested": ingests({JAN: 4, FEB: 8})}
    stored = extracted({JAN: 5, FEB: 9}) | {"gold.labels": {JAN: 12}}
    assert keys(state(stored=stored, **read)) == []
    stored |= extracted({JAN: 15, FEB: 9})
    assert keys(state(stored=stored, ingested=ingests({JAN: 14, FEB: 8}))) == ["labels:2022-01:15"]


def test_one_improvement_at_a_time_oldest_first_and_never_before_the_warm_up():
    stored = {"gold.features": {JAN: 1, FEB: 2, MAR: 3, APR: 4}, "gold.labels": {JAN: 7, FEB: 8}}
    assert list(due(state(stored=stored))) == [Due(Stage.IMPROVEMENT, MAR, "7")]
    stored |= {"models.champion": {MAR: 20}, **scored(MAR)}
    assert list(due(state(stored=stored))) == [Due(Stage.IMPROVEMENT, APR, "8")]


def test_an_improvement_waits_for_labels_of_earlier_months_that_are_still_to_be_made():
    read = {"ingested": ingests({JAN: 1, FEB: 3, MAR: 5, APR: 7})}
    stored = extracted({JAN: 2, FEB: 4, MAR: 6, APR: 8}) | {"models.champion": {MAR: 20}, **scored(MAR)}
    stored["gold.labels"] = {FEB: 10, MAR: 11}
    assert keys(state(stored=stored, **read)) == ["labels:2022-01:4"], "January has failed, February is there"
    stored["gold.labels"] |= {JAN: 12}
    assert keys(state(stored=stored, **read)) == ["improvement:2022-04:10"]


@pytest.mark.parametrize(
    ("refused", "stages"),
    [
        ({}, [Stage.IMPROVEMENT, Stage.PERFORMANCE]),
        ({"gold.labels": {JAN}}, [Stage.PERFORMANCE]),
        ({"gold.labels": {FEB}}, []),
        ({"gold.labels": {MAR}}, [Stage.IMPROVEMENT, Stage.PERFORMANCE]),
        ({"gold.features": {JAN}}, [Stage.PERFORMANCE]),
        ({"gold.features": {APR}}, [Stage.PERFORMANCE]),
    ],
    ids=["none", "labels before", "labels of the month", "labels later", "features before", "own features"],
)
def test_what_a_blocking_check_refuses_holds_back_the_stages_behind_it(refused, stages):
    """The check has blocked what follows it in its own run; models and figures are made in others."""
    stored = {"gold.features": {JAN: 1, FEB: 2, MAR: 3, APR: 4}, "gold.labels": {JAN: 7, FEB: 40}}
    stored |= {"models.champion": {MAR: 20}} | scored(MAR) | {"gold.predictions": {FEB: 30, MAR: 30}}
    stored["monitoring.performance"] = {FEB: 31, MAR: 31}
    found = [item.stage for item in due(state(stored=stored, refused=refused))]
    assert found == stages


def test_features_that_a_blocking_check_refuses_are_not_scored():
    stored = {"gold.features": {MAR: 3}, "gold.labels": {JAN: 7}, "models.champion": {MAR: 20}}
    assert keys(state(stored=stored)) == ["scoring:2022-03:20"]
    assert keys(state(stored=stored, refused={"gold.features": {MAR}})) == []


def scored(*months):
    tables = ("gold.predictions", "monitoring.drift", "monitoring.performance")
    return {table: dict.fromkeys(months, 30) for table in tables}


def test_a_month_whose_models_were_made_before_it_closed_is_scored_when_it_has():
    stored = {"gold.features": {MAR: 3}, "gold.labels": {JAN: 7, FEB: 8}, "models.champion": {MAR: 20, APR: 21}}
    stored |= scored(MAR)
    assert keys(state(stored=stored)) == [], "April has not landed"
    stored["gold.features"] = {MAR: 3, APR: 4}
    assert list(due(state(stored=stored))) == [Due(Stage.SCORING, APR, "21")]
    stored |= scored(MAR, APR)
    assert keys(state(stored=stored)) == []


@pytest.mark.parametrize("missing", scored())
def test_a_month_whose_improvement_broke_off_after_its_decision_is_scored(missing):
    stored = {"gold.features": {MAR: 3}, "gold.labels": {JAN: 7}, "models.champion": {MAR: 20}} | scored(MAR)
    stored[missing] = {}
    assert keys(state(stored=stored)) == ["scoring:2022-03:20"]


def test_an_improvement_waits_for_the_labels_it_is_entitled_to_and_for_its_incumbent():
    assert keys(state(stored={"gold.features": {MAR: 3}})) == []
    stored = {"gold.features": {APR: 4}, "gold.labels": {FEB: 8}}
    assert keys(state(stored=stored)) == [], "no champion of March yet"


def test_performance_is_reconciled_once_labels_have_matured():
    stored = {"gold.predictions": {MAR: 30}, "monitoring.performance": {MAR: 31}}
    assert keys(state(stored=stored)) == []
    stored["gold.labels"] = {MAR: 40}
    assert keys(state(stored=stored)) == ["performance:2022-03:40"]
    stored["monitoring.performance"] = {MAR: 41}
    assert keys(state(stored=stored)) == []
    stored["monitoring.performance"] = {}
    assert keys(state(stored=stored)) == [], "the scoring that is missing makes it"
