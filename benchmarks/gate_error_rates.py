"""Error rates of the gates: constructed models with known truth, many repetitions.

``python -m benchmarks.gate_error_rates [repetitions] [replicates]`` prints the tables of ``docs/promotion.md``.
Equal models are repeated more often, with the replicates that the pipeline uses by default and with the fewest allowed.
"""

import sys

from scipy.stats import beta

from health_pipeline.promotion.plan import load_plan
from health_pipeline.settings import Settings
from health_pipeline_tests.promotion.scenarios import EQUAL_PAIRS, SCENARIOS, false_promotions, play

EQUAL_REPETITIONS = 1000
EQUAL_REPLICATES = (Settings().promotion.bootstrap_replicates, load_plan().protocol.bootstrap_replicates_at_least)


def rate(count: int, played: int) -> str:
    """Share with its 95 % Clopper-Pearson interval."""
    low = beta.ppf(0.025, count, played - count + 1) if count else 0.0
    high = beta.ppf(0.975, count + 1, played - count) if count < played else 1.0
    return f"{count / played:.1%} [{low:.1%}, {high:.1%}]"


def equal_models() -> None:
    print(f"equal models that pass improvement and significance, {EQUAL_REPETITIONS} repetitions\n")
    print("| case | " + " | ".join(f"{replicates} replicates" for replicates in EQUAL_REPLICATES) + " |")
    print("|---" * (len(EQUAL_REPLICATES) + 1) + "|")
    for name, make in EQUAL_PAIRS.items():
        counts = [false_promotions(make, EQUAL_REPETITIONS, replicates) for replicates in EQUAL_REPLICATES]
        print(f"| {name} | " + " | ".join(rate(count, EQUAL_REPETITIONS) for count in counts) + " |", flush=True)


def scenarios(repetitions: int, replicates: int) -> None:
    print(f"\n{repetitions} repetitions, {replicates} bootstrap replicates\n")
    print("| case | right decision | how often it was taken | other decisions |")
    print("|---|---|---|---|")
    for scenario in SCENARIOS:
        tally = play(scenario, repetitions, replicates)
        others = ", ".join(
            f"{outcome} {count / repetitions:.1%}"
            for outcome, count in sorted(tally.outcomes.items())
            if outcome is not scenario.deserved
        )
        right = rate(tally.outcomes[scenario.deserved], repetitions)
        print(f"| {scenario.name} | {scenario.deserved} | {right} | {others} |", flush=True)


if __name__ == "__main__":
    equal_models()
    scenarios(*(int(text) for text in (sys.argv[1:3] or ("200", "200"))))
