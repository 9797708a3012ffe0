"""The hospital through time: month by month, who is admitted, who comes back, who dies, who moves away."""

from __future__ import annotations

import datetime as dt
from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np

from health_pipeline.months import Month, shift
from health_pipeline.settings import SimulatorSettings
from health_pipeline.sources.simulator.admission import HOUR, Kind, admit
from health_pipeline.sources.simulator.conditions import CHEMOTHERAPY, INDEX
from health_pipeline.sources.simulator.population import (
    DAY,
    NEVER,
    PEOPLE_PER_ADMISSION,
    create_population,
)
from health_pipeline.sources.simulator.random import Purpose, chance, expit, pick, stream
from health_pipeline.sources.simulator.records import Records, changes, deaths, first_contacts, join
from health_pipeline.sources.simulator.risk import readmission_log_odds
from health_pipeline.sources.simulator.script import effects_at
from health_pipeline.sources.simulator.stay import DISPOSITIONS, FACILITIES, Stays, concatenate

BURN_IN_MONTHS = 18
"""Months lived before the hospital's start, so that readmissions and histories are in balance from the first month."""

_FIRST_UNPLANNED, _FIRST_PLANNED = 0.625, 0.165
"""First stays a month as shares of all; the rest comes back, so that the total is ``admissions_per_month``."""

_EMERGENCY_VISITS = 0.035
_MOVES = 0.006
_SHAPE = 0.58
_HORIZON_DAYS = 90
_TRANSFER, _EXPIRED, _HOSPICE = (DISPOSITIONS.index(name) for name in ("acute_transfer", "expired", "hospice"))


@dataclass(frozen=True)
class Visits:
    """Emergency visits that ended at home."""

    person: np.ndarray
    age: np.ndarray
    at: np.ndarray


@dataclass(frozen=True)
class MonthOfCare:
    """What happened in a month: stays that began in it, emergency visits, and patient records.

    Attributes:
        index: months since the hospital's start.
        effects: what the drift script says.
        first_visit: running number of the first emergency visit.
        log_odds: true log odds of readmission of each stay; for calibration, never landed.
    """

    index: int
    effects: Mapping[str, float]
    stays: Stays
    visits: Visits
    first_visit: int
    records: Records
    log_odds: np.ndarray


@dataclass(frozen=True)
class _Due:
    """Stays that are to begin."""

    slot: np.ndarray
    at: np.ndarray
    kind: np.ndarray
    facility: np.ndarray
    cause: np.ndarray

    def take(self, chosen: np.ndarray) -> _Due:
        return _Due(*(getattr(self, name)[chosen] for name in ("slot", "at", "kind", "facility", "cause")))


def _merge(parts: list[_Due]) -> _Due:
    names = ("slot", "at", "kind", "facility", "cause")
    return _Due(*(np.concatenate([getattr(part, name) for part in parts]) for name in names))


def seconds(day: dt.date) -> int:
    """Midnight of a day, in seconds since 1970 of local time."""
    return (day - dt.date(1970, 1, 1)).days * DAY


