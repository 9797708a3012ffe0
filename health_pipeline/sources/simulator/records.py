"""Rows of the patients table: who became known, whose attributes changed, who died, and when that was heard of."""

from __future__ import annotations

from dataclasses import dataclass, fields

import numpy as np

from health_pipeline.sources.simulator.population import AREA_INCOME, AREAS, DAY, NEVER, Population
from health_pipeline.sources.simulator.stay import DISPOSITIONS, Stays

LATEST_NEWS_DAYS = 45
"""Nobody hears of a death later than this."""

_CHANGES = 0.008
_EXPIRED = DISPOSITIONS.index("expired")
ALIVE = -1


@dataclass(frozen=True)
class Records:
    """Attributes of patients as arrays of one length.

    Attributes:
        born, died: days since 1970; ``died`` is ``ALIVE`` while no death is known.
        recorded_at: seconds since 1970.
    """

    person: np.ndarray
    born: np.ndarray
    female: np.ndarray
    race: np.ndarray
    language: np.ndarray
    marital: np.ndarray
    area: np.ndarray
    income: np.ndarray
    died: np.ndarray
    recorded_at: np.ndarray


def join(parts: list[Records]) -> Records:
    """All records in one."""
    return Records(*(np.concatenate([getattr(part, item.name) for part in parts]) for item in fields(Records)))


def first_contacts(people: Population, slots: np.ndarray, at: np.ndarray) -> Records:
    """One record for each person who is seen for the first time, at the moment of the contact."""
    order = np.lexsort((at, slots))
    slots, at = slots[order], at[order]
    first = np.ones(len(slots), dtype=bool)
    first[1:] = slots[1:] != slots[:-1]
    new = first & ~people.known[slots]
    people.known[slots] = True
    return _snapshot(people, slots[new], at[new])


def changes(rng: np.random.Generator, people: Population, first: int, end: int) -> Records:
    """Known people who moved to another area; income changes with the area."""
    drawn = rng.random(len(people)) < _CHANGES
    slots = np.flatnonzero(drawn & people.known & (people.dies_at == NEVER) & (people.busy_until < first))
    area = rng.integers(0, len(AREAS), len(slots)).astype(np.int8)
    relative = people.income[slots] / AREA_INCOME[people.area[slots]]
    people.area[slots] = area
    people.income[slots] = AREA_INCOME[area] * relative
    return _snapshot(people, slots, rng.integers(first, end, len(slots)))


def deaths(rng: np.random.Generator, people: Population, stays: Stays) -> Records:
    """Deaths that follow from the month's stays; those outside the hospital become known late."""
    doomed = people.dies_at[stays.slot] != NEVER
    last = np.zeros(len(stays), dtype=bool)
    last[np.unique(stays.slot[::-1], return_index=True)[1]] = True  # newest stay of each slot, in reversed order
    chosen = stays.take(doomed & last[::-1])
    died_at = people.dies_at[chosen.slot]
    in_hospital = chosen.disposition == _EXPIRED
    heard = np.where(in_hospital, rng.uniform(0.05, 1.0, len(chosen)), rng.uniform(2, LATEST_NEWS_DAYS, len(chosen)))
    records = _snapshot(people, chosen.slot, (died_at + heard * DAY).astype(np.int64))
    records.died[:] = died_at // DAY
    return records


def _snapshot(people: Population, slots: np.ndarray, at: np.ndarray) -> Records:
    return Records(
        person=people.person[slots],
        born=people.born[slots],
        female=people.female[slots],
        race=people.race[slots],
        language=people.language[slots],
        marital=people.marital[slots],
        area=people.area[slots],
        income=people.income[slots],
        died=np.full(len(slots), ALIVE, dtype=np.int64),
        recorded_at=at.astype(np.int64),
    )
