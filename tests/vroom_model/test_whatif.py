import numpy as np
import pytest

from tests.factories import VEHICLE
from vroom_model.serving.predictor import Predictor, what_if


def test_nothing_rises_with_the_price(predictor: Predictor) -> None:
    for photos in (1, 3, 5):
        curve = what_if(predictor, VEHICLE | {"num_images": photos})
        for ends in (curve.forecast, curve.low, curve.high):
            assert (np.diff(ends) <= 1e-9).all()
        assert curve.forecast[0] > curve.forecast[-1]


def test_the_curve_stays_inside_the_price_ratios_seen(predictor: Predictor) -> None:
    curve = what_if(predictor, VEHICLE)
    lowest, highest = predictor.manifest.price_ratio
    assert curve.prices[0] == pytest.approx(lowest * curve.market_price)
    assert curve.prices[-1] == pytest.approx(highest * curve.market_price)
    assert curve.inside
    assert not what_if(predictor, VEHICLE | {"actual_price": 1_000.0}).inside


def test_the_curve_passes_through_the_forecast(predictor: Predictor) -> None:
    curve = what_if(predictor, VEHICLE)
    here = predictor.predict_one(VEHICLE | {"actual_price": curve.prices[7]})
    assert curve.forecast[7] == pytest.approx(here.predicted_reservations)
    assert (curve.low[7], curve.high[7]) == pytest.approx((here.low, here.high))


@pytest.mark.parametrize("price", [45.0, 58.37, 50.1])
def test_the_price_now_is_on_the_curve_with_its_forecast(predictor: Predictor, price: float) -> None:
    curve = what_if(predictor, VEHICLE | {"actual_price": price})
    assert len(curve.prices) == 41
    assert (np.diff(curve.prices) > 0).all()
    here = curve.prices.index(price)
    forecast = predictor.predict_one(VEHICLE | {"actual_price": price})
    assert curve.forecast[here] == pytest.approx(forecast.predicted_reservations)


@pytest.mark.parametrize("end", [0, 1])
def test_a_price_beside_an_end_of_the_curve_moves_no_end(predictor: Predictor, end: int) -> None:
    ends = [ratio * VEHICLE["recommended_price"] for ratio in predictor.manifest.price_ratio]
    for price in (ends[end], ends[end] + (0.01, -0.01)[end]):
        curve = what_if(predictor, VEHICLE | {"actual_price": price})
        assert (curve.prices[0], curve.prices[-1]) == pytest.approx(ends)
        assert (np.diff(curve.prices) > 0).all()
        assert price in curve.prices


def test_the_index_compares_income_with_the_highest(predictor: Predictor) -> None:
    curve = what_if(predictor, VEHICLE)
    income = np.array(curve.forecast) * np.array(curve.prices)
    assert max(curve.index) == pytest.approx(100)
    assert int(np.argmax(curve.index)) == int(np.argmax(income))
