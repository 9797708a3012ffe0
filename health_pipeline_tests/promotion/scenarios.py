"""Constructed models whose truth is known, with the decision each deserves.

``SCENARIOS`` is played by the tests (a few repetitions in the normal lane, many in the slow one) and by
``benchmarks/gate_error_rates.py``, which prints the rates.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass

import numpy as np

from health_pipeline.modeling.metrics import measure, paired_bootstrap
from health_pipeline.promotion.criteria import RULES, Outcome
from health_pipeline.promotion.decision import Decision, decide
from health_pipeline.promotion.evidence import Estimate
from health_pipeline_tests.promotion.evidences import policy, with_gain
from health_pipeline_tests.promotion.hospital import Hospital, evidence_of, hospital, logit, sigmoid

DEPLOY, REFRESH, INITIAL, SKIP = Outcome.DEPLOY, Outcome.DEPLOY_REFRESH, Outcome.INITIAL, Outcome.SKIP

Play = Callable[[int, int], Decision]
"""From seed and bootstrap replicates to a decision."""


@dataclass(frozen=True)
class Pair:
    """Challenger and incumbent of a hospital; the challenger is the best of ``compared``."""

    given: Hospital
    challenger: np.ndarray
    incumbent: np.ndarray
    compared: int = 1


@dataclass(frozen=True)
class Scenario:
    """A constructed case.

    Attributes:
        deserved: the right decision.
        rate: smallest share of repetitions in which it must be taken.
        because: a criterion that must be among the failed ones whenever the decision is SKIP.
    """

    name: str
    play: Play
    deserved: Outcome
    rate: float
    because: str | None = None


def _decide(given: Hospital, challenger: np.ndarray, incumbent: np.ndarray | None, seed: int, replicates: int, **more):
    changes = {name: more.pop(name) for name in ("min_samples", "min_events") if name in more}
    evidence = evidence_of(given, challenger, incumbent, seed=seed, replicates=replicates, **changes, **more)
    return decide(evidence, policy(**changes))


def better(seed: int, replicates: int, *, rows: int = 2400, **more: object) -> Decision:
    """AUROC 0.733 against 0.672."""
    given = hospital(seed, rows)
    return _decide(given, given.model(0, 1, 2), given.model(0), seed, replicates, **more)


def somewhat_better(seed: int, replicates: int, *, rows: int = 2400) -> Decision:
    """AUROC 0.705 against 0.672."""
    given = hospital(seed, rows)
    return _decide(given, given.model(0, 1), given.model(0), seed, replicates)


def worse(seed: int, replicates: int, *, age: int = 0) -> Decision:
    """AUROC 0.672 against 0.705."""
    given = hospital(seed)
    return _decide(given, given.model(0), given.model(0, 1), seed, replicates, incumbent_age_months=age)


def equal_pair(seed: int, rows: int = 2400) -> Pair:
    """Two models of AUROC 0.705 that see different signals: as different as equal models get."""
    given = hospital(seed, rows)
    return Pair(given, given.model(0, 1), given.model(0, 2))


def best_of_three_pair(seed: int) -> Pair:
    """The luckiest of three candidates, each equal to the incumbent."""
    given = hospital(seed, effects=(0.7, 0.45, 0.45, 0.45, 0.45))
    candidates = [given.model(0, index) for index in (2, 3, 4)]
    best = max(candidates, key=lambda p: measure(given.y, p, metrics=("roc_auc",))["roc_auc"])
    return Pair(given, best, given.model(0, 1), compared=3)


def equal(seed: int, replicates: int, *, rows: int = 2400, **more: object) -> Decision:
    """The whole decision about an equal pair."""
    pair = equal_pair(seed, rows)
    return _decide(pair.given, pair.challenger, pair.incumbent, seed, replicates, **more)


def best_of_three_equals(seed: int, replicates: int) -> Decision:
    """The whole decision about the luckiest of three."""
    pair = best_of_three_pair(seed)
    return _decide(pair.given, pair.challenger, pair.incumbent, seed, replicates, compared=pair.compared)


def false_promotions(make: Callable[[int], Pair], repetitions: int, replicates: int) -> int:
    """How often an equal challenger passes improvement and significance: the most a DEPLOY can happen.

    Only the primary metric is drawn, and only where its gain passes without an interval: many repetitions with many
    replicates become affordable.
    """
    improvement, significance = (rule for rule in RULES if rule.name in {"improvement", "significance"})
    count = 0
    for seed in range(1, repetitions + 1):
        pair = make(seed)
        new, old = (
            measure(pair.given.y, p, metrics=("roc_auc",))["roc_auc"] for p in (pair.challenger, pair.incumbent)
        )
        if not improvement.apply(with_gain("roc_auc", Estimate(new - old)), policy()).passed:
            continue
        drawn = paired_bootstrap(
            "roc_auc",
            pair.given.y,
            pair.incumbent,
            pair.challenger,
            pair.given.patients,
            replicates=replicates,
            seed=seed,
            level=1 - 0.05 / pair.compared,
        )
        found = with_gain("roc_auc", Estimate(drawn.difference, drawn.ci_low, drawn.ci_high))
        count += significance.apply(found, policy()).passed
    return count


def miscalibrated(seed: int, replicates: int, *, slope: float = 1.0, shift: float = 0.0) -> Decision:
    """A better ranking with wrong probabilities."""
    given = hospital(seed)
    centre = logit(np.asarray(given.y.mean()))
    wrong = sigmoid((logit(given.model(0, 1, 2)) - centre) * slope + centre + shift)
    return _decide(given, wrong, given.model(0), seed, replicates)


def leaky(seed: int, replicates: int, *, first: bool = False) -> Decision:
    """The outcome itself reaches a feature in most rows."""
    given = hospital(seed)
    known = np.random.default_rng(seed).random(given.y.size) < 0.8
    peeking = sigmoid(logit(given.model(0, 1)) + np.where(known, 3 * (given.y - 0.5), 0))
    return _decide(given, peeking, None if first else given.model(0), seed, replicates)


def blind_for_a_group(seed: int, replicates: int) -> Decision:
    """Better overall; among patients with Medicaid (a fifth) its ranking is a random one."""
    given = hospital(seed, 4800)
    good, group = given.model(0, 1, 2), given.payer == "medicaid"
    shuffled = good.copy()
    shuffled[group] = np.random.default_rng(seed).permutation(good[group])
    return _decide(given, shuffled, given.model(0), seed, replicates)


def understates_a_group(seed: int, replicates: int) -> Decision:
    """Better overall; among patients with Medicaid risk is understated by more than half."""
    given = hospital(seed, 4800)
    lower = np.where(given.payer == "medicaid", -1.2, 0.0)
    return _decide(given, sigmoid(logit(given.model(0, 1, 2)) + lower), given.model(0), seed, replicates)


def retrained(seed: int, replicates: int, *, noise: float, age: int) -> Decision:
    """The incumbent fitted again: the same but for noise on the logit (0.05: as good; 0.26: AUROC 0.01 lower)."""
    given = hospital(seed)
    old = given.model(0, 1)
    spread = noise * np.random.default_rng(seed).normal(size=old.size)
    spread_of_old = np.std(logit(old))
    shrink = spread_of_old**2 / (spread_of_old**2 + noise**2)
    centre = logit(old).mean()
    new = sigmoid(centre + shrink * (logit(old) - centre + spread))
    return _decide(given, new, old, seed, replicates, incumbent_age_months=age)


def first_model(seed: int, replicates: int, *, blind: bool = False) -> Decision:
    """No incumbent yet."""
    given = hospital(seed)
    sound = given.model(0, 1)
    model = np.random.default_rng(seed).permutation(sound) if blind else sound
    return _decide(given, model, None, seed, replicates)


def no_better_than_lace(seed: int, replicates: int) -> Decision:
    """Better than the incumbent, but a hand-made index knows as much."""
    given = hospital(seed)
    index = np.round(5 * given.signals @ given.effects + 10)
    return _decide(given, given.model(0, 1), given.model(0), seed, replicates, lace=index)


SCENARIOS = (
    Scenario("truly better (+0.061)", better, DEPLOY, 0.95),
    Scenario("somewhat better (+0.033)", somewhat_better, DEPLOY, 0.60),
    Scenario("somewhat better, 9,600 rows", lambda s, r: somewhat_better(s, r, rows=9600), DEPLOY, 0.90),
    Scenario("truly worse (-0.033)", worse, SKIP, 0.995, "improvement"),
    Scenario("truly worse, stale incumbent", lambda s, r: worse(s, r, age=3), SKIP, 0.99, "non_inferiority"),
    Scenario("equal", equal, SKIP, 0.92, "improvement"),
    Scenario("best of three equals", best_of_three_equals, SKIP, 0.92),
    Scenario("lucky on 300 rows", lambda s, r: equal(s, r, rows=300), SKIP, 1.0, "sample_size"),
    Scenario(
        "lucky on 300 rows, gate on 200",
        lambda s, r: equal(s, r, rows=300, min_samples=200, min_events=20),
        SKIP,
        0.92,
    ),
    Scenario("too extreme (slope 0.5)", lambda s, r: miscalibrated(s, r, slope=2), SKIP, 0.99, "calibration_slope"),
    Scenario("too high (O/E 0.6)", lambda s, r: miscalibrated(s, r, shift=0.7), SKIP, 0.99, "observed_expected"),
    Scenario("leaky", leaky, SKIP, 1.0, "leak_ceiling"),
    Scenario("leaky first model", lambda s, r: leaky(s, r, first=True), SKIP, 1.0, "leak_ceiling"),
    Scenario("blind for a group", blind_for_a_group, SKIP, 0.90),
    Scenario("understates a group", understates_a_group, SKIP, 0.95, "subgroup_calibration"),
    Scenario("retrained, stale incumbent", lambda s, r: retrained(s, r, noise=0.05, age=3), REFRESH, 0.95),
    Scenario("retrained, fresh incumbent", lambda s, r: retrained(s, r, noise=0.05, age=0), SKIP, 1.0, "staleness"),
    Scenario(
        "0.01 worse, stale incumbent",
        lambda s, r: retrained(s, r, noise=0.26, age=3),
        SKIP,
        0.95,
        "non_inferiority",
    ),
    Scenario("better, quick profile", lambda s, r: better(s, r, profile="quick"), SKIP, 1.0, "profile"),
    Scenario("sound first model", first_model, INITIAL, 0.97),
    Scenario("blind first model", lambda s, r: first_model(s, r, blind=True), SKIP, 0.97),
    Scenario("no better than LACE", no_better_than_lace, SKIP, 0.97, "better_than_lace"),
)

EQUAL_PAIRS: dict[str, Callable[[int], Pair]] = {
    "equal": equal_pair,
    "best of three equals": best_of_three_pair,
    "equal, 300 rows": lambda seed: equal_pair(seed, rows=300),
}


@dataclass(frozen=True)
class Tally:
    """How often each decision was taken, and how often a SKIP had the reason it must have."""

    outcomes: Counter[Outcome]
    with_reason: int

    @property
    def repetitions(self) -> int:
        """Decisions taken."""
        return sum(self.outcomes.values())


def play(scenario: Scenario, repetitions: int, replicates: int) -> Tally:
    """Repeat a scenario with seeds 1, 2, ..."""
    outcomes: Counter[Outcome] = Counter()
    with_reason = 0
    for seed in range(1, repetitions + 1):
        decision = scenario.play(seed, replicates)
        outcomes[decision.outcome] += 1
        if decision.outcome is SKIP and scenario.because is not None:
            with_reason += not decision.criterion(scenario.because).passed
    return Tally(outcomes, with_reason)
