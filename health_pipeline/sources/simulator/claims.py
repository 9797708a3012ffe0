"""Claims of the simulated stays and emergency visits; the payer settles them weeks after the discharge."""

from __future__ import annotations

import numpy as np
import pyarrow as pa

from health_pipeline.sources.simulator.admission import HOUR
from health_pipeline.sources.simulator.conditions import CAUSES
from health_pipeline.sources.simulator.hospital import MonthOfCare
from health_pipeline.sources.simulator.population import DAY
from health_pipeline.sources.simulator.random import chance
from health_pipeline.sources.simulator.rows import NO_STAY, moments
from health_pipeline.sources.simulator.stay import PAYERS

LONGEST_LAG_DAYS = 140
"""No claim is settled later after the end of the service."""

_CHARGE = np.array([cause.charge for cause in CAUSES])
_MEDIAN_DAYS = np.array([cause.days for cause in CAUSES])
# By payer: what share of the charge is allowed, what share of it the payer pays, and the log odds of a denial.
_ALLOWED = {"medicare": 0.33, "medicaid": 0.26, "commercial": 0.55, "self_pay": 0.45}
_COVERED = {"medicare": 0.88, "medicaid": 0.98, "commercial": 0.81, "self_pay": 0.0}
_DENIAL = {"medicare": -3.2, "medicaid": -2.3, "commercial": -2.6, "self_pay": -9.0}


def claims(rng: np.random.Generator, care: MonthOfCare) -> pa.Table:
    """Facility and professional claims of the stays that began in a month, and claims of its emergency visits.

    Returns:
        Table with number, stay, person, service_from, service_to, processed_at, charged, allowed, payer_paid,
        patient_paid, denied; the number of a claim is that of its stay (or a running one) and its kind.
    """
    stays, visits = care.stays, care.visits
    facility = _CHARGE[stays.cause] * ((stays.days + 1) / (_MEDIAN_DAYS[stays.cause] + 1)) ** 0.7
    facility = facility * np.exp(0.25 * rng.normal(size=len(stays)) + 0.04 * (stays.facility == 1))
    seen = np.flatnonzero(rng.random(len(stays)) < 0.65)
    professional = facility[seen] * 0.11 * np.exp(0.30 * rng.normal(size=len(seen)))
    emergency = 2_300 * np.exp(0.35 * rng.normal(size=len(visits.person)))
    young = rng.choice(len(PAYERS), size=len(visits.person), p=(0.02, 0.30, 0.52, 0.16))
    nowhere = np.full(len(visits.person), NO_STAY, dtype=np.int64)
    charged = np.concatenate([facility, professional, emergency])
    payer = np.concatenate([stays.payer, stays.payer[seen], np.where(visits.age >= 65, 0, young)])
    service_to = np.concatenate([stays.discharged_at, stays.discharged_at[seen], visits.at + 4 * HOUR])
    denied = chance(rng, np.array([_DENIAL[name] for name in PAYERS])[payer])
    share = np.array([_ALLOWED[name] for name in PAYERS])[payer] * np.exp(0.12 * rng.normal(size=len(charged)))
    allowed = np.where(denied, 0.0, np.round(charged * share.clip(0.05, 1.0), 2))
    covered = np.array([_COVERED[name] for name in PAYERS])[payer] + 0.04 * rng.normal(size=len(charged))
    covered = np.where(payer == PAYERS.index("self_pay"), 0.0, covered.clip(0, 1))
    paid = np.round(allowed * covered, 2)
    lag = (np.exp(np.log(23) + 0.5 * rng.normal(size=len(charged))) * np.where(denied, 1.5, 1.0)).clip(
        3, LONGEST_LAG_DAYS
    )
    kind = np.repeat([1, 2, 3], [len(stays), len(seen), len(visits.person)])
    running = np.concatenate([stays.number, stays.number[seen], care.first_visit + np.arange(len(visits.person))])
    return pa.table(
        {
            "number": running * 4 + kind,
            "stay": np.concatenate([stays.number, stays.number[seen], nowhere]),
            "person": np.concatenate([stays.person, stays.person[seen], visits.person]),
            "service_from": moments(np.concatenate([stays.admitted_at, stays.admitted_at[seen], visits.at])),
            "service_to": moments(service_to),
            "processed_at": moments((service_to + lag * DAY).astype(np.int64)),
            "charged": np.round(charged, 2),
            "allowed": allowed,
            "payer_paid": paid,
            "patient_paid": np.round(allowed - paid, 2),
            "denied": denied,
        }
    )