class Hospital:
    """State of the simulation; each call of :meth:`advance` lives one month.

    Args:
        start: first month that is landed.
        settings: seed, size and whether the drift script is played.
    """

    def __init__(self, start: Month, settings: SimulatorSettings) -> None:
        self._settings = settings
        self._start = start
        self.index = -BURN_IN_MONTHS
        size = PEOPLE_PER_ADMISSION * settings.admissions_per_month
        rng = stream(settings.seed, self.index - 1, Purpose.POPULATION)
        self.people = create_population(rng, size, 1, seconds(self._month) // DAY)
        self._next_person, self._next_stay, self._next_visit = size + 1, 1, 1
        nobody = np.empty(0, dtype=np.int64)
        self._due = _Due(nobody, nobody, nobody, nobody, nobody)

    @property
    def _month(self) -> Month:
        return shift(self._start, self.index)

    def advance(self) -> MonthOfCare:
        """Live the next month."""
        first, end = seconds(self._month), seconds(shift(self._month, 1))
        effects = effects_at(self.index, self._settings.drift)
        if self.index == -1:  # the last month before the start is the initial load of the patients table
            self.people.known[:] = False
        self._turn_over(first)
        rng = stream(self._settings.seed, self.index, Purpose.STAYS)
        visits_slots, visits = self._emergency_visits(rng, first, end)
        due = _merge([self._first_stays(rng, first, end, effects), self._due])
        batches: list[Stays] = []
        later, odds = [], []
        while True:
            now = due.at < end
            later.append(due.take(~now))
            due = due.take(now)
            if batches and not len(due.slot):  # a month without any stay is a batch of none
                break
            stays = admit(rng, self.people, due.slot, due.at, due.kind, due.facility, due.cause, self._next_stay)
            self._next_stay += len(stays)
            log_odds = readmission_log_odds(stays, effects)
            due = self._aftermath(rng, stays, log_odds)
            batches.append(stays)
            odds.append(log_odds)
        self._due = _merge(later)
        stays = concatenate(batches)
        care = MonthOfCare(
            index=self.index,
            effects=effects,
            stays=stays,
            visits=visits,
            first_visit=self._next_visit,
            records=self._records(stays, visits_slots, visits, first, end),
            log_odds=np.concatenate(odds),
        )
        self._next_visit += len(visits_slots)
        self._remember(visits_slots)
        self.index += 1
        return care

    def _turn_over(self, first: int) -> None:
        """The dead and those who move away make room for others."""
        rng = stream(self._settings.seed, self.index, Purpose.POPULATION)
        free = ~self.people.awaited & (self.people.busy_until < first)
        leaving = (self.people.dies_at < first) | (free & (rng.random(len(self.people)) < _MOVES))
        slots = np.flatnonzero(leaving)
        newcomers = create_population(rng, len(slots), self._next_person, first // DAY)
        self._next_person += len(slots)
        self.people.replace(slots, newcomers)

    def _first_stays(self, rng: np.random.Generator, first: int, end: int, effects: Mapping[str, float]) -> _Due:
        """Stays that follow from no former stay."""
        people, volume = self.people, self._settings.admissions_per_month
        free = ~people.awaited & (people.busy_until < first) & (people.dies_at == NEVER)
        old = people.born < first // DAY - 75 * 365
        wanted = (
            (Kind.UNPLANNED, _FIRST_UNPLANNED, people.rate),
            (Kind.PLANNED, _FIRST_PLANNED, np.sqrt(people.rate)),
            (Kind.NURSING_HOME, effects["nursing_home_share"], people.rate * old),
        )
        parts = []
        for kind, share, rate in wanted:
            weight = rate * free
            scale = share * volume / max(float(weight.sum(dtype=np.float64)), 1e-9)
            slots = np.flatnonzero(rng.random(len(people)) < -np.expm1(-scale * weight))
            free[slots] = False
            at = rng.uniform(first, end, len(slots))
            if kind == Kind.PLANNED:
                at = np.maximum(at // DAY * DAY + rng.uniform(6, 9, len(slots)) * HOUR, first)
            facility = pick(rng, len(slots), (52, 33, 15)).astype(np.int64)
            parts.append(_Due(slots, at.astype(np.int64), np.full(len(slots), kind), facility, np.full(len(slots), -1)))
        return _merge(parts)

    def _emergency_visits(self, rng: np.random.Generator, first: int, end: int) -> tuple[np.ndarray, Visits]:
        people = self.people
        rate = np.power(people.rate, 0.8)
        counts = rng.poisson(_EMERGENCY_VISITS * rate / rate.mean() * (people.dies_at == NEVER)).clip(max=9)
        slots = np.repeat(np.arange(len(people)), counts)
        at = rng.integers(first, end, len(slots))
        return slots, Visits(people.person[slots], people.age(slots, at), at)

    def _remember(self, visits_slots: np.ndarray) -> None:
        visits = self.people.emergency_visits
        visits[:, 1:] = visits[:, :-1]
        visits[:, 0] = np.bincount(visits_slots, minlength=len(self.people)).clip(max=255)

    def _aftermath(self, rng: np.random.Generator, stays: Stays, log_odds: np.ndarray) -> _Due:
        """Decide what follows each stay: a transfer, a planned or unplanned return, death, or nothing."""
        people, size = self.people, len(stays)
        is_alive = stays.disposition != _EXPIRED
        is_transfer = stays.disposition == _TRANSFER
        is_hospice = stays.disposition == _HOSPICE
        hazard = -np.log1p(-expit(log_odds))
        comes_back = 30 * (rng.exponential(size=size) / hazard) ** (1 / _SHAPE) + 0.25
        cancer = stays.conditions[:, INDEX["cancer"]]
        planned_odds = -4.3 + 1.0 * cancer + 2.6 * (stays.cause == CHEMOTHERAPY) - 9.0 * is_hospice
        is_planned = chance(rng, planned_odds)
        planned_after = np.where(is_planned, rng.uniform(9, 28, size), np.inf)
        dies_odds = (
            -5.0 + 0.45 * (stays.age - 68) / 10 + 0.5 * stays.frailty + 0.35 * stays.severity
            + 1.2 * stays.conditions[:, INDEX["metastatic_cancer"]] + 6.2 * is_hospice
        )  # fmt: skip
        dies_after = np.where(chance(rng, dies_odds), rng.uniform(0.5, 30, size), np.inf)
        transfer_after = np.where(is_transfer, rng.uniform(1, 6, size) / 24, np.inf)
        follows_after = np.minimum(np.minimum(comes_back, planned_after), transfer_after)
        dies = is_alive & (dies_after < follows_after)
        follows = is_alive & ~dies & (follows_after < _HORIZON_DAYS)
        people.remember_discharge(stays.slot, stays.discharged_at)
        people.awaited[stays.slot] = follows
        dies_at = stays.discharged_at + (np.where(dies, dies_after, 0) * DAY).astype(np.int64)
        people.dies_at[stays.slot] = np.where(~is_alive | dies, dies_at, NEVER)
        kind = np.select(
            [is_transfer & (transfer_after <= follows_after), planned_after <= follows_after],
            [Kind.TRANSFER, Kind.PLANNED_READMISSION],
            Kind.READMISSION,
        )
        elsewhere = (stays.facility + rng.integers(1, len(FACILITIES), size)) % len(FACILITIES)
        moves = (kind == Kind.TRANSFER) | (rng.random(size) < 0.12)
        at = stays.discharged_at + np.where(follows, follows_after, 0) * DAY
        due = _Due(
            stays.slot,
            at.astype(np.int64),
            kind,
            np.where(moves, elsewhere, stays.facility),
            stays.cause.astype(np.int64),
        )
        return due.take(follows)

    def _records(self, stays: Stays, visits_slots: np.ndarray, visits: Visits, first: int, end: int) -> Records:
        """Rows of the patients table that this month gives rise to."""
        rng = stream(self._settings.seed, self.index, Purpose.RECORDS)
        slots = np.concatenate([stays.slot, visits_slots])
        at = np.concatenate([stays.admitted_at, visits.at])
        new = first_contacts(self.people, slots, at)
        moved = changes(rng, self.people, first, end)
        died = deaths(rng, self.people, stays)
        return join([new, moved, died])
