"""Each criterion at, just below and just above its limit; nothing that was not measured passes."""

from __future__ import annotations

import datetime as dt

import pytest

from health_pipeline.promotion import criteria
from health_pipeline.promotion.criteria import RULES, Outcome
from health_pipeline.promotion.evidence import NOTHING, Estimate, Subgroup
from health_pipeline_tests.promotion.evidences import (
    BETTER,
    EQUAL,
    FAIR_GROUP,
    contender,
    evidence,
    policy,
    with_gain,
    with_metric,
)

TINY = 1e-9
RULE = {rule.name: rule for rule in RULES}


def judge(name, given, **changes):
    return RULE[name].apply(given, policy(**changes))


def passes(name, given, **changes):
    return judge(name, given, **changes).passed


# Each criterion


def test_candidate():
    assert judge("candidate", evidence(compared=2)).detail == "new, best of 2"
    assert not passes("candidate", evidence(challenger=None))


def test_plan():
    good, bad = evidence(), evidence(plan_violations=("a", "b"))
    assert judge("change_control_plan", good).detail == f"plan {policy().plan_hash[:8]} allows it"
    found = judge("change_control_plan", bad)
    assert (found.passed, found.value, found.threshold) == (False, 2.0, 0.0)
    assert found.detail.endswith(": a; b")


@pytest.mark.parametrize(
    ("profile", "passed"), [("quick", False), ("standard", True), ("thorough", True), ("x", False)]
)
def test_profile(profile, passed):
    found = judge("profile", evidence(challenger=contender("new", profile=profile)))
    assert found.passed is passed
    assert ("may not serve" not in found.detail) is passed
    assert not passes("profile", evidence(challenger=None))


@pytest.mark.parametrize(
    ("rows", "passed", "near"), [(899, False, False), (999, False, True), (1000, True, True), (1101, True, False)]
)
def test_sample_size(rows, passed, near):
    found = judge("sample_size", evidence(rows=rows))
    assert (found.passed, found.value, found.threshold, found.near_miss) == (passed, rows, 1000, near)


@pytest.mark.parametrize(
    ("events", "rows", "value", "passed"),
    [(49, 2400, 49, False), (50, 2400, 50, True), (1951, 2000, 49, False), (1950, 2000, 50, True)],
)
def test_event_count_counts_the_rarer_outcome(events, rows, value, passed):
    found = judge("event_count", evidence(events=events, rows=rows))
    assert (found.passed, found.value, found.threshold) == (passed, value, 50)


def test_event_count_near_miss():
    assert [judge("event_count", evidence(events=events)).near_miss for events in (44, 45, 55, 56)] == [
        False,
        True,
        True,
        False,
    ]


@pytest.mark.parametrize(
    ("auroc", "passed", "near"), [(0.82, True, False), (0.84, True, True), (0.85, True, True), (0.8501, False, True)]
)
def test_leak_ceiling(auroc, passed, near):
    found = judge("leak_ceiling", with_metric("roc_auc", Estimate(auroc, 0.6, 0.99)))
    assert (found.passed, found.value, found.threshold, found.near_miss) == (passed, auroc, 0.85, near)


@pytest.mark.parametrize(("low", "passed"), [(0.49, False), (0.5, False), (0.5 + TINY, True), (None, False)])
def test_better_than_chance_needs_the_lower_bound(low, passed):
    found = judge("better_than_chance", with_metric("roc_auc", Estimate(0.7, low, 0.8)))
    assert (found.passed, found.value) == (passed, low)


@pytest.mark.parametrize("name", ["leak_ceiling", "better_than_chance", "calibration_slope", "top_decile_capture"])
def test_no_challenger_has_no_metric(name):
    assert not passes(name, evidence(challenger=None))


@pytest.mark.parametrize(
    ("gain", "passed", "near"),
    [(0.0179, False, False), (0.0199, False, True), (0.02, False, True), (0.0201, True, True), (0.0221, True, False)],
)
def test_improvement_beyond_the_threshold(gain, passed, near):
    found = judge("improvement", with_gain("roc_auc", Estimate(gain, 0.001, 0.05)))
    assert (found.passed, found.value, found.threshold, found.near_miss) == (passed, gain, 0.02, near)


def test_improvement_without_threshold_still_needs_an_improvement():
    assert not passes("improvement", evidence(difference=EQUAL), improvement_threshold=0.0)
    near = judge("improvement", with_gain("roc_auc", Estimate(0.0009)), improvement_threshold=0.0)
    assert near.passed
    assert near.near_miss


@pytest.mark.parametrize(
    ("low", "passed", "near"),
    [(-0.003, False, False), (-TINY, False, True), (0.0, False, True), (TINY, True, True), (0.003, True, False)],
)
def test_significance_needs_the_lower_bound_above_zero(low, passed, near):
    found = judge("significance", with_gain("roc_auc", Estimate(0.03, low, 0.06)))
    assert (found.passed, found.value, found.threshold, found.near_miss) == (passed, low, 0.0, near)


