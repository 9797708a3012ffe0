"""The gates against constructed models: the right decision, at a stated rate.

The normal lane plays each case a few times, the slow lane often; ``benchmarks/gate_error_rates.py`` prints all rates.
"""

from __future__ import annotations

import pytest

from health_pipeline.promotion.criteria import Outcome
from health_pipeline.promotion.plan import load_plan
from health_pipeline.settings import Settings
from health_pipeline_tests.promotion.scenarios import EQUAL_PAIRS, SCENARIOS, Scenario, false_promotions, play

FALSE_PROMOTION_RATE = 0.05
DEFAULT_REPLICATES = Settings().promotion.bootstrap_replicates
FEWEST_REPLICATES = load_plan().protocol.bootstrap_replicates_at_least
_BY_NAME = {scenario.name: scenario for scenario in SCENARIOS}
_IDS = list(_BY_NAME)


def assert_right(scenario: Scenario, repetitions: int, replicates: int, slack: float) -> None:
    tally = play(scenario, repetitions, replicates)
    right = tally.outcomes[scenario.deserved]
    assert right >= (scenario.rate - slack) * repetitions, dict(tally.outcomes)
    if scenario.because is not None and scenario.rate >= 0.99:
        assert tally.with_reason >= scenario.rate * tally.outcomes[Outcome.SKIP]


@pytest.mark.parametrize("name", _IDS)
def test_right_decision(name):
    assert_right(_BY_NAME[name], repetitions=4, replicates=60, slack=0.25)


@pytest.mark.slow
@pytest.mark.parametrize("name", _IDS)
def test_right_decision_at_the_stated_rate(name):
    assert_right(_BY_NAME[name], repetitions=200, replicates=200, slack=0.0)


@pytest.mark.slow
@pytest.mark.parametrize("replicates", [DEFAULT_REPLICATES, FEWEST_REPLICATES])
@pytest.mark.parametrize("name", EQUAL_PAIRS)
def test_equal_models_are_promoted_in_at_most_one_of_twenty(name, replicates):
    assert false_promotions(EQUAL_PAIRS[name], repetitions=1000, replicates=replicates) <= FALSE_PROMOTION_RATE * 1000
