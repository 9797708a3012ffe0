"""What a person reads about a decision, word for word: golden texts beside this file, one for each case.

``python -m health_pipeline_tests.promotion.test_reasoning`` writes them anew; read the difference before committing it.
"""

from __future__ import annotations

import datetime as dt
from pathlib import Path

import pytest

from health_pipeline.promotion.decision import Decision, decide
from health_pipeline.promotion.evidence import NOTHING, Estimate, Force, Subgroup
from health_pipeline_tests.promotion.evidences import (
    BETTER,
    EQUAL,
    FAIR_GROUP,
    GOOD_METRICS,
    contender,
    evidence,
    policy,
)

GOLDEN = Path(__file__).parent / "golden"
UNFAIR = Subgroup(
    "race",
    "other",
    rows=None,
    judged=True,
    observed_expected=Estimate(2.0, 1.6, 2.5),
    discrimination_gap=Estimate(-0.3, -0.4, -0.2),
    change=Estimate(-0.1, -0.15, -0.05),
)
UNSEEN = Subgroup("race", "unknown", rows=300, judged=True)
FEW = Subgroup("sex", "male", rows=40, judged=False)
BAD = {
    "roc_auc": Estimate(0.90, 0.49, 0.95),
    "calibration_slope": Estimate(0.5, 0.4, 0.6),
    "calibration_intercept": Estimate(0.6, 0.5, 0.7),
    "observed_expected": Estimate(1.8, 1.7, 1.9),
    "top_decile_capture": Estimate(0.05, 0.02, 0.08),
}
LOSS = {name: Estimate(-0.05, -0.08, -0.03) for name in BETTER}

CASES = {
    "deploy": evidence(compared=2),
    "initial": evidence(incumbent=None, difference={}, non_inferiority=NOTHING, lace_available=False, subgroups=(FEW,)),
    "refresh": evidence(difference=EQUAL, non_inferiority=Estimate(0.0, -0.007, 0.007), subgroups=(FAIR_GROUP, FEW)),
    "too_young": evidence(
        difference=EQUAL, non_inferiority=Estimate(0.0, -0.007, 0.007), incumbent=contender("old", dt.date(2023, 6, 1))
    ),
    "everything_wrong": evidence(
        challenger=contender("new", profile="quick", metrics=BAD),
        rows=500,
        events=20,
        patients=400,
        difference=LOSS,
        non_inferiority=Estimate(-0.05, -0.08, -0.02),
        lace=Estimate(-0.1, -0.2, -0.05),
        subgroups=(FAIR_GROUP, UNFAIR, UNSEEN),
        plan_violations=("min_samples is 10, the plan allows no less than 100", "family x is not allowed"),
        force=Force("A. Person", "recall of the old one"),
    ),
    "nothing_measured": evidence(
        challenger=contender("new", metrics={}),
        rows=0,
        events=0,
        patients=0,
        holdout_first=None,
        holdout_last=None,
        difference={},
        non_inferiority=NOTHING,
        lace=NOTHING,
        subgroups=(UNSEEN,),
    ),
    "no_candidate": evidence(challenger=None, incumbent=None, difference={}, subgroups=()),
    "forced": evidence(
        difference=LOSS,
        non_inferiority=Estimate(-0.05, -0.08, -0.02),
        force=Force("A. Person", "recall of the old one"),
    ),
    "order_not_needed": evidence(force=Force("A. Person", "to be sure")),
    "only_the_sample": evidence(rows=990, events=55, challenger=contender("new", metrics=GOOD_METRICS)),
}


def as_text(decision: Decision) -> str:
    """Everything a decision says."""
    lines = [decision.reason, "", f"forced: {decision.forced!r}", f"next training: {decision.next_training_date}"]
    lines += [f"advice: {text}" for text in decision.recommendations]
    for item in decision.criteria:
        flags = f"passed={item.passed!r} applicable={item.applicable!r} near_miss={item.near_miss!r}"
        lines.append(f"{item.criterion} {item.value!r} {item.threshold!r} {flags} {item.severity}")
    return "\n".join(lines) + "\n"


@pytest.mark.parametrize("name", CASES)
def test_reasoning(name):
    expected = (GOLDEN / f"{name}.txt").read_text("utf-8")
    assert as_text(decide(CASES[name], policy(max_days_since_update=30, plan_hash="abcdef0123456789"))) == expected


def test_no_golden_text_is_left_over():
    assert {path.stem for path in GOLDEN.glob("*.txt")} == set(CASES)


if __name__ == "__main__":
    GOLDEN.mkdir(exist_ok=True)
    for case, given in CASES.items():
        text = as_text(decide(given, policy(max_days_since_update=30, plan_hash="abcdef0123456789")))
        (GOLDEN / f"{case}.txt").write_text(text, "utf-8")
