"""``python -m health_pipeline_tests.deployment.misbehaving``: the API, with a model that misbehaves.

``MISBEHAVE`` names a file with a JSON object: model id to ``[fault, where]``. The faults are those a real release can
have: it kills its process when it is loaded, fails on a share of the records, is slow, answers something else, or says
that it is another model. ``where`` is ``everywhere``, or ``traffic`` when trials see nothing of it.
"""

from __future__ import annotations

import hashlib
import json
import os
import sys
import time
from pathlib import Path

import msgspec

from health_pipeline.serving import __main__ as serving
from health_pipeline.serving.release import Release
from health_pipeline.serving.scorers import BundleScorer, load_scorer

COMMAND = [sys.executable, "-m", "health_pipeline_tests.deployment.misbehaving"]


class Misbehaving(BundleScorer):
    """A scorer with a fault."""

    def __init__(self, scorer: BundleScorer, fault: str) -> None:
        self.__dict__.update(scorer.__dict__)
        self.fault = fault

    def probability(self, values):
        known = any(value is not None for value in values)  # the check at loading passes
        if known and self.fault == "five_percent" and hashlib.sha256(repr(values).encode()).digest()[0] < 13:
            raise RuntimeError("cannot score this")
        if known and self.fault == "slow":
            time.sleep(0.2)
        if self.fault == "other_answers":
            return super().probability(values) * 0.5
        return super().probability(values)

    def probabilities(self, rows):
        return [self.probability(values) for values in rows]


def load(folder: Path, release: Release):
    faults = json.loads(Path(os.environ["MISBEHAVE"]).read_text()) if "MISBEHAVE" in os.environ else {}
    fault, where = faults.get(release.facts.model_id, (None, None))
    if fault is None or (where == "traffic" and "trial-" in os.environ["HEALTH_PIPELINE_HOME"]):
        return load_scorer(folder, release)
    if fault == "dies":
        os._exit(9)
    if fault == "wrong_version":
        # The process of the release answers with another model's facts, as a mixed-up image would.
        msgspec.structs.force_setattr(release.facts, "model_id", "another-model")
    return Misbehaving(load_scorer(folder, release), fault)


if __name__ == "__main__":
    sys.exit(serving.main(command=COMMAND, load=load))
