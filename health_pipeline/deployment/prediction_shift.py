"""Prediction shift: how differently a new model predicts, beside how differently it did where the gates judged it.

A better model predicts differently, and the gates have accepted how. What they have not seen is a difference that
appears only on the patients of today.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import TYPE_CHECKING, NamedTuple

from health_pipeline.deployment.findings import Finding, judge
from health_pipeline.deployment.records import NO_SAMPLES, Features, Samples, values_in_order
from health_pipeline.settings import DeploymentSettings

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

    from health_pipeline.serving.engine import Scorer

    Floats = NDArray[np.float64]

BINS = 10
REPLICATES, CHANCE_LEVEL = 400, 0.995


class Shift(NamedTuple):
    """Population stability indexes of new against former predictions.

    Attributes:
        recent: on recent stays.
        judged: on the months judged.
        chance_level: what as many stays as the recent ones, drawn from the months judged, hardly ever exceed.
    """

    recent: float
    judged: float
    chance_level: float


@dataclass(frozen=True)
class Comparison:
    """A new and a former model, and the stays on which their predictions are compared.

    Attributes:
        new: the watched model.
        former: the one it replaces; without it nothing is compared.
        samples: recent stays, and those that the gates judged by.
        missing: the release that serves, where it cannot be compared with because it is not in this home.
    """

    new: Scorer
    former: Scorer | None
    samples: Samples = NO_SAMPLES
    missing: str | None = None

    @cached_property
    def shift(self) -> Shift:
        """Computed once: every share of a canary is held against the same stays."""
        recent, judged = self._scores(self.samples.recent), self._scores(self.samples.judged)
        if not judged.shape[1]:
            return Shift(_index(*recent), 0.0, 0.0)
        return Shift(_index(*recent), _index(*judged), _chance_level(judged, recent.shape[1]))

    def _scores(self, records: Sequence[Features]) -> Floats:
        """Probabilities, shape (2, records): of the new and of the former model."""
        import numpy as np

        scorers = [scorer for scorer in (self.new, self.former) if scorer is not None]
        return np.asarray(
            [
                scorer.probabilities([values_in_order(scorer.features, record) for record in records])
                for scorer in scorers
            ],
            dtype=float,
        )


def shift_of(comparison: Comparison, limits: DeploymentSettings) -> Finding | None:
    """The shift on recent stays, held against chance where the gates judged and the limit beyond it."""
    samples = comparison.samples
    if comparison.former is None:
        said = f"not compared: {comparison.missing}, which serves, is not in this home"
        return None if comparison.missing is None else Finding("prediction_shift", "pass", said)
    if len(samples.recent) < limits.min_requests:
        return Finding("prediction_shift", "inconclusive", f"only {len(samples.recent)} records to compare on")
    shift = comparison.shift
    if not all(map(math.isfinite, shift)):
        return Finding("prediction_shift", "inconclusive", "the shift cannot be computed")
    limit = shift.chance_level + limits.max_shift
    return judge(
        "prediction_shift",
        shift.recent <= limit,
        f"population stability index {shift.recent:.3f} against the former model, {shift.judged:.3f} where the gates "
        f"judged; at most {limit:.3f} is accepted",
        psi=shift.recent,
        psi_judged=shift.judged,
        psi_judged_chance_level=shift.chance_level,
        records=len(samples.recent),
        records_judged=len(samples.judged),
    )


def _chance_level(judged: Floats, rows: int) -> float:
    import numpy as np

    generator = np.random.default_rng(0)
    drawn = [_index(*judged[:, generator.integers(0, judged.shape[1], rows)]) for _ in range(REPLICATES)]
    return float(np.quantile(drawn, CHANCE_LEVEL))


def _index(ours: Floats, theirs: Floats) -> float:
    """Population stability index of one set of scores against the deciles of the other."""
    import numpy as np

    from health_pipeline.monitoring.statistics import psi

    edges = np.unique(np.quantile(theirs, np.linspace(0, 1, BINS + 1)[1:-1]))
    counts = [
        np.bincount(np.searchsorted(edges, part), minlength=len(edges) + 1).astype(float) for part in (ours, theirs)
    ]
    return psi(counts[0], counts[1])
