"""The BentoML peer: a service of one model, as its documentation shows it.

It runs in an environment of its own (``pip install bentoml pandas scikit-learn xgboost-cpu joblib``), named by
``--bentoml PYTHON``, because its pins are not ours.
"""

import os
from typing import Any

import bentoml


@bentoml.service(workers=1)
class Readmission:
    """Scores records with a scikit-learn pipeline."""

    def __init__(self) -> None:
        import joblib

        self.model = joblib.load(os.environ["PEER_MODEL"])

    @bentoml.api
    def predict(self, records: list[dict[str, Any]]) -> list[float]:
        """Probabilities."""
        import pandas as pd

        return [float(value) for value in self.model.predict_proba(pd.DataFrame(records))[:, 1]]
