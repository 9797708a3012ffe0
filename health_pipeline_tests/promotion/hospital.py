"""A hospital whose truth is known, and models that see more or less of it.

The logit of a readmission is ``BASE + sum(effects * signals)``. A model that sees some of the signals and knows its own
uncertainty gives the attenuated logit (Zeger, Liang, Albert, Biometrics 1988), which is calibrated.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from health_pipeline.promotion.evidence import Contender, Evidence
from health_pipeline.promotion.measure import Bootstrap, Holdout, Scored, measure
from health_pipeline_tests.promotion.evidences import MONTH, policy

Floats = NDArray[np.float64]

BASE = -2.0
STAYS_PER_PATIENT = 1.3
_ATTENUATION = 16 * 3**0.5 / (15 * np.pi)


@dataclass(frozen=True)
class Hospital:
    """Discharges with known signals, shape (rows, 3), and outcome."""

    signals: Floats
    effects: Floats
    y: Floats
    patients: NDArray[np.intp]
    sex: NDArray[np.object_]
    payer: NDArray[np.object_]

    def model(self, *seen: int) -> Floats:
        """Calibrated probabilities of a model that sees these signals."""
        unseen = [index for index in range(self.effects.size) if index not in seen]
        spread = float((self.effects[unseen] ** 2).sum())
        logit = BASE + self.signals[:, list(seen)] @ self.effects[list(seen)]
        return sigmoid(logit / np.sqrt(1 + _ATTENUATION**2 * spread))


def sigmoid(logit: Floats) -> Floats:
    return 1 / (1 + np.exp(-logit))


def logit(p: Floats) -> Floats:
    return np.log(p / (1 - p))


def hospital(seed: int, rows: int = 2400, effects: tuple[float, ...] = (0.7, 0.45, 0.45)) -> Hospital:
    """Discharges, 1.8 for each patient seen (1.3 for each of the pool); half of a signal belongs to the patient."""
    random = np.random.default_rng(seed)
    people = round(rows / STAYS_PER_PATIENT)
    patients = random.integers(0, people, rows)
    shared, own = random.normal(size=(people, len(effects))), random.normal(size=(rows, len(effects)))
    signals = (shared[patients] + own) / np.sqrt(2)
    weights = np.asarray(effects)
    y = (random.random(rows) < sigmoid(BASE + signals @ weights)).astype(float)
    _, codes = np.unique(patients, return_inverse=True)
    sex = np.where(random.random(people) < 0.5, "female", "male").astype(object)[patients]
    payer = np.where(random.random(people) < 0.2, "medicaid", "medicare").astype(object)[patients]
    return Hospital(signals, weights, y, codes.astype(np.intp), sex, payer)


def evidence_of(
    given: Hospital,
    challenger: Floats,
    incumbent: Floats | None,
    *,
    seed: int = 0,
    replicates: int = 200,
    compared: int = 1,
    profile: str = "standard",
    incumbent_age_months: int = 0,
    lace: Floats | None = None,
    **changes: object,
) -> Evidence:
    """Evidence exactly as the champion measures it."""
    rules = policy(**changes)
    holdout = Holdout(given.y, given.patients, lace, {"sex": given.sex, "payer": given.payer})
    old = None if incumbent is None else Scored(incumbent, 0.2)
    found = measure(
        holdout,
        Scored(challenger, 0.2),
        old,
        rules,
        Bootstrap(replicates, seed),
        compared=compared,
        small_number=11,
    )
    trained = MONTH.replace(month=MONTH.month - incumbent_age_months)
    return Evidence(
        month=MONTH,
        challenger=Contender("new", "xgboost", profile, MONTH, found.challenger_metrics),
        incumbent=None if old is None else Contender("old", "xgboost", "standard", trained, found.incumbent_metrics),
        rows=holdout.rows,
        events=holdout.events,
        patients=holdout.patient_count,
        compared=compared,
        difference=found.comparison.difference,
        non_inferiority=found.comparison.non_inferiority,
        lace=found.lace,
        lace_available=lace is not None,
        subgroups=found.subgroups,
    )