def test_significance_says_how_it_was_measured():
    assert "(paired patient-clustered bootstrap, level 0.95);" in judge("significance", evidence()).detail
    assert "level 0.95, Bonferroni for 2 candidates)" in judge("significance", evidence(compared=2)).detail


@pytest.mark.parametrize(
    ("low", "passed", "near"),
    [
        (-0.0121, False, False),
        (-0.0101, False, True),
        (-0.01, False, True),
        (-0.0099, True, True),
        (-0.0079, True, False),
    ],
)
def test_non_inferiority(low, passed, near):
    found = judge("non_inferiority", evidence(non_inferiority=Estimate(0.0, low, 0.01)))
    assert (found.passed, found.value, found.threshold, found.near_miss) == (passed, low, -0.01, near)


@pytest.mark.parametrize(
    ("trained", "days", "passed"), [((2023, 6, 1), 0, False), ((2023, 5, 2), 30, False), ((2023, 5, 1), 31, True)]
)
def test_staleness_counts_days_of_data_time(trained, days, passed):
    found = judge("staleness", evidence(incumbent=contender("old", dt.date(*trained))))
    assert (found.passed, found.value, found.threshold) == (passed, days, 30)


@pytest.mark.parametrize("name", ["roc_auc", "average_precision", "brier"])
@pytest.mark.parametrize(("loss", "passed"), [(0.0101, False), (0.01, True), (0.0, True)])
def test_degradation_looks_at_every_metric(name, loss, passed):
    found = judge("degradation", with_gain(name, Estimate(-loss, -0.1, 0.1)))
    assert found.passed is passed
    assert found.threshold == -0.01
    others = [BETTER[other].value for other in ("roc_auc", "average_precision", "brier") if other != name]
    assert found.value == min(-loss, *others)


@pytest.mark.parametrize("name", ["roc_auc", "average_precision", "brier"])
def test_degradation_needs_every_metric(name):
    assert not passes("degradation", with_gain(name, NOTHING))


def test_degradation_does_not_count_a_metric_twice():
    found = judge("degradation", evidence(), primary_metric="brier")
    assert found.detail.count("brier") == 1
    assert "average_precision" in found.detail


def test_degradation_near_miss():
    assert [
        judge("degradation", with_gain("brier", Estimate(value))).near_miss for value in (-0.0115, -0.0095, -0.0085)
    ] == [
        False,
        True,
        False,
    ]


@pytest.mark.parametrize(
    ("name", "low", "high"),
    [("calibration_slope", 0.7, 1.4), ("calibration_intercept", -0.3, 0.3), ("observed_expected", 0.75, 1.33)],
)
def test_calibration_bands(name, low, high):
    values = (low - TINY, low, high, high + TINY)
    assert [passes(name, with_metric(name, Estimate(value))) for value in values] == [False, True, True, False]
    assert not passes(name, with_metric(name, NOTHING))


def group(**changes):
    given = {name: getattr(FAIR_GROUP, name) for name in FAIR_GROUP.__dataclass_fields__}
    return Subgroup(**{**given, **changes})


def with_group(**changes):
    return evidence(subgroups=(FAIR_GROUP, group(level="male", **changes)))


@pytest.mark.parametrize(("high", "passed"), [(-0.0999, True), (-0.1, True), (-0.1001, False)])
def test_subgroup_discrimination_fails_only_on_evidence(high, passed):
    found = judge("subgroup_discrimination", with_group(discrimination_gap=Estimate(-0.2, -0.3, high)))
    assert found.passed is passed
    assert ("beyond tolerance: sex=male" in found.detail) is not passed
    assert found.value == (0.0 if passed else 1.0)


@pytest.mark.parametrize(
    ("low", "high", "passed"),
    [(0.3, 0.67, True), (0.3, 0.6699, False), (1.5, 3.0, True), (1.5001, 3.0, False), (0.3, 3.0, True)],
)
def test_subgroup_calibration_fails_only_on_evidence(low, high, passed):
    assert passes("subgroup_calibration", with_group(observed_expected=Estimate(1.0, low, high))) is passed


@pytest.mark.parametrize(("high", "passed"), [(-0.0199, True), (-0.02, True), (-0.0201, False)])
def test_subgroup_change_fails_only_on_evidence(high, passed):
    assert passes("subgroup_change", with_group(change=Estimate(-0.1, -0.2, high))) is passed


