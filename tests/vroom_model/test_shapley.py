"""Shapley values equal those of XGBoost, on boosters that it trained."""

import numpy as np
import numpy.typing as npt
import pytest
import xgboost as xgb

from vroom_model.serving.explain import TreeShap
from vroom_model.trees import LEAF, Ensemble, Tree

NUM_ROWS = 2_000
Boosters = list[xgb.Booster]
Features = npt.NDArray[np.float32]


def trained(num_features: int, max_depth: int) -> tuple[Boosters, Features]:
    """Return two boosters whose features act together, and rows to explain, some far from what they saw."""
    rng = np.random.default_rng(num_features)
    features = rng.normal(size=(NUM_ROWS, num_features)).astype(np.float32)
    features[:, ::2] = features[:, ::2].round()  # values right at thresholds
    labels = features.sum(axis=1) + 3 * features[:, 0] * features[:, -1]
    params = {"max_depth": max_depth, "eta": 0.3, "subsample": 0.7, "nthread": 1}
    boosters = [
        xgb.train(params | {"seed": seed}, xgb.DMatrix(features, labels, nthread=1), 30) for seed in range(2)
    ]
    return boosters, np.vstack([features[:50], np.full((1, num_features), -1e6, np.float32)])


def shap_of(boosters: Boosters) -> TreeShap:
    return TreeShap.of([Ensemble.from_json(bytes(booster.save_raw("json"))) for booster in boosters])


@pytest.mark.parametrize(("num_features", "max_depth"), [(5, 1), (5, 4), (5, 9), (12, 6), (50, 4), (50, 7)])
def test_contributions_are_those_of_xgboost(num_features: int, max_depth: int) -> None:
    boosters, rows = trained(num_features, max_depth)
    shap = shap_of(boosters)
    matrix = xgb.DMatrix(rows, nthread=1)
    theirs = np.mean([booster.predict(matrix, pred_contribs=True) for booster in boosters], axis=0)
    assert (np.abs(theirs[:, :-1]).max(axis=0) > 0.01).sum() >= min(num_features, 12)
    for values, expected in zip(rows, theirs, strict=True):
        np.testing.assert_allclose(shap.contributions(values), expected[:-1], atol=1e-4)
        assert shap.base == pytest.approx(expected[-1], abs=1e-4)


def test_base_and_contributions_add_up_to_the_forecast() -> None:
    boosters, rows = trained(12, 6)
    shap = shap_of(boosters)
    forecasts = np.mean([booster.inplace_predict(rows) for booster in boosters], axis=0)
    added_up = [shap.base + shap.contributions(values).sum() for values in rows]
    np.testing.assert_allclose(added_up, forecasts, atol=1e-4)


def test_trees_of_one_leaf_move_nothing() -> None:
    leaf = Tree(left=(LEAF,), right=(LEAF,), feature=(0,), threshold=(2.0,), cover=(1.0,))
    shap = TreeShap.of([Ensemble(base=1.0, trees=(leaf,))])
    assert shap.base == 3.0
    assert shap.contributions(np.zeros(3, dtype=np.float32)).tolist() == [0, 0, 0]
