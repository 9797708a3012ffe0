"""What happens during a stay: why the patient came, how ill they are, how long they stay, where they go."""

from __future__ import annotations

from enum import IntEnum

import numpy as np

from health_pipeline.sources.simulator import stay
from health_pipeline.sources.simulator.conditions import CAUSES, CHEMOTHERAPY, INDEX, cause_weights
from health_pipeline.sources.simulator.population import DAY, Population
from health_pipeline.sources.simulator.random import choose, pick
from health_pipeline.sources.simulator.stay import DISPOSITIONS, SOURCES, Stays

HOUR = 3_600
LONGEST_DAYS = 27
"""No stay reaches back over more than one turn of a month."""

_CAUSE_DAYS = np.array([cause.days for cause in CAUSES], dtype=np.float32)
_CAUSE_RISK = np.array([cause.risk for cause in CAUSES], dtype=np.float32)
_CAUSE_DEATH = np.array([cause.death for cause in CAUSES], dtype=np.float32)
_NUMBER = {cause.name: number for number, cause in enumerate(CAUSES)}


class Kind(IntEnum):
    """How a stay comes about."""

    UNPLANNED = 0
    PLANNED = 1
    NURSING_HOME = 2
    READMISSION = 3
    PLANNED_READMISSION = 4
    TRANSFER = 5


