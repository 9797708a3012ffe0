"""Shift of predictions under traffic: what the gates saw is accepted, chance included; what they did not see is not."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import pytest

from health_pipeline.deployment.prediction_shift import Comparison, shift_of
from health_pipeline.deployment.records import Samples
from health_pipeline.serving.schema import Feature
from health_pipeline.settings import DeploymentSettings

LIMITS = DeploymentSettings()


@dataclass
class Logistic:
    """A model of one number; ``jump`` is added to its log-odds beyond 3."""

    intercept: float = 0.0
    jump: float = 0.0
    features: tuple[Feature, ...] = (Feature("x", "number"),)

    def probabilities(self, rows):
        x = np.array([row[0] for row in rows])
        return 1 / (1 + np.exp(-(x + self.intercept + self.jump * (x > 3))))


def stays(x):
    return [{"x": float(value)} for value in x]


def draw(rows: int, seed: int, mean: float = 0.0):
    return stays(np.random.default_rng(seed).normal(mean, 1, rows))


def test_a_first_model_is_compared_with_nothing():
    assert shift_of(Comparison(Logistic(), None, Samples(draw(100, 0))), LIMITS) is None


def test_a_release_that_cannot_be_compared_with_is_named():
    found = shift_of(Comparison(Logistic(), None, Samples(draw(100, 0)), missing="lr-elsewhere"), LIMITS)
    assert (found.outcome, found.summary) == ("pass", "not compared: lr-elsewhere, which serves, is not in this home")


def test_too_few_stays_are_inconclusive():
    found = shift_of(Comparison(Logistic(), Logistic(0.1), Samples(draw(LIMITS.min_requests - 1, 0))), LIMITS)
    assert found.outcome == "inconclusive"


def test_a_shift_that_nobody_judged_is_held_against_the_limit_alone():
    recent = Samples(draw(500, 1))
    assert shift_of(Comparison(Logistic(), Logistic(0.1), recent), LIMITS).outcome == "pass"
    assert shift_of(Comparison(Logistic(), Logistic(1.0), recent), LIMITS).outcome == "fail"


def test_small_months_do_not_refuse_what_the_gates_accepted():
    """The index of sixty stays wanders far; beyond a fixed distance from that of the judged months, too."""
    judged = draw(900, 2)
    found = [
        shift_of(Comparison(Logistic(), Logistic(1.0), Samples(draw(60, seed), judged)), LIMITS) for seed in range(100)
    ]
    fixed = [item.numbers["psi"] > item.numbers["psi_judged"] + LIMITS.max_shift for item in found]
    assert sum(fixed) >= 5
    assert sum(item.outcome == "fail" for item in found) <= 1


@pytest.mark.parametrize("rows", [100, 1000])
def test_patients_that_the_gates_hardly_saw_refuse_it(rows):
    judged = draw(900, 2)
    assert shift_of(Comparison(Logistic(jump=-4), Logistic(), Samples(draw(rows, 3), judged)), LIMITS).outcome == "pass"
    found = shift_of(Comparison(Logistic(jump=-4), Logistic(), Samples(draw(rows, 3, mean=4), judged)), LIMITS)
    assert found.outcome == "fail"
    assert found.numbers["psi"] > found.numbers["psi_judged_chance_level"] + LIMITS.max_shift
