"""What would help a vehicle: single changes within what the model has seen."""

import pytest
from hypothesis import example, given

from tests.factories import VEHICLE, vehicles
from vroom_model.serving.predictor import Predictor
from vroom_model.serving.what_if import helpful_changes
from vroom_model.training.train import TrainedModel


@example(vehicle=VEHICLE | {"actual_price": 300.0, "recommended_price": 200.0})  # dearer than any seen
@given(vehicle=vehicles())
def test_each_change_helps_alone_within_what_was_seen_and_the_best_is_first(
    trained: TrainedModel, predictor: Predictor, vehicle: dict[str, float]
) -> None:
    now = predictor.predict_one(vehicle).predicted_reservations
    found = helpful_changes(predictor, vehicle)
    assert len({change.column for change in found}) == len(found) <= 3
    forecasts = [change.forecast.predicted_reservations for change in found]
    assert forecasts == sorted(forecasts, reverse=True)
    for change in found:
        changed = vehicle | {change.column: change.value}
        assert change.column not in predictor.outside(changed)
        alone = predictor.predict_one(changed)
        assert alone.predicted_reservations == pytest.approx(change.forecast.predicted_reservations, abs=1e-4)
        assert alone.predicted_reservations > now


@pytest.mark.parametrize(
    ("changes", "expected"),
    [
        ({"actual_price": 70.0, "num_images": 1}, {"actual_price": 50.0, "num_images": 5}),
        ({"actual_price": 5_000.0, "num_images": 40}, {"actual_price": 50.0}),
    ],
)
def test_the_market_price_and_as_many_photos_as_others_would_help(
    predictor: Predictor, changes: dict[str, float], expected: dict[str, float]
) -> None:
    found = {each.column: each.value for each in helpful_changes(predictor, VEHICLE | changes)}
    assert found.items() >= expected.items()


def test_a_model_that_did_not_keep_its_ranges_speaks_of_the_price_alone(
    trained: TrainedModel, predictor: Predictor
) -> None:
    old = Predictor(predictor._session, trained.manifest.model_copy(update={"ranges": {}}), version=1)
    assert [each.column for each in helpful_changes(old, VEHICLE | {"num_images": 1})] in (
        ["actual_price"],
        [],
    )
