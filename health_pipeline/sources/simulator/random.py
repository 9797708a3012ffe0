"""Randomness of the simulator: one independent stream for each purpose and month.

A month's numbers depend on the seed, the month's distance from the hospital's start and the purpose, never on which
months were asked for.
"""

from __future__ import annotations

from enum import IntEnum

import numpy as np

_BEFORE_START = 1_000


class Purpose(IntEnum):
    """What a stream is for; a new purpose gets a new number, so that it leaves the others as they are."""

    POPULATION = 1
    STAYS = 2
    EVENTS = 3
    CLAIMS = 4
    RECORDS = 5
    FAULTS = 6


def stream(seed: int, month: int, purpose: Purpose, part: int = 0) -> np.random.Generator:
    """Generator of a purpose in a month (counted from the hospital's start; may be negative)."""
    return np.random.default_rng([seed, month + _BEFORE_START, int(purpose), part])


def choose(rng: np.random.Generator, weights: np.ndarray) -> np.ndarray:
    """One column number for each row, drawn in proportion to the row's weights."""
    total = np.cumsum(weights, axis=1, dtype=np.float64)
    drawn = rng.random(len(weights)) * total[:, -1]
    column: np.ndarray = (total <= drawn[:, None]).sum(axis=1).clip(max=weights.shape[1] - 1)
    return column


def pick(rng: np.random.Generator, size: int, weights: tuple[float, ...]) -> np.ndarray:
    """Numbers of a category for ``size`` individuals who share the weights."""
    shares = np.asarray(weights, dtype=np.float64)
    return rng.choice(len(shares), size=size, p=shares / shares.sum()).astype(np.int8)


def chance(rng: np.random.Generator, log_odds: np.ndarray) -> np.ndarray:
    """Booleans that are true with the given log odds."""
    return rng.random(len(log_odds)) < expit(log_odds)


def expit(log_odds: np.ndarray) -> np.ndarray:
    """Probability of log odds."""
    result: np.ndarray = 1.0 / (1.0 + np.exp(-log_odds))
    return result