@pytest.mark.parametrize(
    ("rule", "field"),
    [
        ("subgroup_discrimination", "discrimination_gap"),
        ("subgroup_calibration", "observed_expected"),
        ("subgroup_change", "change"),
    ],
)
@pytest.mark.parametrize("missing", [NOTHING, Estimate(1.0, None, 1.1), Estimate(1.0, 0.9, None)])
def test_a_judged_subgroup_that_was_not_measured_fails(rule, field, missing):
    found = judge(rule, with_group(**{field: missing}))
    assert not found.passed
    assert "not measured: sex=male" in found.detail


def test_subgroups_too_small_to_judge_do_not_fail():
    bad = {"change": Estimate(-0.5, -0.6, -0.4), "observed_expected": NOTHING}
    assert passes("subgroup_change", with_group(judged=False, **bad))
    assert "1 of 2 groups judged" in judge("subgroup_calibration", with_group(judged=False, **bad)).detail
    assert not judge("subgroup_calibration", evidence(subgroups=(group(judged=False),))).applicable
    assert not judge("subgroup_calibration", evidence(subgroups=())).applicable


@pytest.mark.parametrize(
    ("low", "high", "first", "over_incumbent"),
    [
        (-0.2, -0.1, False, False),
        (-0.1, 0.0, False, False),
        (-0.1, TINY, True, False),
        (0, 0.1, True, False),
        (TINY, 0.1, True, True),
    ],
)
def test_better_than_lace(low, high, first, over_incumbent):
    gain = Estimate(0.0, low, high)
    assert passes("better_than_lace", evidence(lace=gain)) is over_incumbent
    assert passes("better_than_lace", evidence(lace=gain, incumbent=None)) is first


def test_lace_that_is_not_there_says_so_and_lace_that_was_not_measured_fails():
    absent = judge("better_than_lace", evidence(lace=NOTHING, lace_available=False))
    assert absent.passed
    assert not absent.applicable
    assert absent.detail == "not applicable: the features hold no LACE index"
    assert not passes("better_than_lace", evidence(lace=NOTHING))
    assert not passes("better_than_lace", evidence(lace=NOTHING, incumbent=None))


@pytest.mark.parametrize(("value", "passed"), [(0.0999, False), (0.1, False), (0.1001, True)])
def test_top_decile_capture(value, passed):
    assert passes("top_decile_capture", with_metric("top_decile_capture", Estimate(value))) is passed


@pytest.mark.parametrize(("value", "passed"), [(-0.0201, False), (-0.02, True), (0.0, True), (None, False)])
def test_top_decile_loss(value, passed):
    assert passes("top_decile_loss", with_gain("top_decile_capture", Estimate(value))) is passed


@pytest.mark.parametrize(
    "name",
    [
        "improvement",
        "significance",
        "non_inferiority",
        "staleness",
        "degradation",
        "subgroup_change",
        "top_decile_loss",
    ],
)
def test_comparisons_with_production_do_not_apply_to_a_first_model(name):
    found = judge(name, evidence(incumbent=None, difference={}, non_inferiority=NOTHING))
    assert found.passed
    assert not found.applicable
    assert found.value is None
    assert found.detail == "not applicable: no incumbent"


def test_primary_metric_decides():
    gains = {"roc_auc": Estimate(0.05, 0.03, 0.07), "f1": Estimate(0.01, -0.01, 0.03)}
    given = evidence(difference={**BETTER, **gains})
    for name in ("improvement", "significance"):
        assert passes(name, given)
        assert not passes(name, given, primary_metric="f1")
        assert "f1 gain 0.0100 [-0.0100, 0.0300]" in judge(name, given, primary_metric="f1").detail


# The table of rules


def test_which_decision_needs_what():
    """The decision table of ``docs/promotion.md``."""
    everywhere = {Outcome.INITIAL, Outcome.DEPLOY, Outcome.DEPLOY_REFRESH}
    over_incumbent = {Outcome.DEPLOY, Outcome.DEPLOY_REFRESH}
    special = {
        "improvement": {Outcome.DEPLOY},
        "significance": {Outcome.DEPLOY},
        "staleness": {Outcome.DEPLOY_REFRESH},
        "non_inferiority": {Outcome.DEPLOY_REFRESH},
        "degradation": over_incumbent,
        "subgroup_change": over_incumbent,
        "top_decile_loss": over_incumbent,
    }
    for rule in RULES:
        assert rule.needed_by == special.get(rule.name, everywhere), rule.name
        assert rule.severity == ("WARN" if len(rule.needed_by) == 1 else "ERROR"), rule.name


def test_what_a_person_cannot_override():
    fixed = {rule.name for rule in RULES if not rule.forcible}
    assert fixed == {"candidate", "change_control_plan", "profile", "leak_ceiling", "better_than_chance"}


def test_every_rule_is_named_after_its_function():
    for rule in RULES:
        assert rule.judge is getattr(criteria, rule.name)
        assert rule.judge.__doc__
