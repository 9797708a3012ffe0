"""Many rows are scored by XGBoost's own library: the same numbers as the graph's, or not at all."""

from __future__ import annotations

import subprocess
import sys
from concurrent.futures import ThreadPoolExecutor

import numpy as np
import pytest
import structlog
import xgboost
from threadpoolctl import threadpool_limits

from health_pipeline.errors import ModelError
from health_pipeline.modeling import boosters
from health_pipeline.modeling.onnx_trees import trees_to_onnx
from health_pipeline.modeling.predictors import BULK_ROWS, Linear, Trees
from health_pipeline_tests.serving.bundles import linear_bundle, tree_bundle

COLUMNS = 12


def rows(count: int = 5000, seed: int = 1) -> np.ndarray:
    generator = np.random.default_rng(seed)
    values = generator.normal(size=(count, COLUMNS)) * 10.0 ** np.arange(-3, COLUMNS - 3)
    values[:, -4:] = values[:, -4:] > 0
    values[generator.random(values.shape) < 0.1] = np.nan
    return values.astype(np.float32)


def fitted(rounds: int, seed: int = 1, **parameters: object) -> xgboost.Booster:
    x = rows(2000, seed)
    y = np.random.default_rng(seed).random(2000) < 1 / (1 + np.exp(1.3 - np.nan_to_num(x[:, 4])))
    settings = {"objective": "binary:logistic", "nthread": 1, "seed": seed, **parameters}
    return xgboost.train(settings, xgboost.DMatrix(x, y), rounds)


def trees(*models: xgboost.Booster) -> Trees:
    return Trees(trees_to_onnx(models, COLUMNS), tuple(bytes(model.save_raw("ubj")) for model in models))


@pytest.mark.parametrize(
    ("rounds", "parameters"),
    [
        (400, {"max_depth": 6, "eta": 0.05}),
        (37, {"max_depth": 3, "eta": 0.3, "base_score": 0.031}),
        (1, {"max_depth": 10, "num_parallel_tree": 100, "eta": 1.0, "subsample": 0.632, "colsample_bynode": 0.3}),
    ],
    ids=["boosted", "shallow", "forest"],
)
def test_many_rows_get_the_margins_of_the_graph_bit_for_bit(rounds, parameters):
    predictor = trees(fitted(rounds, **parameters))
    matrix = rows()
    matrix[0] = np.nan
    matrix[1] = np.finfo(np.float32).max
    with structlog.testing.capture_logs() as logs:
        many = predictor.margins(matrix)
    assert predictor._booster is not None
    assert not logs
    graph = np.concatenate([predictor._graph_margins(matrix[start : start + 1]) for start in range(len(matrix))])
    assert np.array_equal(many, graph)
    few = np.concatenate([predictor.margins(matrix[start : start + 10]) for start in range(0, len(matrix), 10)])
    assert np.array_equal(many, few)
    assert [predictor.margin(matrix[row : row + 1]) for row in range(20)] == many[:20].tolist()
    assert many.std() > 0.1


def test_threads_may_score_at_the_same_time():
    predictor = trees(fitted(100))
    parts = [rows(700, seed) for seed in range(8)]
    expected = [predictor._graph_margins(part) for part in parts]
    with ThreadPoolExecutor(4) as pool:
        for _ in range(5):
            assert all(map(np.array_equal, pool.map(predictor.margins, parts), expected))


def test_bagged_boosters_are_scored_by_the_graph():
    predictor = trees(fitted(30), fitted(30, seed=2))
    matrix = rows(500)
    assert predictor._booster is None
    assert np.array_equal(predictor.margins(matrix), predictor._graph_margins(matrix))


def test_a_booster_that_is_not_the_graph_is_not_used():
    mine, other = fitted(30), fitted(30, seed=2)
    predictor = Trees(trees_to_onnx([mine], COLUMNS), (bytes(other.save_raw("ubj")),))
    matrix = rows(500)
    with structlog.testing.capture_logs() as logs:
        found = predictor.margins(matrix)
    assert [entry["event"] for entry in logs] == ["booster_not_used"]
    assert np.array_equal(found, predictor._graph_margins(matrix))


