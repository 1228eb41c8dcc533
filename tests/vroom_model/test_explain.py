"""Reasons in words, and Shapley values that equal those of XGBoost."""

import shutil
from pathlib import Path

import numpy as np
import pytest
import xgboost as xgb
from hypothesis import given
from hypothesis import strategies as st

from tests.factories import VEHICLE, vehicles
from vroom_features.errors import MissingColumnsError
from vroom_features.view import VEHICLE_VIEW
from vroom_model.errors import BrokenModelError, MissingValueError
from vroom_model.manifest import fold_file
from vroom_model.serving.explain import Explainer, TreeShap
from vroom_model.serving.predictor import Predictor
from vroom_model.serving.what_if import what_if
from vroom_model.training.train import TrainedModel
from vroom_model.trees import LEAF, Ensemble, Tree

MISSING = (np.nan, np.inf, -np.inf, 1e39, None)
"""A float32 takes 1e39 as infinite."""


@pytest.fixture(scope="module")
def explainer(trained: TrainedModel) -> Explainer:
    return Explainer.load(trained.directory)


@given(vehicle=vehicles())
def test_reasons_of_any_vehicle_come_largest_first_and_add_up_to_the_forecast(
    predictor: Predictor, explainer: Explainer, vehicle: dict[str, float]
) -> None:
    explanation = explainer.explain(vehicle)
    weights = [reason.contribution for reason in explanation.reasons]
    forecast = predictor.predict_one(vehicle).predicted_reservations
    assert explanation.base + sum(weights) == pytest.approx(forecast, abs=1e-4)
    assert weights == sorted(weights, key=abs, reverse=True)
    assert {reason.feature for reason in explanation.reasons} == set(VEHICLE_VIEW.columns)


@given(vehicle=vehicles(), name=st.sampled_from(list(VEHICLE)), value=st.sampled_from(MISSING))
def test_a_missing_value_is_refused_alike_by_forecast_reasons_and_what_if(
    predictor: Predictor, explainer: Explainer, vehicle: dict[str, float], name: str, value: float
) -> None:
    broken = vehicle | {name: value}
    columns = {column: np.array([VEHICLE[column], found]) for column, found in broken.items()}
    for refuse in (
        lambda: predictor.predict_one(broken),
        lambda: predictor.predict_many(columns),
        lambda: explainer.explain(broken),
        lambda: what_if(predictor, broken),
    ):
        with pytest.raises(MissingValueError, match=f"a finite number in each column, got .* in {name};"):
            refuse()


@pytest.mark.parametrize("name", VEHICLE_VIEW.columns)
@pytest.mark.parametrize("value", MISSING)
def test_a_missing_feature_is_refused(predictor: Predictor, name: str, value: float) -> None:
    features = VEHICLE_VIEW.compute(VEHICLE) | {name: value}
    matrix = np.array([[features[column] for column in VEHICLE_VIEW.columns]], dtype=np.float64)
    for refuse in (lambda: predictor.predict_features(features), lambda: predictor.predict_matrix(matrix)):
        with pytest.raises(MissingValueError) as refused:
            refuse()
        assert refused.value.columns == (name,)


def test_a_column_that_is_not_there_is_named(predictor: Predictor, explainer: Explainer) -> None:
    vehicle = {name: value for name, value in VEHICLE.items() if name != "num_images"}
    for refuse in (predictor.predict_one, explainer.explain):
        with pytest.raises(MissingColumnsError, match="num_images"):
            refuse(vehicle)


