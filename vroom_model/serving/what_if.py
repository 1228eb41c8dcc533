"""A vehicle's forecast with one thing changed.

These are associations in past data: nothing was changed at random, so none is the effect of a change.
"""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from vroom_features.vehicle import COLUMNS
from vroom_model.serving.inputs import check_row
from vroom_model.serving.predictor import Forecast, Forecasts, Predictor

NUM_PRICES = 41
"""Of a curve."""
NUM_VALUES = 51
"""At most so many values of a count are tried."""
DISCOUNT = 0.9
"""Of a price that is not above the market's."""
NUM_CHANGES = 3
MIN_GAIN = 0.05
"""Reservations; less is written as 0."""


@dataclass(frozen=True, slots=True)
class WhatIf:
    """A vehicle's forecast at other prices; none of the forecasts rises with the price."""

    prices: tuple[float, ...]
    """From the lowest to the highest price ratio in the training data, times the market price."""
    forecast: tuple[float, ...]
    low: tuple[float, ...]
    high: tuple[float, ...]
    market_price: float
    price_now: float
    """The owner's price, one of ``prices`` if it is inside."""
    inside: bool
    """Whether the owner's price is within the prices of the training data."""


@dataclass(frozen=True, slots=True)
class Change:
    """Another value of one raw column, and the forecast with it."""

    column: str
    value: float
    forecast: Forecast


def what_if(predictor: Predictor, vehicle: Mapping[str, float]) -> WhatIf:
    """Forecast a vehicle, given by its raw columns, at other prices than its ``actual_price``."""
    check_row(dict.fromkeys((*predictor.view.sources, "actual_price", "recommended_price")), vehicle)
    market_price = float(vehicle["recommended_price"])
    lowest, highest = (ratio * market_price for ratio in predictor.manifest.price_ratio)
    price_now = float(vehicle["actual_price"])
    prices = np.linspace(lowest, highest, NUM_PRICES)
    if lowest < price_now < highest:  # it replaces the nearest price
        between = prices[1:-1]
        between[np.abs(between - price_now).argmin()] = price_now
    made = _predict(predictor, vehicle, [("actual_price", price) for price in prices.tolist()])
    return WhatIf(
        prices=tuple(prices.tolist()),
        forecast=tuple(made.predicted_reservations.tolist()),
        low=tuple(made.low.tolist()),
        high=tuple(made.high.tolist()),
        market_price=market_price,
        price_now=price_now,
        inside=lowest <= price_now <= highest,
    )


def helpful_changes(predictor: Predictor, vehicle: Mapping[str, float]) -> list[Change]:
    """Return up to three changes of one column with a higher forecast, each within what the model has seen.

    The highest comes first.  The price is tried at the market's, or 10 % lower where it is not above it; of
    every other raw column that an owner chooses, each value, and the best is returned.
    """
    tried = list(_candidates(predictor, vehicle))
    if not tried:
        return []
    least = predictor.predict_one(vehicle).predicted_reservations + MIN_GAIN
    made = zip(tried, _predict(predictor, vehicle, tried), strict=True)
    changes = [Change(*each, forecast) for each, forecast in made if forecast.predicted_reservations >= least]
    changes.sort(key=lambda change: -change.forecast.predicted_reservations)
    best: dict[str, Change] = {}
    for change in changes:
        best.setdefault(change.column, change)
    return list(best.values())[:NUM_CHANGES]


def _candidates(predictor: Predictor, vehicle: Mapping[str, float]) -> Iterator[tuple[str, float]]:
    market, price = vehicle["recommended_price"], vehicle["actual_price"]
    lowest, highest = (ratio * market for ratio in predictor.manifest.price_ratio)
    seen = predictor.manifest.ranges
    if price_range := seen.get("actual_price"):
        lowest, highest = max(lowest, price_range.low), min(highest, price_range.high)
    target = round(min(max(market if price > market else DISCOUNT * price, lowest), highest), 2)
    if lowest <= target <= highest and 0 < target < price:
        yield "actual_price", target
    for name in predictor.view.sources:
        if name in seen and COLUMNS[name].is_whole:
            span = seen[name].high - seen[name].low
            tried = np.linspace(seen[name].low, seen[name].high, min(int(span) + 1, NUM_VALUES))
            yield from ((name, value) for value in tried.round().tolist())


def _predict(
    predictor: Predictor, vehicle: Mapping[str, float], changes: Sequence[tuple[str, float]]
) -> Forecasts:
    """Forecast the vehicle with each of these changes alone, by one call of the model."""
    columns = {
        name: np.array([value if column == name else float(vehicle[name]) for column, value in changes])
        for name in predictor.view.sources
    }
    return predictor.predict_many(columns)
