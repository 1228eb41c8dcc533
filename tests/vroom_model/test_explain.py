import shutil
from pathlib import Path

import pytest

from tests.factories import VEHICLE
from vroom_features.view import VEHICLE_VIEW
from vroom_model.errors import BrokenModelError
from vroom_model.manifest import fold_file
from vroom_model.serving.explain import Explainer
from vroom_model.serving.predictor import Predictor
from vroom_model.training.train import TrainedModel


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


def test_a_directory_without_a_booster_is_refused(trained: TrainedModel, tmp_path: Path) -> None:
    copy = tmp_path / "bundle"
    shutil.copytree(trained.directory, copy)
    (copy / fold_file(2)).unlink()
    with pytest.raises(BrokenModelError, match=r"fold-2\.json cannot be read"):
        Explainer.load(copy)
