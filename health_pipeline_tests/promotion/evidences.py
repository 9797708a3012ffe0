"""Evidence and policy for tests: everything passes unless a test changes it."""

from __future__ import annotations

import dataclasses
import datetime as dt
from typing import Any

from health_pipeline.promotion.evidence import Contender, Estimate, Evidence, Subgroup
from health_pipeline.promotion.plan import load_plan
from health_pipeline.promotion.policy import Policy, policy_of
from health_pipeline.settings import Settings

MONTH = dt.date(2023, 6, 1)

GOOD_METRICS = {
    "roc_auc": Estimate(0.70, 0.67, 0.73),
    "average_precision": Estimate(0.30, 0.27, 0.33),
    "brier": Estimate(0.09, 0.08, 0.10),
    "calibration_slope": Estimate(1.0, 0.9, 1.1),
    "calibration_intercept": Estimate(0.0, -0.1, 0.1),
    "observed_expected": Estimate(1.0, 0.9, 1.1),
    "top_decile_capture": Estimate(0.25, 0.20, 0.30),
}
BETTER = {
    "roc_auc": Estimate(0.05, 0.03, 0.07),
    "average_precision": Estimate(0.03, 0.01, 0.05),
    "brier": Estimate(0.002, 0.001, 0.003),
    "top_decile_capture": Estimate(0.03, 0.01, 0.05),
}
EQUAL = {name: Estimate(0.0, -0.008, 0.008) for name in BETTER}
FAIR_GROUP = Subgroup(
    "sex",
    "female",
    rows=900,
    judged=True,
    observed_expected=Estimate(1.0, 0.8, 1.2),
    discrimination_gap=Estimate(0.0, -0.05, 0.05),
    change=Estimate(0.05, 0.0, 0.1),
)


def policy(**changes: Any) -> Policy:
    """The default policy of settings and plan, with changes."""
    return dataclasses.replace(policy_of(Settings(), load_plan()), **changes)


def contender(name: str, month: dt.date = MONTH, **changes: Any) -> Contender:
    """A sound model."""
    given = {"family": "xgboost", "profile": "standard", "metrics": GOOD_METRICS, **changes}
    return Contender(model_id=name, model_month=month, **given)


def evidence(**changes: Any) -> Evidence:
    """A challenger that is better than its one-month-old incumbent in every way."""
    given: dict[str, Any] = {
        "month": MONTH,
        "challenger": contender("new"),
        "incumbent": contender("old", dt.date(2023, 5, 1)),
        "rows": 2400,
        "events": 300,
        "patients": 2000,
        "holdout_first": dt.date(2023, 2, 1),
        "holdout_last": dt.date(2023, 4, 1),
        "difference": BETTER,
        "non_inferiority": Estimate(0.05, 0.035, 0.065),
        "lace": Estimate(0.06, 0.03, 0.09),
        "lace_available": True,
        "subgroups": (FAIR_GROUP,),
    }
    return Evidence(**{**given, **changes})


def with_metric(name: str, estimate: Estimate, **changes: Any) -> Evidence:
    """The good evidence with another metric of the challenger."""
    return evidence(challenger=contender("new", metrics={**GOOD_METRICS, name: estimate}), **changes)


def with_gain(name: str, estimate: Estimate, **changes: Any) -> Evidence:
    """The good evidence with another difference to the incumbent."""
    return evidence(difference={**BETTER, name: estimate}, **changes)
