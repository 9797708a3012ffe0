"""What a corrected, late or withdrawn month reaches."""

import pytest

from health_pipeline.contracts.restated_decisions import (
    DecisionWindow,
    TouchedDecision,
    decision_windows,
    touched_decisions,
)
from health_pipeline.contracts.restatement import Restatement, Restatements, Version, Window, change_since
from health_pipeline.contracts.restatement_review import Rerun, Review, stretches
from health_pipeline.months import MonthRange, parse_month

STAYS, PEOPLE, FEATURES, LABELS, MODELS = "silver.admissions", "silver.patients", "gold.features", "gold.labels", "m.x"
READS = {
    FEATURES: {STAYS: Window(before=2), PEOPLE: Window(before=1200)},
    LABELS: {STAYS: Window(before=0, after=1)},
    MODELS: {FEATURES: Window(before=3, after=-2), MODELS: Window(before=1, after=-1)},
}


def months(*texts):
    return tuple(parse_month(text) for text in texts)


JAN, FEB, MAR, APR, MAY, JUN = YEAR = months("2023-01", "2023-02", "2023-03", "2023-04", "2023-05", "2023-06")


def home(**more):
    """Six months, stored one table after the other in one run; then what ``more`` says was read again."""
    names = {"stays": STAYS, "people": PEOPLE}
    histories = {
        table: {month: [Version(start + n, f"{table} {n}")] for n, month in enumerate(YEAR)}
        for table, start in ((STAYS, 10), (PEOPLE, 20), (FEATURES, 30))
    }
    made = {FEATURES: 30, LABELS: 40, MODELS: 50}
    for name, versions in more.items():
        for month, version in versions.items():
            histories[names[name]][month] = [*histories[names[name]][month], version]
    return Restatements(
        READS, {table: {month: first + n for n, month in enumerate(YEAR)} for table, first in made.items()}, histories
    )


def test_a_change_is_told_by_what_stood_there_before():
    history = [Version(5, None), Version(10, "a"), Version(20, "a"), Version(30, "b"), Version(40, None)]
    assert change_since(history[:4], 7) == "late"
    assert change_since(history[:4], 15) == "corrected"
    assert change_since(history[:4], 35) is None
    assert change_since(history[:3], 12) is None, "read again, the same rows"
    assert change_since(history, 35) == "withdrawn"
    assert change_since(history[1:3], 3) == "late", "nothing at all was there"


def test_nothing_is_behind_when_months_came_in_order():
    assert home().behind == {}
    assert home(stays={FEB: Version(99, f"{STAYS} 1")}).behind == {}, "delivered again without a change"


def test_months_that_rest_on_a_corrected_one():
    restated = home(stays={FEB: Version(99, "new")})
    cause = frozenset({Restatement(STAYS, FEB, "corrected")})
    assert restated.behind == {
        FEATURES: dict.fromkeys((FEB, MAR, APR), cause),
        LABELS: dict.fromkeys((JAN, FEB), cause),
        MODELS: dict.fromkeys((APR, MAY, JUN), cause),
    }


def test_a_window_without_an_end_reaches_all_later_months():
    restated = home(people={MAY: Version(99, None)})
    assert restated.behind == {FEATURES: dict.fromkeys((MAY, JUN), frozenset({Restatement(PEOPLE, MAY, "withdrawn")}))}


def test_what_was_made_again_is_not_behind_but_what_follows_from_it_is():
    restated = home(stays={FEB: Version(99, "new")})
    restated.made[FEATURES].update({FEB: 100, MAR: 101, APR: 102})
    for record, month in ((100, FEB), (101, MAR)):
        restated.histories[FEATURES][month].append(Version(record, "new"))
    restated.histories[FEATURES][APR].append(Version(102, restated.histories[FEATURES][APR][0].content))
    cause = frozenset({Restatement(STAYS, FEB, "corrected")})
    assert set(restated.behind) == {LABELS, MODELS}
    assert restated.behind[MODELS] == dict.fromkeys((APR, MAY, JUN), cause)
    assert restated.changed_since([FEATURES], 51) == dict.fromkeys((FEB, MAR), cause), "April came out as before"
    assert restated.changed_since([FEATURES], 103) == {}


def test_maturing_is_no_restatement():
    """The month after its reader comes for the first time: labels mature, nothing was restated."""
    restated = home()
    restated.histories[STAYS][JUN] = [Version(99, "first")]
    assert MAY not in restated.behind.get(LABELS, {})
    assert restated.behind[FEATURES] == {JUN: frozenset({Restatement(STAYS, JUN, "late")})}


def test_decisions_are_listed_with_the_months_they_rest_on():
    decisions = [
        DecisionWindow(JUN, "SKIP", "m1", MonthRange(JAN, FEB), MonthRange(MAR, APR)),
        DecisionWindow(MAY, "DEPLOY", "m1", MonthRange(JAN, FEB), MonthRange(MAR, MAR)),
        DecisionWindow(APR, "INITIAL", "m0", MonthRange(JAN, JAN), MonthRange(FEB, FEB)),
        DecisionWindow(MAR, "SKIP", None, None, None),
    ]
    one, two = (frozenset({Restatement(STAYS, month, "corrected")}) for month in (FEB, MAR))
    changed = {FEB: one, MAR: two}
    assert touched_decisions(decisions, lambda _month: changed) == [
        TouchedDecision(APR, "INITIAL", "m0", (), (FEB,), one),
        TouchedDecision(MAY, "DEPLOY", "m1", (FEB,), (MAR,), one | two),
        TouchedDecision(JUN, "SKIP", "m1", (FEB,), (MAR,), one | two),
    ]
    assert touched_decisions(decisions, lambda month: changed if month == APR else {}) == [
        TouchedDecision(APR, "INITIAL", "m0", (), (FEB,), one)
    ]


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


@pytest.fixture
def review():
    one = frozenset({Restatement(STAYS, FEB, "corrected")})
    decision = TouchedDecision(MAY, "DEPLOY", "m1", (FEB,), (), one)
    return Review((), {FEATURES: {FEB: one, MAR: one, MAY: one}, MODELS: {MAY: one}}, (decision,), JUN)


def test_the_re_run_is_exact(review):
    assert review.table_reruns == [
        Rerun("gold/features", MonthRange(FEB, MAR)),
        Rerun("gold/features", MonthRange(MAY, MAY)),
    ]
    assert review.result_rerun == Rerun("group:models,group:scoring,group:monitoring", MonthRange(MAY, JUN))
    assert review.table_reruns[0].command == ("health-pipeline run --from 2023-02 --to 2023-03 --select gold/features")
    assert Review((JAN, FEB), {}, (), None).extract_reruns[0].months == MonthRange(JAN, FEB)
    assert Review((), {}, (), JUN).result_rerun is None


def test_the_verdict_names_what_rests_on_the_month(review):
    verdict = review.verdict(STAYS, FEB)
    assert (verdict.passed, verdict.severity) == (False, "WARN")
    assert "corrected after it had been used" in verdict.summary
    assert "gold.features of 2023-02..2023-03, 2023-05" in verdict.summary
    assert "models and what follows of 2023-05" in verdict.summary
    assert "the decisions 2023-05 DEPLOY" in verdict.summary
    assert verdict.numbers == {"change": "corrected", "months_behind": 4, "decisions_touched": 1}
    assert review.verdict(STAYS, MAR).passed
    assert review.verdict(PEOPLE, FEB).passed


def test_stretches_have_no_gaps():
    assert stretches([MAY, JAN, FEB]) == [MonthRange(JAN, FEB), MonthRange(MAY, MAY)]
    assert stretches([]) == []
