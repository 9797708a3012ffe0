"""XGBoost trees as an ONNX graph, so that a score needs neither XGBoost nor its import time."""

from __future__ import annotations

import json
from collections.abc import Sequence
from typing import Any

import numpy as np


def trees_to_onnx(boosters: Sequence[Any], columns: int) -> bytes:
    """Serialise the mean margin of boosters as one TreeEnsembleRegressor.

    XGBoost sends a row to the left child when ``value < condition`` in float32, and a missing value (NaN) to the
    default child; ONNX ``BRANCH_LT`` with ``nodes_missing_value_tracks_true`` does the same.

    Args:
        boosters: ``xgboost.Booster`` objects with numerical splits only.
        columns: width of the matrix.

    Returns:
        ONNX model bytes: input ``X`` (float32, rows x columns), output ``margin`` (float32, rows x 1).
    """
    import onnx
    from onnx import TensorProto, helper

    attributes: dict[str, list[Any]] = {
        name: []
        for name in (
            *("nodes_treeids", "nodes_nodeids", "nodes_featureids", "nodes_modes", "nodes_values"),
            *("nodes_truenodeids", "nodes_falsenodeids", "nodes_missing_value_tracks_true"),
            *("target_treeids", "target_nodeids", "target_ids", "target_weights"),
        )
    }
    tree_number, base = 0, 0.0
    for booster in boosters:
        document = json.loads(booster.save_raw("json"))["learner"]
        base += base_margin(document) / len(boosters)
        for tree in document["gradient_booster"]["model"]["trees"]:
            _append_tree(attributes, tree, tree_number, 1 / len(boosters))
            tree_number += 1
    make_node: Any = helper.make_node  # its keyword attributes are not typed
    node = make_node(
        "TreeEnsembleRegressor",
        ["X"],
        ["margin"],
        domain="ai.onnx.ml",
        n_targets=1,
        aggregate_function="SUM",
        post_transform="NONE",
        base_values=[base],
        **attributes,
    )
    graph = helper.make_graph(
        [node],
        "trees",
        [helper.make_tensor_value_info("X", TensorProto.FLOAT, [None, columns])],
        [helper.make_tensor_value_info("margin", TensorProto.FLOAT, [None, 1])],
    )
    model = helper.make_model(
        graph,
        opset_imports=[helper.make_opsetid("", 17), helper.make_opsetid("ai.onnx.ml", 3)],
        producer_name="health-pipeline",
    )
    model.ir_version = 8
    onnx.checker.check_model(model)
    return bytes(model.SerializeToString(deterministic=True))


def base_margin(learner: dict[str, Any]) -> float:
    """Log-odds of ``base_score``, which XGBoost stores as a probability (since 3.1 in brackets)."""
    probability = float(str(learner["learner_model_param"]["base_score"]).strip("[]"))
    return float(np.log(probability / (1 - probability)))


def _append_tree(attributes: dict[str, list[Any]], tree: dict[str, Any], number: int, share: float) -> None:
    left, right = tree["left_children"], tree["right_children"]
    for node, (feature, value, default_left) in enumerate(
        zip(tree["split_indices"], tree["split_conditions"], tree["default_left"], strict=True)
    ):
        is_leaf = left[node] == -1
        attributes["nodes_treeids"].append(number)
        attributes["nodes_nodeids"].append(node)
        attributes["nodes_featureids"].append(0 if is_leaf else feature)
        attributes["nodes_modes"].append("LEAF" if is_leaf else "BRANCH_LT")
        attributes["nodes_values"].append(0.0 if is_leaf else float(value))
        attributes["nodes_truenodeids"].append(0 if is_leaf else left[node])
        attributes["nodes_falsenodeids"].append(0 if is_leaf else right[node])
        attributes["nodes_missing_value_tracks_true"].append(0 if is_leaf else int(default_left))
        if is_leaf:
            attributes["target_treeids"].append(number)
            attributes["target_nodeids"].append(node)
            attributes["target_ids"].append(0)
            attributes["target_weights"].append(float(value) * share)