def test_without_the_library_the_graph_scores(monkeypatch):
    def missing():
        raise ModelError("the XGBoost library is not installed")

    predictor = trees(fitted(30))
    matrix = rows(500)
    expected = predictor._graph_margins(matrix)
    monkeypatch.setattr(boosters, "_library", missing)
    with structlog.testing.capture_logs() as logs:
        assert np.array_equal(predictor.margins(matrix), expected)
    assert logs[0]["reason"] == "the XGBoost library is not installed"


def test_damaged_bytes_of_a_booster_are_not_used():
    good = trees(fitted(30))
    predictor = Trees(good.onnx, (good.boosters[0][:100],))
    matrix = rows(500)
    assert np.array_equal(predictor.margins(matrix), good.margins(matrix))
    assert predictor._booster is None


def test_contributions_add_up_to_the_margin():
    predictor = trees(fitted(60, base_score=0.2))
    matrix = rows(100)
    contributions = predictor._booster.contributions(matrix)
    assert contributions.shape == (100, COLUMNS + 1)
    np.testing.assert_allclose(contributions.sum(axis=1), predictor.margins(matrix), atol=2e-5)


@pytest.mark.parametrize("bundle", [linear_bundle(), tree_bundle()], ids=["linear", "trees"])
def test_scores_do_not_depend_on_how_many_rows_are_encoded_at_a_time(bundle, monkeypatch):
    import pyarrow as pa

    from health_pipeline.modeling import bundle as module

    generator = np.random.default_rng(2)
    table = pa.table(
        {
            "age": generator.normal(60, 30, 200),
            "length_of_stay": pa.array(generator.normal(5, 30, 200), mask=generator.random(200) < 0.2),
            "is_emergency": generator.random(200) < 0.5,
            "payer": generator.choice(["medicare", "medicaid", "private", "barter"], 200).tolist(),
        }
    )
    whole = bundle.probabilities(table)
    monkeypatch.setattr(module, "CHUNK_ROWS", 7)
    np.testing.assert_allclose(bundle.probabilities(table), whole, atol=1e-14, rtol=0)
    assert whole.std() > 0.03


def test_scoring_many_rows_does_not_import_the_xgboost_package(tmp_path):
    predictor = trees(fitted(5))
    (tmp_path / "trees.onnx").write_bytes(predictor.onnx)
    (tmp_path / "booster.ubj").write_bytes(predictor.boosters[0])
    script = f"""
import sys
import numpy as np
from pathlib import Path
from health_pipeline.modeling.predictors import Trees

folder = Path({str(tmp_path)!r})
trees = Trees((folder / "trees.onnx").read_bytes(), ((folder / "booster.ubj").read_bytes(),))
trees.margins(np.zeros(({BULK_ROWS}, {COLUMNS}), np.float32))
assert trees._booster is not None
print(sorted({{"xgboost", "pandas", "sklearn", "scipy"}} & set(sys.modules)))
"""
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"


def test_a_linear_score_depends_neither_on_its_neighbours_nor_on_threads():
    generator = np.random.default_rng(3)
    matrix, coefficients = generator.normal(size=(4000, 400)), generator.normal(size=400)
    predictor = Linear(-1.5, tuple(coefficients))
    together = predictor.margins(matrix)
    np.testing.assert_allclose(together, matrix @ coefficients - 1.5, rtol=1e-9, atol=1e-9)
    apart = np.concatenate([predictor.margins(matrix[start : start + 97]) for start in range(0, 4000, 97)])
    assert together.tobytes() == apart.tobytes()
    for threads in (1, 2):
        with threadpool_limits(threads):
            assert predictor.margins(matrix).tobytes() == together.tobytes()
