"""The people who live around the simulated hospital: attributes, chronic conditions, frailty, and what befell them.

A slot is one place in the arrays; when its person dies or moves away, another person with a new number takes it.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from health_pipeline.sources.simulator.conditions import CONDITIONS, INDEX, USE
from health_pipeline.sources.simulator.random import chance, pick

DAY = 86_400
PEOPLE_PER_ADMISSION = 18
"""Size of the population for each admission a month: some 0.7 admissions a year, as among the chronically ill."""

REMEMBERED_STAYS = 8
REMEMBERED_MONTHS = 6

RACES = ("white", "black", "hispanic", "asian", "other")
LANGUAGES = ("english", "spanish", "other")
MARITAL = ("married", "single", "divorced", "widowed")
AREAS = ("021", "022", "024", "018", "019", "017", "023", "020", "016", "027")
AREA_INCOME = np.array([41, 52, 98, 63, 57, 88, 66, 79, 49, 45], dtype=np.float32) * 1_000
NEVER = np.iinfo(np.int64).max


@dataclass
class Population:
    """State of all slots; arrays of one length, times in seconds since 1970.

    Attributes:
        person: number of the person in the slot.
        born: day of birth, days since 1970.
        conditions: booleans, slots x conditions.
        frailty: standardised latent frailty; no extract ever shows it.
        rate: relative rate of unplanned admissions.
        creatinine, haemoglobin: personal baselines (mg/dL, g/dL).
        dies_at: moment of death outside the hospital, or of the last discharge; ``NEVER`` while none is due.
        busy_until: end of the last stay.
        awaited: whether a follow-up stay is due.
        discharges: last discharges, newest first.
        emergency_visits: visits to the emergency room that ended at home, in each of the last months, newest first.
        known: whether the person has a row in a landed patients file.
    """

    person: np.ndarray
    born: np.ndarray
    female: np.ndarray
    race: np.ndarray
    language: np.ndarray
    marital: np.ndarray
    area: np.ndarray
    income: np.ndarray
    conditions: np.ndarray
    frailty: np.ndarray
    rate: np.ndarray
    creatinine: np.ndarray
    haemoglobin: np.ndarray
    dies_at: np.ndarray
    busy_until: np.ndarray
    awaited: np.ndarray
    discharges: np.ndarray
    emergency_visits: np.ndarray
    known: np.ndarray

    def __len__(self) -> int:
        return len(self.person)

    def age(self, slots: np.ndarray, at: np.ndarray) -> np.ndarray:
        """Age in years at moments."""
        years: np.ndarray = (at / DAY - self.born[slots]) / 365.25
        return years

    def stays_within_year(self, slots: np.ndarray, at: np.ndarray) -> np.ndarray:
        """Number of discharges in the 365 days before the moments."""
        gone = self.discharges[slots]
        count: np.ndarray = ((gone < at[:, None]) & (gone >= at[:, None] - 365 * DAY)).sum(axis=1)
        return count

    def remember_discharge(self, slots: np.ndarray, at: np.ndarray) -> None:
        """Push a discharge in front of the remembered ones."""
        self.discharges[slots, 1:] = self.discharges[slots, :-1]
        self.discharges[slots, 0] = at
        self.busy_until[slots] = at

    def replace(self, slots: np.ndarray, newcomers: Population) -> None:
        """Let other people take the slots."""
        for name in vars(self):
            getattr(self, name)[slots] = getattr(newcomers, name)


def create_population(rng: np.random.Generator, size: int, first_person: int, today: int) -> Population:
    """People as they are found on a day.

    Args:
        rng: stream of the month.
        size: number of people.
        first_person: number of the first of them.
        today: days since 1970.
    """
    age = np.where(rng.random(size) < 0.45, rng.normal(71, 10, size), rng.normal(50, 16, size)).clip(18.2, 98)
    frailty = rng.normal(0, 1, size)
    area = pick(rng, size, (14, 13, 9, 10, 11, 8, 9, 8, 10, 8))
    income = AREA_INCOME[area] * np.exp(rng.normal(0, 0.35, size))
    poverty = np.log(62_000 / income)
    conditions = np.empty((size, len(CONDITIONS)), dtype=bool)
    for number, condition in enumerate(CONDITIONS):
        odds = condition.log_odds + condition.per_decade * (age - 65) / 10 + 0.30 * frailty + 0.20 * poverty
        conditions[:, number] = chance(rng, odds)
    _imply(conditions, "diabetes_with_complications", "diabetes")
    _imply(conditions, "dialysis", "chronic_kidney_disease")
    _imply(conditions, "metastatic_cancer", "cancer")
    kidney = conditions[:, INDEX["chronic_kidney_disease"]] * rng.gamma(3.0, 0.30, size)
    kidney += conditions[:, INDEX["dialysis"]] * rng.gamma(6.0, 0.6, size)
    female = rng.random(size) < 0.53
    ill = conditions[:, [INDEX["chronic_kidney_disease"], INDEX["cancer"], INDEX["cirrhosis"]]].sum(axis=1)
    rate = np.exp(0.22 * (age - 62) / 10 + 0.50 * frailty + conditions @ USE + 0.10 * poverty)
    return Population(
        person=np.arange(first_person, first_person + size, dtype=np.int64),
        born=(today - age * 365.25).astype(np.int32),
        female=female,
        race=pick(rng, size, (63, 15, 13, 6, 3)),
        language=pick(rng, size, (84, 11, 5)),
        marital=np.where(age > 74, pick(rng, size, (42, 8, 14, 36)), pick(rng, size, (52, 28, 15, 5))).astype(np.int8),
        area=area,
        income=income.astype(np.float32),
        conditions=conditions,
        frailty=frailty.astype(np.float32),
        rate=rate.astype(np.float32),
        creatinine=(0.78 + 0.17 * ~female + kidney + 0.04 * rng.normal(size=size)).clip(0.4, 14).astype(np.float32),
        haemoglobin=(13.2 + 1.2 * ~female - 1.0 * ill - 0.25 * frailty + rng.normal(0, 0.9, size)).astype(np.float32),
        dies_at=np.full(size, NEVER, dtype=np.int64),
        busy_until=np.zeros(size, dtype=np.int64),
        awaited=np.zeros(size, dtype=bool),
        discharges=np.zeros((size, REMEMBERED_STAYS), dtype=np.int64),
        emergency_visits=np.zeros((size, REMEMBERED_MONTHS), dtype=np.uint8),
        known=np.zeros(size, dtype=bool),
    )


def _imply(conditions: np.ndarray, special: str, general: str) -> None:
    conditions[:, INDEX[general]] |= conditions[:, INDEX[special]]
