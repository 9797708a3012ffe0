"""Records to try an API with: real feature rows where there are some, and made-up ones around them."""

from __future__ import annotations

import random
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from health_pipeline.serving.schema import Feature

Features = Mapping[str, Any]


@dataclass(frozen=True)
class Samples:
    """Feature rows of real stays, without identifiers.

    Attributes:
        recent: of the last month whose discharges were known: what traffic brings now.
        judged: of the months on which the gates compared the model with the one in production.
    """

    recent: Sequence[Features] = ()
    judged: Sequence[Features] = ()


NO_SAMPLES = Samples()

UNSEEN = "(never seen in training)"


def varied_records(
    features: Sequence[Feature], samples: Sequence[Features], count: int, seed: int = 0
) -> list[dict[str, Any]]:
    """``count`` records: samples in turn, interleaved with made-up ones (nulls, unseen categories, extremes).

    Args:
        features: inputs of the model.
        samples: feature rows of the month; unknown columns are dropped.
        count: how many records.
        seed: of the made-up values.
    """
    generator = random.Random(seed)
    records: list[dict[str, Any]] = [
        dict.fromkeys((feature.name for feature in features), None),
        {feature.name: UNSEEN if feature.kind == "category" else _extreme(feature.kind) for feature in features},
    ]
    names = {feature.name for feature in features}
    position = 0
    while len(records) < count:
        if samples and len(records) % 4 != 0:
            sample = samples[position % len(samples)]
            position += 1
            records.append({name: value for name, value in sample.items() if name in names})
        else:
            records.append({feature.name: _made_up(feature, generator) for feature in features})
    return records[:count]


def values_in_order(features: Sequence[Feature], record: Features) -> tuple[Any, ...]:
    """Values as a scorer wants them."""
    return tuple(
        float(value) if feature.kind == "number" and (value := record.get(feature.name)) is not None
        else record.get(feature.name)
        for feature in features
    )  # fmt: skip


def _extreme(kind: str) -> float | bool:
    return True if kind == "boolean" else 1e9


def _made_up(feature: Feature, generator: random.Random) -> Any:
    if generator.random() < 0.1:
        return None
    if feature.kind == "boolean":
        return generator.random() < 0.5
    if feature.kind == "category":
        return generator.choice([*feature.categories, UNSEEN])
    return round(generator.choice([0.0, 1.0, generator.uniform(0, 10), generator.uniform(0, 120)]), 3)
