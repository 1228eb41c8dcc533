"""Reasons in words, and Shapley values that equal those of XGBoost."""

import shutil
from pathlib import Path

import numpy as np
import numpy.typing as npt
import pytest
import xgboost as xgb

from tests.factories import VEHICLE
from vroom_features.view import VEHICLE_VIEW
from vroom_model.errors import BrokenModelError
from vroom_model.manifest import fold_file
from vroom_model.serving.explain import Explainer, TreeShap
from vroom_model.serving.predictor import Predictor
from vroom_model.training.train import TrainedModel
from vroom_model.trees import LEAF, Ensemble, Tree


def test_reasons_add_up_to_the_forecast(trained: TrainedModel, predictor: Predictor) -> None:
    explainer = Explainer.load(trained.directory)
    for price in (20.0, 50.0, 75.0, 5_000.0):
        vehicle = VEHICLE | {"actual_price": price}
        explanation = explainer.explain(vehicle)
        parts = explanation.base + sum(reason.contribution for reason in explanation.reasons)
        assert parts == pytest.approx(predictor.predict_one(vehicle).predicted_reservations, abs=1e-4)


def test_reasons_are_in_plain_words_largest_first(trained: TrainedModel) -> None:
    explanation = Explainer.load(trained.directory).explain(VEHICLE | {"actual_price": 38.0})
    assert explanation.reasons[0].feature == "price_diff"
    assert explanation.reasons[0].fact == "priced 12 (24%) below market"
    assert explanation.reasons[0].contribution > 0
    weights = [abs(reason.contribution) for reason in explanation.reasons]
    assert weights == sorted(weights, reverse=True)
    assert {reason.feature for reason in explanation.reasons} == set(VEHICLE_VIEW.columns)


@pytest.mark.parametrize(
    ("changes", "feature", "words"),
    [
        ({"actual_price": 50.0}, "price_diff", "priced at market"),
        ({"actual_price": 50.1 - 0.1 + 1e-9}, "price_diff", "priced at market"),
        ({"actual_price": 50.1}, "price_diff", "priced 0.10 (under 1%) above market"),
        ({"actual_price": 62.0}, "price_diff", "priced 12 (24%) above market"),
        ({"actual_price": 37.5}, "price_diff", "priced 12.50 (25%) below market"),
        ({"actual_price": 1_234_617.8}, "price_diff", "priced 1,234,567.80 (2,469,136%) above market"),
        ({"num_images": 0}, "num_images", "no photos"),
        ({"num_images": 1}, "num_images", "1 photo"),
        ({"num_images": 5}, "num_images", "5 photos"),
        ({"description": 0}, "description", "no characters of description"),
        ({"description": 1}, "description", "1 character of description"),
        ({"description": 1_250_000}, "description", "1,250,000 characters of description"),
        ({"technology": 1}, "technology", "can be unlocked by phone"),
        ({"technology": 0}, "technology", "cannot be unlocked by phone"),
        ({"street_parked": 1}, "street_parked", "parked on the street"),
        ({"street_parked": 0}, "street_parked", "not parked on the street"),
    ],
)
def test_every_value_reads_well(
    trained: TrainedModel, changes: dict[str, float], feature: str, words: str
) -> None:
    explanation = Explainer.load(trained.directory).explain(VEHICLE | changes)
    (reason,) = [reason for reason in explanation.reasons if reason.feature == feature]
    assert reason.fact == words


def test_a_directory_without_a_booster_is_refused(trained: TrainedModel, tmp_path: Path) -> None:
    copy = tmp_path / "bundle"
    shutil.copytree(trained.directory, copy)
    (copy / fold_file(2)).unlink()
    with pytest.raises(BrokenModelError, match=r"fold-2\.json cannot be read"):
        Explainer.load(copy)


NUM_ROWS = 2_000
Boosters = list[xgb.Booster]
Features = npt.NDArray[np.float32]


def boosters_of(num_features: int, max_depth: int) -> tuple[Boosters, Features]:
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
    return TreeShap([Ensemble.from_json(bytes(booster.save_raw("json"))) for booster in boosters])


@pytest.mark.parametrize(("num_features", "max_depth"), [(5, 1), (5, 4), (5, 9), (12, 6), (50, 4), (50, 7)])
def test_contributions_are_those_of_xgboost(num_features: int, max_depth: int) -> None:
    boosters, rows = boosters_of(num_features, max_depth)
    shap = shap_of(boosters)
    matrix = xgb.DMatrix(rows, nthread=1)
    theirs = np.mean([booster.predict(matrix, pred_contribs=True) for booster in boosters], axis=0)
    assert (np.abs(theirs[:, :-1]).max(axis=0) > 0.01).sum() >= min(num_features, 12)
    for values, expected in zip(rows, theirs, strict=True):
        np.testing.assert_allclose(shap.contributions(values), expected[:-1], atol=1e-4)
        assert shap.base == pytest.approx(expected[-1], abs=1e-4)


def test_base_and_contributions_add_up_to_the_forecast() -> None:
    boosters, rows = boosters_of(12, 6)
    shap = shap_of(boosters)
    forecasts = np.mean([booster.inplace_predict(rows) for booster in boosters], axis=0)
    added_up = [shap.base + shap.contributions(values).sum() for values in rows]
    np.testing.assert_allclose(added_up, forecasts, atol=1e-4)


def test_trees_of_one_leaf_move_nothing() -> None:
    leaf = Tree(left=(LEAF,), right=(LEAF,), feature=(0,), threshold=(2.0,), cover=(1.0,))
    shap = TreeShap([Ensemble(base=1.0, trees=(leaf,))])
    assert shap.base == 3.0
    assert shap.contributions(np.zeros(3, dtype=np.float32)).tolist() == [0, 0, 0]
