"""Models of the serving benchmarks: 80 features, 400 trees of depth 6, and a logistic regression."""

from __future__ import annotations

import json
import sys
from pathlib import Path
from typing import Any

import numpy as np

NUMERIC, BOOLEAN, CATEGORICAL = 50, 15, 15
CATEGORIES = tuple(f"c{index}" for index in range(6))
NAMES = (
    *(f"number_{index}" for index in range(NUMERIC)),
    *(f"flag_{index}" for index in range(BOOLEAN)),
    *(f"kind_{index}" for index in range(CATEGORICAL)),
)


def rows(count: int, seed: int = 5) -> list[dict[str, Any]]:
    """Varied records."""
    generator = np.random.default_rng(seed)
    numbers = generator.normal(size=(count, NUMERIC)).round(4)
    flags = generator.random((count, BOOLEAN)) < 0.3
    kinds = generator.integers(0, len(CATEGORIES), (count, CATEGORICAL))
    return [
        {
            **{f"number_{index}": float(value) for index, value in enumerate(numbers[row])},
            **{f"flag_{index}": bool(value) for index, value in enumerate(flags[row])},
            **{f"kind_{index}": CATEGORIES[value] for index, value in enumerate(kinds[row])},
        }
        for row in range(count)
    ]


def make(folder: Path) -> None:
    """Fit and write: our releases below ``<folder>/home``, the scikit-learn pipeline for the peers."""
    import joblib
    import pandas as pd
    import xgboost
    from sklearn.compose import ColumnTransformer
    from sklearn.impute import SimpleImputer
    from sklearn.linear_model import LogisticRegression
    from sklearn.pipeline import make_pipeline
    from sklearn.preprocessing import OneHotEncoder, StandardScaler

    from health_pipeline.modeling.bundle import Bundle, Linear, Member, Trees
    from health_pipeline.modeling.encoding import Encoding, Feature
    from health_pipeline.modeling.onnx_trees import trees_to_onnx
    from health_pipeline.serving.release import ReleaseFacts, pack_release

    frame = pd.DataFrame(rows(6000))
    signal = frame["number_0"] + 0.5 * frame["number_1"] * frame["flag_0"] - 0.7 * (frame["kind_0"] == "c1") - 1
    y = (np.random.default_rng(1).random(len(frame)) < 1 / (1 + np.exp(-signal))).astype(int)
    names = {
        "numeric": NAMES[:NUMERIC],
        "boolean": NAMES[NUMERIC : NUMERIC + BOOLEAN],
        "categorical": NAMES[-CATEGORICAL:],
    }

    def pipeline(model: Any) -> Any:
        columns = ColumnTransformer(
            [
                ("numbers", make_pipeline(SimpleImputer(), StandardScaler()), [*names["numeric"], *names["boolean"]]),
                ("kinds", OneHotEncoder(handle_unknown="ignore"), list(names["categorical"])),
            ]
        )
        return make_pipeline(columns, model).fit(frame, y)

    trees = pipeline(xgboost.XGBClassifier(n_estimators=400, max_depth=6, learning_rate=0.05, n_jobs=1))
    linear = pipeline(LogisticRegression(max_iter=300))
    joblib.dump(trees, folder / "xgboost.joblib")
    joblib.dump(linear, folder / "logistic_regression.joblib")

    scaler = linear[0].named_transformers_["numbers"][1]
    weights = linear[1].coef_[0]
    plain = len(names["numeric"]) + len(names["boolean"])
    folded = weights[:plain] / scaler.scale_
    intercept = float(linear[1].intercept_[0] - (folded * scaler.mean_).sum())
    features = tuple(
        Feature(name, kind, categories=CATEGORIES if kind == "categorical" else ())
        for kind, group in names.items()
        for name in group
    )
    encodings = tuple(
        Encoding(feature.name, feature.kind, categories=feature.categories, impute=None if feature.categories else 0.0)
        for feature in features
    )
    bundles = {
        "logistic_regression": Linear(intercept, (*folded.tolist(), *weights[plain:].tolist())),
        "xgboost": None,
    }
    # Our trees see the unscaled columns: splits do not care about scale.
    width = sum(len(encoding.columns) for encoding in encodings)
    matrix = np.zeros((len(frame), width), dtype=np.float32)
    matrix[:, :plain] = frame[[*names["numeric"], *names["boolean"]]].to_numpy(dtype=np.float32)
    for index, name in enumerate(names["categorical"]):
        codes = frame[name].map({category: code for code, category in enumerate(CATEGORIES)}).to_numpy()
        matrix[np.arange(len(frame)), plain + index * len(CATEGORIES) + codes] = 1
    booster = xgboost.train(
        {"max_depth": 6, "eta": 0.05, "objective": "binary:logistic", "nthread": 1}, xgboost.DMatrix(matrix, y), 400
    )
    bundles["xgboost"] = Trees(trees_to_onnx([booster], width), (bytes(booster.save_raw("ubj")),))
    index = {}
    for family, predictor in bundles.items():
        bundle = Bundle(family, features, (Member(encodings, predictor),)).named(family[:3], "2023-05")
        path = folder / "home" / "models" / bundle.model_id
        digest = bundle.save(path)
        facts = ReleaseFacts(
            model_id=bundle.model_id, family=family, month="2023-05-01", threshold=0.5, bundle_hash=digest
        )
        index[family] = pack_release(path, facts, folder / "home" / "releases").release_id
    (folder / "releases.json").write_text(json.dumps(index))


if __name__ == "__main__":
    make(Path(sys.argv[1]))
