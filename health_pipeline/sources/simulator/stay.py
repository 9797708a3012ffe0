"""Inpatient stays of the simulated hospital: what is known about each when it ends."""

from __future__ import annotations

from dataclasses import dataclass, fields

import numpy as np

ADMISSION_TYPES = ("emergency", "urgent", "elective")
SOURCES = (
    "emergency_room",
    "physician_referral",
    "clinic_referral",
    "transfer_acute",
    "transfer_skilled_nursing",
)
DISPOSITIONS = (
    "home",
    "home_health",
    "skilled_nursing",
    "rehabilitation",
    "long_term_care",
    "acute_transfer",
    "psychiatric",
    "against_advice",
    "hospice",
    "expired",
)
FACILITIES = ("F01", "F02", "F03")
PAYERS = ("medicare", "medicaid", "commercial", "self_pay")


@dataclass
class Stays:
    """Stays as arrays of one length; times in seconds since 1970 (hospital local time).

    Attributes:
        number: running number of the stay since the simulation began.
        slot: place of the patient in the population while the stay is simulated.
        person: number of the patient.
        cause: index into ``conditions.CAUSES``.
        days: length in days, 0 for a stay of one day.
        severity: standardised severity of this illness (latent; shows in laboratory values and length).
        sodium, urea, haemoglobin, albumin, creatinine: at discharge (mmol/L, mg/dL, g/dL, g/dL, mg/dL).
        drugs: number of medicines at discharge.
        prior_stays: discharges in the 365 days before admission.
        prior_emergency: emergency visits in the six months before.
    """

    number: np.ndarray
    slot: np.ndarray
    person: np.ndarray
    facility: np.ndarray
    admitted_at: np.ndarray
    discharged_at: np.ndarray
    admission_type: np.ndarray
    source: np.ndarray
    disposition: np.ndarray
    cause: np.ndarray
    cause_risk: np.ndarray
    payer: np.ndarray
    is_planned: np.ndarray
    is_urgent: np.ndarray
    days: np.ndarray
    age: np.ndarray
    income: np.ndarray
    marital: np.ndarray
    frailty: np.ndarray
    conditions: np.ndarray
    severity: np.ndarray
    sodium: np.ndarray
    urea: np.ndarray
    haemoglobin: np.ndarray
    albumin: np.ndarray
    creatinine: np.ndarray
    drugs: np.ndarray
    prior_stays: np.ndarray
    prior_emergency: np.ndarray

    def __len__(self) -> int:
        return len(self.number)

    def take(self, chosen: np.ndarray) -> Stays:
        """Some of the stays, by index or by mask."""
        return Stays(**{item.name: getattr(self, item.name)[chosen] for item in fields(self)})


def concatenate(parts: list[Stays]) -> Stays:
    """All stays in one; at least one part."""
    return Stays(**{item.name: np.concatenate([getattr(part, item.name) for part in parts]) for item in fields(Stays)})
