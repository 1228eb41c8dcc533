"""Forecasts of the whole fleet and what happened, for charts and percentiles."""

import threading
import time
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from vroom_features.database.queries import StoredVehicle
from vroom_features.database.vehicles import SourceStore
from webapp.serving.current_model import LoadedModel
from webapp.serving.forecasts import predict_vehicles

SAMPLE_PAGES = 4
SAMPLE_PAGE_SIZE = 500
REFRESH_INTERVAL_S = 10.0
NUM_BINS = 20
NUM_GROUPS = 8
Array = npt.NDArray[np.float64]


@dataclass(frozen=True, slots=True)
class FleetPercentile:
    """Where a forecast lies among the forecasts for the fleet, all by one model.

    Parameters
    ----------
    share_below : float
        Share of the fleet with a smaller forecast.
    num_vehicles : int
        How many vehicles it is compared with.
    bars : tuple of float
        A histogram of their forecasts, the highest bar being 1.
    bin : int
        The bar this forecast falls into.
    low, high : float
        The smallest and the largest forecast of the histogram.
    """

    share_below: float
    num_vehicles: int
    bars: tuple[float, ...]
    bin: int
    low: float
    high: float


@dataclass(frozen=True, slots=True)
class Group:
    """Vehicles with similar forecasts, and their bookings."""

    low: float
    high: float
    num_vehicles: int
    mean_forecast: float
    mean_outcome: float
    share_held: float


@dataclass(frozen=True, slots=True)
class FleetPredictions:
    """Arrays of shape (n_vehicles,), in ascending order of the forecasts."""

    vehicle_id: npt.NDArray[np.int64]
    forecast: Array
    low: Array
    high: Array
    outcome: Array


@dataclass(frozen=True, slots=True)
class _Cached:
    """Forecasts, and what they were made from."""

    version: int
    revision: str
    made_at: float
    predictions: FleetPredictions


class FleetOverview:
    """Forecasts of the fleet, or of an even sample of a large one, cached per model and state of the fleet.

    Parameters
    ----------
    source : SourceStore
        Holds the fleet.
    refresh_interval_s : float
        How long forecasts are used at least, while vehicles keep changing.
    """

    def __init__(self, source: SourceStore, *, refresh_interval_s: float = REFRESH_INTERVAL_S) -> None:
        self._source = source
        self._refresh_interval_s = refresh_interval_s
        self._lock = threading.Lock()
        self._cached: _Cached | None = None

    def percentile(self, model: LoadedModel, forecast: float) -> FleetPercentile | None:
        """Return where this forecast lies; None while the fleet is empty."""
        forecasts = self.predictions(model).forecast
        if forecasts.size == 0:
            return None
        low, high = float(forecasts[0]), float(forecasts[-1])
        counts, edges = np.histogram(forecasts, bins=NUM_BINS, range=(low, max(high, low + 0.1)))
        found = int(np.searchsorted(edges, forecast, side="right")) - 1
        return FleetPercentile(
            share_below=float(np.searchsorted(forecasts, forecast, side="left")) / forecasts.size,
            num_vehicles=forecasts.size,
            bars=tuple((counts / counts.max()).round(3).tolist()),
            bin=min(max(found, 0), NUM_BINS - 1),
            low=low,
            high=high,
        )

    def groups(self, model: LoadedModel) -> list[Group]:
        """Return the fleet in groups of equal size, from the least to the most expected."""
        fleet = self.predictions(model)
        rows = np.array_split(np.arange(fleet.forecast.size), NUM_GROUPS)
        held = (fleet.low <= fleet.outcome) & (fleet.outcome <= fleet.high)
        return [
            Group(
                low=float(fleet.forecast[part[0]]),
                high=float(fleet.forecast[part[-1]]),
                num_vehicles=len(part),
                mean_forecast=float(fleet.forecast[part].mean()),
                mean_outcome=float(fleet.outcome[part].mean()),
                share_held=float(held[part].mean()),
            )
            for part in rows
            if len(part)
        ]

    def predictions(self, model: LoadedModel) -> FleetPredictions:
        """Return the fleet's forecasts by this model."""
        with self._lock:
            cached, moment = self._cached, time.monotonic()
            is_same_model = cached is not None and cached.version == model.version
            if cached and is_same_model and moment - cached.made_at < self._refresh_interval_s:
                return cached.predictions
            revision = self._source.revision()
            if cached and is_same_model and cached.revision == revision:
                return cached.predictions
            found = _forecast(model, sample(self._source))
            self._cached = _Cached(model.version, revision, moment, found)
            return found


def _forecast(model: LoadedModel, vehicles: list[StoredVehicle]) -> FleetPredictions:
    made = [(each.predicted_reservations, each.low, each.high) for each in predict_vehicles(model, vehicles)]
    forecast, low, high = np.array(made, dtype=float).reshape(-1, 3).T
    order = np.argsort(forecast, kind="stable")
    return FleetPredictions(
        vehicle_id=np.array([vehicle.vehicle_id for vehicle in vehicles], dtype=np.int64)[order],
        forecast=forecast[order],
        low=low[order],
        high=high[order],
        outcome=np.array([vehicle.num_reservations for vehicle in vehicles], dtype=float)[order],
    )


def sample(source: SourceStore) -> list[StoredVehicle]:
    """Return the whole fleet while it is small, and evenly spread pages of a large one."""
    first = source.list_vehicles(kind="fleet", page=1, page_size=SAMPLE_PAGE_SIZE)
    num_pages = max(1, -(-first.total // SAMPLE_PAGE_SIZE))
    spread = {round(k * (num_pages - 1) / (SAMPLE_PAGES - 1)) + 1 for k in range(SAMPLE_PAGES)}
    found = list(first.items)
    for page in sorted(spread - {1}):
        found += source.list_vehicles(kind="fleet", page=page, page_size=SAMPLE_PAGE_SIZE).items
    return found
