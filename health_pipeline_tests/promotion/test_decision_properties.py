"""What must hold for any evidence: monotonicity, failing closed, orders within bounds, records that replay."""

from __future__ import annotations

import dataclasses
import datetime as dt
import math

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from health_pipeline.promotion.criteria import RULES, Outcome
from health_pipeline.promotion.decision import decide
from health_pipeline.promotion.evidence import NOTHING, Contender, Estimate, Evidence, Force, Record, Subgroup
from health_pipeline_tests.promotion.evidences import (
    BETTER,
    FAIR_GROUP,
    GOOD_METRICS,
    MONTH,
    contender,
    evidence,
    policy,
)

RULES_OF_PLAY = policy()
TARGET = {"calibration_slope": 1.0, "calibration_intercept": 0.0, "observed_expected": 1.0}


def number(low: float, high: float) -> st.SearchStrategy[float]:
    return st.integers(round(low * 10_000), round(high * 10_000)).map(lambda units: units / 10_000)


@st.composite
def estimates(draw: st.DrawFn, low: float, high: float, spread: float) -> Estimate:
    value = draw(number(low, high))
    return Estimate(value, value - draw(number(0, spread)), value + draw(number(0, spread)))


@st.composite
def contenders(draw: st.DrawFn, name: str, month: st.SearchStrategy[dt.date]) -> Contender:
    metrics = {
        "roc_auc": draw(estimates(0.5, 0.88, 0.08)),
        "average_precision": draw(estimates(0.1, 0.5, 0.05)),
        "brier": draw(estimates(0.05, 0.2, 0.02)),
        "calibration_slope": draw(estimates(0.6, 1.5, 0.2)),
        "calibration_intercept": draw(estimates(-0.4, 0.4, 0.2)),
        "observed_expected": draw(estimates(0.7, 1.4, 0.2)),
        "top_decile_capture": draw(estimates(0.08, 0.4, 0.05)),
    }
    return Contender(name, "xgboost", draw(st.sampled_from(["standard", "quick"])), draw(month), metrics)


@st.composite
def groups(draw: st.DrawFn) -> Subgroup:
    return Subgroup(
        "sex",
        "female",
        rows=900,
        judged=draw(st.booleans()),
        observed_expected=draw(estimates(0.5, 2.0, 0.3)),
        discrimination_gap=draw(estimates(-0.3, 0.2, 0.2)),
        change=draw(estimates(-0.1, 0.1, 0.1)),
    )


