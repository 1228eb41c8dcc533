"""The serving graph: all fold boosters of a model as one ONNX tree ensemble.

Output column k is booster k's forecast.  A request takes their mean; scoring takes, for each vehicle, the
column of its own fold.
"""

from collections.abc import Iterable
from pathlib import Path

from onnx import TensorProto, helper

from vroom_model.trees import LEAF, Ensemble

OPSET, ML_OPSET, IR_VERSION = 17, 3, 8


def write_graph(boosters: Iterable[Ensemble], num_features: int, path: Path | str) -> None:
    """Write the ONNX graph ``features -> folds``; the same boosters give the same bytes."""
    ensembles = list(boosters)
    trees = [tree for ensemble in ensembles for tree in ensemble.trees]
    fold_of_tree = [fold for fold, ensemble in enumerate(ensembles) for _ in ensemble.trees]
    nodes = [(number, tree, node) for number, tree in enumerate(trees) for node in range(len(tree.left))]
    leaves = [(number, tree, node) for number, tree, node in nodes if tree.left[node] == LEAF]
    ensemble_node = helper.make_node(
        "TreeEnsembleRegressor",
        inputs=["features"],
        outputs=["folds"],
        domain="ai.onnx.ml",
        n_targets=len(ensembles),
        aggregate_function="SUM",
        post_transform="NONE",
        base_values=[ensemble.base for ensemble in ensembles],
        nodes_treeids=[number for number, _, _ in nodes],
        nodes_nodeids=[node for _, _, node in nodes],
        nodes_featureids=[tree.feature[node] for _, tree, node in nodes],
        nodes_modes=["LEAF" if tree.left[node] == LEAF else "BRANCH_LT" for _, tree, node in nodes],
        nodes_values=[0.0 if tree.left[node] == LEAF else tree.threshold[node] for _, tree, node in nodes],
        nodes_truenodeids=[max(tree.left[node], 0) for _, tree, node in nodes],
        nodes_falsenodeids=[max(tree.right[node], 0) for _, tree, node in nodes],
        target_treeids=[number for number, _, _ in leaves],
        target_nodeids=[node for _, _, node in leaves],
        target_ids=[fold_of_tree[number] for number, _, _ in leaves],
        target_weights=[tree.threshold[node] for _, tree, node in leaves],
    )
    graph = helper.make_graph(
        [ensemble_node],
        "vroom_forecast",
        [helper.make_tensor_value_info("features", TensorProto.FLOAT, [None, num_features])],
        [helper.make_tensor_value_info("folds", TensorProto.FLOAT, [None, len(ensembles)])],
    )
    model = helper.make_model(
        graph,
        producer_name="vroom-forecast",
        ir_version=IR_VERSION,
        opset_imports=[helper.make_opsetid("", OPSET), helper.make_opsetid("ai.onnx.ml", ML_OPSET)],
    )
    Path(path).write_bytes(model.SerializeToString(deterministic=True))
