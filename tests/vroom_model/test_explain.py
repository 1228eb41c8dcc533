import numpy as np
import pytest
import xgboost as xgb

from tests.factories import VEHICLE
from tests.snapshots import FrameSnapshot
from tests.vroom_model.conftest import AS_OF
from vroom_features.view import VEHICLE_VIEW
from vroom_model.boosting import TrainingParams
from vroom_model.dataset import load_dataset
from vroom_model.errors import BrokenModelError
from vroom_model.explain import Explainer
from vroom_model.manifest import fold_file
from vroom_model.predictor import Predictor
from vroom_model.training import TrainedModel, train


@pytest.fixture(scope="module")
def all_features(fleet: FrameSnapshot, tmp_path_factory: pytest.TempPathFactory) -> TrainedModel:
    """Return a deep model whose boosters split on every feature."""
    params = TrainingParams(max_depth=6, min_leaf_rows=5, num_rounds=20, select_above_se=-1000)
    return train(fleet, directory=tmp_path_factory.mktemp("deep"), as_of=AS_OF, params=params)


def test_contributions_are_those_of_xgboost(all_features: TrainedModel, fleet: FrameSnapshot) -> None:
    explainer = Explainer.load(all_features.directory)
    features = load_dataset(fleet).features[:100]
    features = np.vstack([features, [[0, 0, 0, 0, -1e6], [1, 900, 1, 90_000, 1e6]]]).astype(np.float32)
    theirs = np.mean(
        [
            xgb.Booster(model_file=all_features.directory / fold_file(fold)).predict(
                xgb.DMatrix(features), pred_contribs=True
            )
            for fold in range(5)
        ],
        axis=0,
    )
    assert (np.abs(theirs[:, :-1]).max(axis=0) > 0.01).all(), "every feature must count in this test"
    for values, expected in zip(features, theirs, strict=True):
        base, contributions = explainer.contributions(values)
        assert base == pytest.approx(expected[-1], abs=1e-4)
        np.testing.assert_allclose(contributions, expected[:-1], atol=1e-4)


def test_reasons_add_up_to_the_forecast(trained: TrainedModel, predictor: Predictor) -> None:
    explainer = Explainer.load(trained.directory)
    for price in (20.0, 50.0, 75.0, 5_000.0):
        vehicle = VEHICLE | {"actual_price": price}
        explanation = explainer.explain(vehicle)
        parts = explanation.base + sum(reason.contribution for reason in explanation.reasons)
        assert parts == pytest.approx(explanation.forecast, abs=1e-9)
        served = predictor.predict_one(vehicle).predicted_reservations
        assert explanation.forecast == pytest.approx(served, abs=1e-4)


def test_reasons_are_in_plain_words_weightiest_first(trained: TrainedModel) -> None:
    explanation = Explainer.load(trained.directory).explain(VEHICLE | {"actual_price": 38.0})
    assert explanation.reasons[0].feature == "price_diff"
    assert explanation.reasons[0].text.startswith("priced 12 (24%) below market: +")
    assert explanation.reasons[0].text.endswith(" reservations")
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
    said, effect = reason.text.split(": ")
    assert said == words
    moved = f"{reason.contribution:+.1f} reservations".replace("-", "\N{MINUS SIGN}")
    assert effect in {"no difference", moved}


def test_a_directory_without_boosters_is_refused(tmp_path_factory: pytest.TempPathFactory) -> None:
    with pytest.raises(BrokenModelError, match="no fold booster"):
        Explainer.load(tmp_path_factory.mktemp("empty"))