@st.composite
def evidences(draw: st.DrawFn) -> Evidence:
    """Evidence around all limits, so that every decision occurs."""
    rows = draw(st.integers(800, 3000))
    trained = st.sampled_from([dt.date(2023, 6, 1), dt.date(2023, 5, 1), dt.date(2022, 6, 1)])
    return Evidence(
        month=MONTH,
        challenger=draw(st.none() | contenders("new", st.just(MONTH))),
        incumbent=draw(st.none() | contenders("old", trained)),
        rows=rows,
        events=draw(st.integers(20, rows // 2)),
        patients=rows,
        difference={name: draw(estimates(-0.03, 0.06, 0.03)) for name in BETTER},
        non_inferiority=draw(estimates(-0.03, 0.06, 0.02)),
        lace=draw(estimates(-0.03, 0.1, 0.05)),
        lace_available=draw(st.booleans()),
        subgroups=tuple(draw(st.lists(groups(), max_size=2))),
        plan_violations=draw(st.sampled_from([(), (), ("x",)])),
    )


sound = st.builds(
    lambda gain, low, days: evidence(
        incumbent=contender("old", MONTH - dt.timedelta(days=days)),
        difference={**BETTER, "roc_auc": Estimate(gain, low, gain + 0.02)},
        non_inferiority=Estimate(gain, low + 0.003, gain + 0.02),
    ),
    number(-0.01, 0.05),
    number(-0.015, 0.02),
    st.sampled_from([0, 31, 365]),
)
anything = evidences() | sound


def lower(estimate: Estimate, by: float) -> Estimate:
    return Estimate(*(None if part is None else part - by for part in (estimate.value, estimate.low, estimate.high)))


def away(estimate: Estimate, target: float, factor: float) -> Estimate:
    parts = (estimate.value, estimate.low, estimate.high)
    return Estimate(*(None if part is None else target + (part - target) * factor for part in parts))


@st.composite
def worse(draw: st.DrawFn, original: Evidence) -> Evidence:
    """The same evidence with any of its numbers worse, and none better."""
    by = st.sampled_from([0.0, 0.005, 0.05])
    more = st.sampled_from([1.0, 1.2, 3.0])
    metrics = {}
    if original.challenger is not None:
        for name, estimate in original.challenger.metrics.items():
            if name in TARGET:
                metrics[name] = away(estimate, TARGET[name], draw(more))
            elif name == "roc_auc":  # a higher value is better up to the ceiling; the lower bound is what is judged
                metrics[name] = Estimate(estimate.value, *(lower(estimate, draw(by)).low, estimate.high))
            else:
                metrics[name] = lower(estimate, draw(by)) if name != "brier" else estimate
    rows = original.rows - draw(st.sampled_from([0, 100, 1500]))
    rows = max(rows, 2 * original.events)
    incumbent = original.incumbent
    if incumbent is not None and draw(st.booleans()):
        incumbent = dataclasses.replace(incumbent, model_month=MONTH)
    return dataclasses.replace(
        original,
        challenger=None
        if original.challenger is None
        else dataclasses.replace(
            original.challenger, metrics=metrics, profile=draw(st.sampled_from([original.challenger.profile, "quick"]))
        ),
        incumbent=incumbent,
        rows=rows,
        events=max(original.events - draw(st.sampled_from([0, 10, 200])), 0),
        difference={name: lower(estimate, draw(by)) for name, estimate in original.difference.items()},
        non_inferiority=lower(original.non_inferiority, draw(by)),
        lace=lower(original.lace, draw(by)),
        subgroups=tuple(
            dataclasses.replace(
                group,
                discrimination_gap=lower(group.discrimination_gap, draw(by)),
                change=lower(group.change, draw(by)),
            )
            for group in original.subgroups
        ),
        plan_violations=(*original.plan_violations, *draw(st.sampled_from([(), ("y",)]))),
    )


@settings(max_examples=100, deadline=None)
@given(st.data())
def test_worse_evidence_never_turns_skip_into_a_promotion(data):
    original = data.draw(anything)
    changed = data.draw(worse(original))
    if decide(changed, RULES_OF_PLAY).promotes:
        assert decide(original, RULES_OF_PLAY).promotes


@settings(max_examples=100, deadline=None)
@given(anything)
def test_a_promotion_has_passed_everything_it_needs(original):
    decision = decide(original, RULES_OF_PLAY)
    failed = {criterion.criterion for criterion in decision.criteria if not criterion.passed}
    for rule in RULES:
        if decision.outcome in rule.needed_by:
            assert rule.name not in failed
    assert not decision.forced
    if decision.promotes:
        assert (decision.outcome is Outcome.INITIAL) == (original.incumbent is None)
        assert decision.recommendations == ()
    else:
        assert failed
        assert decision.recommendations


@settings(max_examples=60, deadline=None)
@given(anything)
def test_an_order_promotes_unless_the_evidence_is_broken(original):
    plain = decide(original, RULES_OF_PLAY)
    ordered = decide(dataclasses.replace(original, force=Force("a", "b")), RULES_OF_PLAY)
    broken = any(not plain.criterion(rule.name).passed for rule in RULES if not rule.forcible)
    assert ordered.promotes == (plain.promotes or not broken)
    assert ordered.forced == (ordered.promotes and not plain.promotes)
    assert ordered.criteria == plain.criteria
    if plain.promotes:
        assert ordered.outcome == plain.outcome


BAD = (None, math.nan, math.inf, -math.inf)


@pytest.mark.parametrize("bad", BAD)
@pytest.mark.parametrize("part", ["value", "low", "high"])
@pytest.mark.parametrize("name", [*GOOD_METRICS])
def test_a_missing_metric_never_promotes_an_unsound_model(name, part, bad):
    """With the number gone, the decision is SKIP wherever the number is one that is judged."""
    judged = {"roc_auc": {"value", "low"}}.get(name, {"value"})
    broken = dataclasses.replace(GOOD_METRICS[name], **{part: bad})
    outcome = decide(evidence(challenger=contender("new", metrics={**GOOD_METRICS, name: broken})), policy()).outcome
    unjudged = name in {"average_precision", "brier"} or part not in judged
    assert outcome is (Outcome.DEPLOY if unjudged else Outcome.SKIP)


@pytest.mark.parametrize("bad", BAD)
@pytest.mark.parametrize("name", [*BETTER])
@pytest.mark.parametrize("part", ["value", "low", "high"])
@pytest.mark.parametrize("age", [0, 365])
def test_a_missing_difference_never_deploys(name, part, bad, age):
    broken = dataclasses.replace(BETTER[name], **{part: bad})
    given_evidence = evidence(
        difference={**BETTER, name: broken}, incumbent=contender("old", MONTH - dt.timedelta(days=age))
    )
    outcome = decide(given_evidence, policy()).outcome
    if part == "value":
        assert outcome is Outcome.SKIP
    elif (name, part) == ("roc_auc", "low"):
        assert outcome is (Outcome.DEPLOY_REFRESH if age else Outcome.SKIP)
    else:
        assert outcome is Outcome.DEPLOY


@pytest.mark.parametrize("bad", BAD)
def test_a_missing_non_inferiority_bound_never_refreshes(bad):
    given_evidence = evidence(
        difference={**BETTER, "roc_auc": Estimate(0.0, -0.01, 0.01)}, non_inferiority=Estimate(0.0, bad, 0.01)
    )
    assert decide(given_evidence, policy()).outcome is Outcome.SKIP


def test_no_number_at_all_is_skip():
    empty = {"difference": {}, "non_inferiority": NOTHING, "lace": NOTHING, "subgroups": ()}
    for incumbent in (None, contender("old", metrics={})):
        given_evidence = evidence(challenger=contender("new", metrics={}), incumbent=incumbent, **empty)
        assert decide(given_evidence, policy()).outcome is Outcome.SKIP


@settings(max_examples=40, deadline=None)
@given(anything)
def test_a_record_replays_to_the_same_decision(original):
    again = Record.from_json(Record(original, RULES_OF_PLAY).to_json())
    assert decide(again.evidence, again.policy) == decide(original, RULES_OF_PLAY)


def test_one_bad_group_stops_a_good_model():
    bad = dataclasses.replace(FAIR_GROUP, change=Estimate(-0.1, -0.15, -0.05))
    assert decide(evidence(subgroups=(FAIR_GROUP, bad)), policy()).outcome is Outcome.SKIP