def admit(
    rng: np.random.Generator,
    people: Population,
    slots: np.ndarray,
    at: np.ndarray,
    kind: np.ndarray,
    facility: np.ndarray,
    former_cause: np.ndarray,
    first_number: int,
) -> Stays:
    """Simulate stays up to their discharge.

    Args:
        rng: stream of the month.
        people: the population; each slot at most once in ``slots``.
        slots: who is admitted.
        at: moments of admission.
        kind: :class:`Kind` of each.
        facility: hospital of each.
        former_cause: cause of the stay it follows; -1 without one.
        first_number: running number of the first stay.
    """
    size = len(slots)
    has = people.conditions[slots]
    frailty = people.frailty[slots]
    age = people.age(slots, at).astype(np.float32)
    planned = (kind == Kind.PLANNED) | (kind == Kind.PLANNED_READMISSION)
    cause = _cause(rng, has, kind, planned, former_cause)
    severity = (0.9 * rng.normal(size=size) + 0.25 * frailty - 0.5 * planned).astype(np.float32)
    length = _CAUSE_DAYS[cause] * np.exp(0.40 * rng.normal(size=size) + 0.22 * severity)
    days = np.floor(length + rng.random(size) * 0.9).clip(0, LONGEST_DAYS).astype(np.int64)
    day_shift = rng.uniform(9.5, 18.5, size) * HOUR
    discharged = np.where(days > 0, at // DAY * DAY + days * DAY + day_shift, at + rng.uniform(3, 9, size) * HOUR)
    creatinine = people.creatinine[slots] * np.exp(
        0.12 * rng.normal(size=size) + 0.10 * severity + 0.30 * (cause == _NUMBER["kidney_failure"])
    )
    heart_failure, cirrhosis = has[:, INDEX["heart_failure"]], has[:, INDEX["cirrhosis"]]
    urea = (
        14 * (creatinine / 0.95) ** 0.75 * np.exp(0.28 * rng.normal(size=size) + 0.12 * severity + 0.15 * heart_failure)
    )
    sodium = 139.2 + 2.4 * rng.normal(size=size) - 0.6 * severity - 1.7 * heart_failure - 1.6 * cirrhosis
    bleed = cause == _NUMBER["gastrointestinal_bleed"]
    haemoglobin = people.haemoglobin[slots] + 0.7 * rng.normal(size=size) - 0.45 * severity - 1.2 * bleed - 0.05 * days
    albumin = 3.8 + 0.30 * rng.normal(size=size) - 0.25 * severity - 0.12 * frailty - 0.4 * cirrhosis
    drugs = rng.poisson(np.exp(1.45 + 0.115 * has.sum(axis=1) + 0.05 * severity)).clip(0, 24)
    source = _source(rng, has, age, kind, planned)
    return Stays(
        number=np.arange(first_number, first_number + size, dtype=np.int64),
        slot=slots,
        person=people.person[slots],
        facility=facility.astype(np.int8),
        admitted_at=at.astype(np.int64),
        discharged_at=discharged.astype(np.int64),
        admission_type=np.where(planned, 2, rng.random(size) < 0.22).astype(np.int8),
        source=source,
        disposition=_disposition(rng, has, age, severity, frailty, cause, source, facility),
        cause=cause.astype(np.int8),
        cause_risk=_CAUSE_RISK[cause],
        payer=_payer(people.person[slots], age, people.income[slots]),
        is_planned=planned,
        is_urgent=~planned,
        days=days,
        age=age,
        income=people.income[slots],
        marital=people.marital[slots],
        frailty=frailty,
        conditions=has,
        severity=severity,
        sodium=sodium.clip(112, 160).astype(np.float32),
        urea=urea.clip(3, 180).astype(np.float32),
        haemoglobin=haemoglobin.clip(4.5, 19).astype(np.float32),
        albumin=albumin.clip(1.2, 5.4).astype(np.float32),
        creatinine=creatinine.clip(0.3, 18).astype(np.float32),
        drugs=drugs,
        prior_stays=people.stays_within_year(slots, at),
        prior_emergency=people.emergency_visits[slots].sum(axis=1, dtype=np.int64),
    )


def _cause(
    rng: np.random.Generator, has: np.ndarray, kind: np.ndarray, planned: np.ndarray, former: np.ndarray
) -> np.ndarray:
    cause = np.empty(len(has), dtype=np.int64)
    for group in (False, True):
        chosen = planned == group
        cause[chosen] = choose(rng, cause_weights(has[chosen], group))
    again = (kind == Kind.TRANSFER) | ((kind == Kind.READMISSION) & (rng.random(len(has)) < 0.40))
    cause = np.where(again & (former >= 0) & ~planned, former, cause)
    treated = (kind == Kind.PLANNED_READMISSION) & has[:, INDEX["cancer"]]
    return np.where(treated, CHEMOTHERAPY, cause)


def _source(
    rng: np.random.Generator, has: np.ndarray, age: np.ndarray, kind: np.ndarray, planned: np.ndarray
) -> np.ndarray:
    size = len(has)
    unplanned = pick(rng, size, (77, 11, 7, 2, 3))
    nursing = SOURCES.index("transfer_skilled_nursing")
    lives_there = rng.random(size) < 0.28 * has[:, INDEX["dementia"]] + 0.06 * (age > 82)
    unplanned = np.where(lives_there | (kind == Kind.NURSING_HOME), nursing, unplanned)
    source = np.where(planned, pick(rng, size, (0, 78, 22, 0, 0)), unplanned)
    return np.where(kind == Kind.TRANSFER, SOURCES.index("transfer_acute"), source).astype(np.int8)


def _disposition(
    rng: np.random.Generator,
    has: np.ndarray,
    age: np.ndarray,
    severity: np.ndarray,
    frailty: np.ndarray,
    cause: np.ndarray,
    source: np.ndarray,
    facility: np.ndarray,
) -> np.ndarray:
    decades = (age - 68) / 10
    burden = has.sum(axis=1)
    from_nursing_home = source == SOURCES.index("transfer_skilled_nursing")
    needs_rehabilitation = np.isin(cause, [_NUMBER["stroke"], _NUMBER["hip_fracture"], _NUMBER["bypass_surgery"]])
    metastatic, substance = has[:, INDEX["metastatic_cancer"]], has[:, INDEX["substance_use"]]
    log_weights = {
        "home": np.zeros(len(has)),
        "home_health": -1.9 + 0.40 * decades + 0.20 * severity + 0.12 * burden + 0.25 * frailty,
        "skilled_nursing": -2.5 + 0.65 * decades + 0.35 * severity + 0.6 * has[:, INDEX["dementia"]]
        + 2.2 * from_nursing_home + 0.25 * frailty,
        "rehabilitation": -3.8 + 0.15 * decades + 0.2 * severity + 2.2 * needs_rehabilitation,
        "long_term_care": -5.6 + 0.4 * severity + 0.4 * decades,
        "acute_transfer": -3.9 + 0.35 * severity + 0.8 * (facility == 2),
        "psychiatric": -6.5 + 4.3 * (cause == _NUMBER["depression"]),
        "against_advice": -4.7 + 1.5 * substance - 0.30 * decades,
        "hospice": -4.5 + 1.9 * metastatic + 0.55 * decades + 0.45 * severity + 0.35 * frailty,
        "expired": -4.0 + _CAUSE_DEATH[cause] + 0.65 * severity + 0.30 * decades + 0.5 * metastatic + 0.3 * frailty,
    }  # fmt: skip
    weights = np.exp(np.stack([log_weights[name] for name in DISPOSITIONS], axis=1))
    return choose(rng, weights).astype(np.int8)


def _payer(person: np.ndarray, age: np.ndarray, income: np.ndarray) -> np.ndarray:
    """A person keeps their kind of insurance: drawn from their number."""
    drawn = (person * 0.6180339887498949) % 1.0
    medicare, medicaid, commercial, self_pay = (stay.PAYERS.index(name) for name in stay.PAYERS)
    poor = income < 45_000
    young = np.select(
        [drawn < np.where(poor, 0.42, 0.06), drawn < np.where(poor, 0.55, 0.11)], [medicaid, self_pay], commercial
    )
    return np.where(age >= 65, np.where(drawn < 0.93, medicare, commercial), young).astype(np.int8)
