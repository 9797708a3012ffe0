"""Error rates of the gates: constructed models with known truth, many repetitions.

``python -m benchmarks.gate_error_rates [repetitions] [replicates]`` prints the table of ``docs/promotion.md``.
"""

import sys

from scipy.stats import beta

from health_pipeline_tests.promotion.scenarios import SCENARIOS, play


def main() -> None:
    repetitions = int(sys.argv[1]) if len(sys.argv) > 1 else 400
    replicates = int(sys.argv[2]) if len(sys.argv) > 2 else 400
    print(f"{replicates} bootstrap replicates; 95 % Clopper-Pearson intervals\n")
    print("| case | right decision | played | how often it was taken | other decisions |")
    print("|---|---|---|---|---|")
    for scenario in SCENARIOS:
        played = repetitions * scenario.effort
        tally = play(scenario, played, replicates)
        right = tally.outcomes[scenario.deserved]
        low = beta.ppf(0.025, right, played - right + 1) if right else 0.0
        high = beta.ppf(0.975, right + 1, played - right) if right < played else 1.0
        others = ", ".join(
            f"{outcome} {count / played:.1%}"
            for outcome, count in sorted(tally.outcomes.items())
            if outcome is not scenario.deserved
        )
        print(
            f"| {scenario.name} | {scenario.deserved} | {played} | {right / played:.1%} [{low:.1%}, {high:.1%}] | {others} |",
            flush=True,
        )


if __name__ == "__main__":
    main()
