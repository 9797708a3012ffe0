"""Specification of what is due when: state in, requests out."""

import datetime as dt

from health_pipeline.defs.due import Due, Stage, State, due

JAN, FEB, MAR, APR = (dt.date(2022, month, 1) for month in range(1, 5))


def state(landed=None, stored=None, ingested=None, first_model_month=MAR):
    return State(landed or {}, stored or {}, ingested or {}, first_model_month)


def keys(current):
    return [item.key for item in due(current)]


def test_nothing_landed_nothing_due():
    assert keys(state()) == []


def test_a_landed_month_is_due_until_it_is_ingested():
    assert keys(state(landed={JAN: 100.0})) == ["extracts:2022-01:100"]
    assert keys(state(landed={JAN: 100.0}, ingested={JAN: 101.0})) == []


def test_a_restated_file_is_due_again_under_another_key():
    assert keys(state(landed={JAN: 200.0}, ingested={JAN: 101.0})) == ["extracts:2022-01:200"]


def test_labels_wait_until_the_next_month_has_closed():
    assert keys(state(stored={"silver.admissions": {JAN: 5}})) == []
    assert keys(state(stored={"silver.admissions": {JAN: 5, FEB: 9}})) == ["labels:2022-01:9"]


def test_labels_are_made_again_when_either_month_was_restated():
    stored = {"silver.admissions": {JAN: 5, FEB: 9}, "gold.labels": {JAN: 12}}
    assert keys(state(stored=stored)) == []
    stored["silver.admissions"] = {JAN: 15, FEB: 9}
    assert keys(state(stored=stored)) == ["labels:2022-01:15"]


def test_one_improvement_at_a_time_oldest_first_and_never_before_the_warm_up():
    stored = {"gold.features": {JAN: 1, FEB: 2, MAR: 3, APR: 4}, "gold.labels": {JAN: 7, FEB: 8}}
    assert list(due(state(stored=stored))) == [Due(Stage.IMPROVEMENT, MAR, "7")]
    stored["models.champion"] = {MAR: 20}
    assert list(due(state(stored=stored))) == [Due(Stage.IMPROVEMENT, APR, "8")]


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