@pytest.mark.parametrize(
    ("changes", "feature", "words"),
    [
        ({"actual_price": 50.0}, "price_diff", "priced at market"),
        ({"actual_price": 50.1}, "price_diff", "priced 0.10 (under 1%) above market"),
        ({"actual_price": 37.5}, "price_diff", "priced 12.50 (25%) below market"),
        ({"actual_price": 1_234_617.8}, "price_diff", "priced 1,234,567.80 (2,469,136%) above market"),
        ({"num_images": 0}, "num_images", "no photos"),
        ({"num_images": 1}, "num_images", "1 photo"),
        ({"num_images": 5}, "num_images", "5 photos"),
        ({"description": 1_250_000}, "description", "1,250,000 characters of description"),
        ({"technology": 1}, "technology", "can be unlocked by phone"),
        ({"technology": 0}, "technology", "cannot be unlocked by phone"),
        ({"street_parked": 1}, "street_parked", "parked on the street"),
        ({"street_parked": 0}, "street_parked", "not parked on the street"),
    ],
)
def test_every_value_reads_well(
    explainer: Explainer, changes: dict[str, float], feature: str, words: str
) -> None:
    explanation = explainer.explain(VEHICLE | changes)
    assert {reason.feature: reason.fact for reason in explanation.reasons}[feature] == words


def test_a_reason_names_what_it_compares_with(
    trained: TrainedModel, explainer: Explainer, tmp_path: Path
) -> None:
    compared = {reason.feature: reason.compared for reason in explainer.explain(VEHICLE).reasons}
    assert compared == {
        "price_diff": "the average car of the fleet asks 41% above market",
        "num_images": "the average car of the fleet: 3.1",
        "description": "the average car of the fleet: 88.6",
        "technology": "16% of the fleet: can be unlocked by phone",
        "street_parked": "53% of the fleet: parked on the street",
    }
    copy = shutil.copytree(trained.directory, tmp_path / "bundle")
    trained.manifest.model_copy(update={"ranges": {}, "mean_price_ratio": None}).write(copy)
    assert {reason.compared for reason in Explainer.load(copy).explain(VEHICLE).reasons} == {""}


def test_a_directory_without_a_booster_is_refused(trained: TrainedModel, tmp_path: Path) -> None:
    copy = shutil.copytree(trained.directory, tmp_path / "bundle")
    (copy / fold_file(2)).unlink()
    with pytest.raises(BrokenModelError, match=r"fold-2\.json cannot be read"):
        Explainer.load(copy)


@pytest.mark.parametrize(("num_features", "max_depth"), [(5, 1), (5, 9), (12, 6), (50, 7)])
def test_contributions_are_those_of_xgboost(num_features: int, max_depth: int) -> None:
    rng = np.random.default_rng(num_features)
    features = rng.normal(size=(2_000, num_features)).astype(np.float32)
    features[:, ::2] = features[:, ::2].round()  # values right at thresholds
    labels = features.sum(axis=1) + 3 * features[:, 0] * features[:, -1]
    params = {"max_depth": max_depth, "eta": 0.3, "subsample": 0.7, "nthread": 1}
    boosters = [
        xgb.train(params | {"seed": seed}, xgb.DMatrix(features, labels, nthread=1), 30) for seed in range(2)
    ]
    shap = TreeShap([Ensemble.from_json(bytes(booster.save_raw("json"))) for booster in boosters])
    rows = np.vstack([features[:50], np.full((1, num_features), -1e6, np.float32)])  # and far from all seen
    matrix = xgb.DMatrix(rows, nthread=1)
    theirs = np.mean([booster.predict(matrix, pred_contribs=True) for booster in boosters], axis=0)
    assert (np.abs(theirs[:, :-1]).max(axis=0) > 0.01).sum() >= min(num_features, 12)
    for values, expected in zip(rows, theirs, strict=True):
        np.testing.assert_allclose(shap.contributions(values), expected[:-1], atol=1e-4)
        assert shap.base == pytest.approx(expected[-1], abs=1e-4)


def test_trees_of_one_leaf_move_nothing() -> None:
    leaf = Tree(left=(LEAF,), right=(LEAF,), feature=(0,), threshold=(2.0,), cover=(1.0,))
    shap = TreeShap([Ensemble(base=1.0, trees=(leaf,))])
    assert shap.base == 3.0
    assert shap.contributions(np.zeros(3, dtype=np.float32)).tolist() == [0, 0, 0]
