"""What another price would go with: the forecast and its range along the prices that training saw.

Prices were never set at random, so this is an association in the data, not the effect of changing a price.
"""

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np

from vroom_model.serving.predictor import Predictor

NUM_POINTS = 41


@dataclass(frozen=True, slots=True)
class WhatIf:
    """A vehicle's forecast along prices; all fields but the last three have one value a price.

    Parameters
    ----------
    prices : tuple of float
        Ascending, from the lowest to the highest price ratio that training saw, times the market price;
        ``price_now`` is one of them when it is ``inside``.
    forecast, low, high : tuple of float
        Reservations; none of them rises with the price.
    index : tuple of float
        Forecast times price, where the highest is 100: how income compares, were the association to hold.
    market_price : float
        The recommended price.
    price_now : float
        The owner's price.
    inside : bool
        Whether ``price_now`` is within the prices seen in training.
    """

    prices: tuple[float, ...]
    forecast: tuple[float, ...]
    low: tuple[float, ...]
    high: tuple[float, ...]
    index: tuple[float, ...]
    market_price: float
    price_now: float
    inside: bool


def what_if(predictor: Predictor, vehicle: Mapping[str, float], *, num_points: int = NUM_POINTS) -> WhatIf:
    """Forecast a vehicle at other prices.

    Parameters
    ----------
    predictor : Predictor
        The model.
    vehicle : mapping
        Its raw columns; ``actual_price`` is the price now.
    num_points : int, default 41
        How many prices.
    """
    market_price = float(vehicle["recommended_price"])
    lowest, highest = (ratio * market_price for ratio in predictor.manifest.price_ratio)
    price_now = float(vehicle["actual_price"])
    prices = np.linspace(lowest, highest, num_points)
    if lowest < price_now < highest:  # it takes the place of the nearest price between the ends
        between = prices[1:-1]
        between[np.abs(between - price_now).argmin()] = price_now
    columns = {name: np.full(num_points, float(vehicle[name])) for name in predictor.view.sources}
    forecasts = predictor.predict_many(columns | {"actual_price": prices})
    income = forecasts.predicted_reservations * prices
    return WhatIf(
        prices=tuple(prices.tolist()),
        forecast=tuple(forecasts.predicted_reservations.tolist()),
        low=tuple(forecasts.low.tolist()),
        high=tuple(forecasts.high.tolist()),
        index=tuple((100 * income / max(float(income.max()), 1e-9)).tolist()),
        market_price=market_price,
        price_now=price_now,
        inside=lowest <= price_now <= highest,
    )
