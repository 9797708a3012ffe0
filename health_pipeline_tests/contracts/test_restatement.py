"""What a corrected, late or withdrawn month reaches."""

import pytest

from health_pipeline.contracts.restatement import (
    DecisionWindow,
    Reach,
    Restatement,
    TouchedDecision,
    decision_windows,
    restatements,
    touched_decisions,
    touched_months,
)
from health_pipeline.months import MonthRange, parse_month

STAYS, PEOPLE = "silver.admissions", "silver.patients"
REACHES = {STAYS: Reach(2, 1, 0), PEOPLE: Reach(None, 0, 0)}


def months(*texts):
    return tuple(parse_month(text) for text in texts)


JAN, FEB, MAR, APR, MAY, JUN = months("2023-01", "2023-02", "2023-03", "2023-04", "2023-05", "2023-06")


def test_changes_are_told_apart_and_first_arrivals_are_none():
    before = {(STAYS, JAN): "a", (STAYS, FEB): "b", (PEOPLE, JAN): "c"}
    after = {(STAYS, JAN): "a", (STAYS, FEB): "B", (PEOPLE, FEB): "d", (STAYS, APR): "e"}
    assert restatements(before, after, closed_until=MAR) == [
        Restatement(STAYS, FEB, "corrected"),
        Restatement(PEOPLE, JAN, "withdrawn"),
        Restatement(PEOPLE, FEB, "late"),
    ]
    assert restatements(after, after, closed_until=MAR) == []


@pytest.mark.parametrize(
    ("table", "month", "features", "labels"),
    [
        (STAYS, FEB, {FEB, MAR, APR}, {JAN, FEB}),
        (STAYS, JUN, {JUN}, {MAY, JUN}),
        (PEOPLE, APR, {APR, MAY, JUN}, {APR}),
        ("silver.unknown", FEB, set(), set()),
    ],
)
def test_months_that_have_to_be_made_again(table, month, features, labels):
    assert touched_months([Restatement(table, month, "corrected")], REACHES, JUN) == (features, labels)


def test_decisions_are_listed_with_the_months_they_rest_on():
    decisions = [
        DecisionWindow(JUN, "SKIP", "m1", MonthRange(JAN, FEB), MonthRange(MAR, APR)),
        DecisionWindow(MAY, "DEPLOY", "m1", MonthRange(JAN, FEB), MonthRange(MAR, MAR)),
        DecisionWindow(APR, "INITIAL", "m0", MonthRange(JAN, JAN), MonthRange(FEB, FEB)),
        DecisionWindow(MAR, "SKIP", None, None, None),
    ]
    assert touched_decisions({FEB, MAR}, {MAR}, decisions) == [
        TouchedDecision(APR, "INITIAL", "m0", (), (FEB,)),
        TouchedDecision(MAY, "DEPLOY", "m1", (FEB,), (MAR,)),
        TouchedDecision(JUN, "SKIP", "m1", (FEB,), (MAR,)),
    ]
    assert touched_decisions({MAY}, set(), decisions) == []


def test_windows_come_from_the_stored_rows():
    def champion(month, decision, model, challenger, incumbent, holdout):
        names = ("month", "decision", "model_id", "challenger_id", "incumbent_id", "holdout_first", "holdout_last")
        return dict(zip(names, (month, decision, model, challenger, incumbent, *holdout), strict=True))

    models = [
        {"model_id": "old", "training_first": JAN, "validation_last": FEB},
        {"model_id": "new", "training_first": FEB, "validation_last": MAR},
        {"model_id": None, "training_first": None, "validation_last": None},
    ]
    champions = [
        champion(MAY, "DEPLOY", "new", "new", "old", (APR, APR)),
        champion(JUN, "SKIP", None, None, None, (None, None)),
    ]
    assert decision_windows(champions, models) == [
        DecisionWindow(MAY, "DEPLOY", "new", MonthRange(JAN, MAR), MonthRange(APR, APR)),
        DecisionWindow(JUN, "SKIP", None, None, None),
    ]
