from __future__ import annotations

import datetime as dt

import pytest

from health_pipeline.promotion.criteria import RULES, Outcome
from health_pipeline.promotion.decision import _ADVICE, decide
from health_pipeline.promotion.evidence import Estimate, Force, Record
from health_pipeline_tests.promotion.evidences import EQUAL, contender, evidence, policy, with_gain, with_metric

FORCE = Force("A. Person", "contract ends")


def outcome(given):
    return decide(given, policy()).outcome


def test_better_challenger_is_deployed():
    decision = decide(evidence(), policy())
    assert decision.outcome is Outcome.DEPLOY
    assert decision.promotes
    assert not decision.forced
    assert decision.recommendations == ()
    assert [criterion.criterion for criterion in decision.criteria] == [rule.name for rule in RULES]


def test_first_model_is_initial_and_needs_no_incumbent():
    decision = decide(evidence(incumbent=None, difference={}, non_inferiority=Estimate(None)), policy())
    assert decision.outcome is Outcome.INITIAL
    assert not decision.criterion("improvement").applicable
    assert not decision.criterion("staleness").applicable


def test_equal_challenger_refreshes_a_stale_incumbent_only():
    equal = {"difference": EQUAL, "non_inferiority": Estimate(0.0, -0.007, 0.007)}
    assert outcome(evidence(**equal)) is Outcome.DEPLOY_REFRESH  # 31 days
    fresh = contender("old", dt.date(2023, 6, 1))
    assert outcome(evidence(incumbent=fresh, **equal)) is Outcome.SKIP


def test_no_candidate_is_skip_with_and_without_incumbent():
    assert outcome(evidence(challenger=None)) is Outcome.SKIP
    decision = decide(evidence(challenger=None, incumbent=None), policy())
    assert decision.outcome is Outcome.SKIP
    assert "no candidate was trained" in decision.reason


def test_skip_says_what_to_do_and_when():
    decision = decide(
        with_gain("roc_auc", Estimate(0.01, -0.01, 0.03), non_inferiority=Estimate(0.01, -0.02, 0)), policy()
    )
    assert decision.outcome is Outcome.SKIP
    assert decision.recommendations == (_ADVICE["non_inferiority"],)
    assert decision.next_training_date == dt.date(2023, 7, 1)
    assert "SKIP for 2023-06: new against old." in decision.reason
    assert "DEPLOY is blocked by improvement, significance" in decision.reason
    assert "- improvement: FAIL. roc_auc gain 0.0100 [-0.0100, 0.0300]; more than 0.02 is needed." in decision.reason


@pytest.mark.parametrize(
    ("limit", "due"),
    [(29, (2023, 7, 1)), (30, (2023, 8, 1)), (60, (2023, 8, 1)), (61, (2023, 9, 1)), (1, (2023, 7, 1))],
)
def test_next_training_after_a_promotion_is_when_a_refresh_is_due(limit, due):
    """2023-07 begins 30 days after 2023-06, 2023-08 61 days after it."""
    assert decide(evidence(), policy(max_days_since_update=limit)).next_training_date == dt.date(*due)


def test_every_rule_has_advice():
    assert set(_ADVICE) == {rule.name for rule in RULES}


@pytest.mark.parametrize(
    ("trained", "limit", "due"),
    [
        (dt.date(2023, 5, 1), 90, dt.date(2023, 8, 1)),  # 2023-07 is 61 days, 2023-08 is 92 days after 2023-05
        (dt.date(2023, 5, 1), 91, dt.date(2023, 8, 1)),
        (dt.date(2023, 5, 1), 92, dt.date(2023, 9, 1)),
        (dt.date(2023, 5, 1), 31, dt.date(2023, 7, 1)),
    ],
)
def test_when_only_the_youth_of_the_incumbent_is_in_the_way_the_date_is_when_it_is_old(trained, limit, due):
    equal = {"difference": EQUAL, "non_inferiority": Estimate(0.0, -0.007, 0.007)}
    decision = decide(evidence(incumbent=contender("old", trained), **equal), policy(max_days_since_update=limit))
    assert decision.outcome is Outcome.SKIP
    assert decision.recommendations == (_ADVICE["staleness"],)
    assert decision.next_training_date == due


def test_force_overrides_the_comparison_and_is_recorded():
    worse = with_gain("roc_auc", Estimate(-0.05, -0.08, -0.02), non_inferiority=Estimate(-0.05, -0.07, -0.03))
    assert outcome(worse) is Outcome.SKIP
    decision = decide(
        evidence(difference=worse.difference, non_inferiority=worse.non_inferiority, force=FORCE), policy()
    )
    assert decision.outcome is Outcome.DEPLOY
    assert decision.forced
    assert "Deployment ordered by A. Person (contract ends): carried out." in decision.reason


def test_force_that_was_not_needed_is_recorded_as_such():
    decision = decide(evidence(force=FORCE), policy())
    assert decision.outcome is Outcome.DEPLOY
    assert not decision.forced
    assert ": not needed." in decision.reason


@pytest.mark.parametrize(
    "broken",
    [
        {"challenger": None},
        {"challenger": contender("new", profile="quick")},
        {"plan_violations": ("family x",)},
        {"challenger": with_metric("roc_auc", Estimate(0.9, 0.88, 0.92)).challenger},
        {"challenger": with_metric("roc_auc", Estimate(None)).challenger},
    ],
    ids=["none", "quick", "plan", "leak", "unmeasured"],
)
def test_force_never_overrides_protection_from_broken_evidence(broken):
    decision = decide(evidence(force=FORCE, **broken), policy())
    assert decision.outcome is Outcome.SKIP
    assert not decision.forced
    assert ": refused." in decision.reason


def test_record_gives_the_same_decision_again():
    given = with_metric("calibration_slope", Estimate(float("nan"), float("inf"), 1.0), force=FORCE)
    record = Record(given, policy())
    again = Record.from_json(record.to_json())
    assert again == record
    assert decide(again.evidence, again.policy) == decide(given, policy())
