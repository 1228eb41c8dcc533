"""A vehicle's forecast at other prices.  Associations in past data: prices were never set at random."""

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np

from vroom_model.serving.inputs import check_row
from vroom_model.serving.predictor import Predictor

NUM_PRICES = 41
"""Of a curve."""


@dataclass(frozen=True, slots=True)
class WhatIf:
    """A vehicle's forecast at other prices; all fields but the last three have one value a price.

    Prices were never set at random, so this is an association, not the effect of changing a price.

    Parameters
    ----------
    prices : tuple of float
        From the lowest to the highest price ratio in the training data, times the market price; ``price_now``
        is one of them if it is ``inside``.
    forecast, low, high : tuple of float
        Reservations; none of them rises with the price.
    index : tuple of float
        Forecast times price, the highest as 100.
    market_price : float
        The recommended price.
    price_now : float
        The owner's price.
    inside : bool
        Whether ``price_now`` is within the prices of the training data.
    """

    prices: tuple[float, ...]
    forecast: tuple[float, ...]
    low: tuple[float, ...]
    high: tuple[float, ...]
    index: tuple[float, ...]
    market_price: float
    price_now: float
    inside: bool


def what_if(predictor: Predictor, vehicle: Mapping[str, float]) -> WhatIf:
    """Forecast a vehicle, given by its raw columns, at other prices than its ``actual_price``.

    Raises
    ------
    MissingValueError
        If a value is missing or infinite.
    """
    check_row(dict.fromkeys((*predictor.view.sources, "actual_price", "recommended_price")), vehicle)
    market_price = float(vehicle["recommended_price"])
    lowest, highest = (ratio * market_price for ratio in predictor.manifest.price_ratio)
    price_now = float(vehicle["actual_price"])
    prices = np.linspace(lowest, highest, NUM_PRICES)
    if lowest < price_now < highest:  # it replaces the nearest price
        between = prices[1:-1]
        between[np.abs(between - price_now).argmin()] = price_now
    columns = {name: np.full(NUM_PRICES, float(vehicle[name])) for name in predictor.view.sources}
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
