"""Forecasts of the whole fleet and what happened, for charts and percentiles."""

import threading
import time
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import date

import numpy as np
import numpy.typing as npt

from vroom_features.database.queries import StoredVehicle, VehicleFilter, VehiclePage
from vroom_features.database.vehicles import SourceStore
from vroom_features.vehicle import COLUMNS
from webapp.serving.current_model import LoadedModel
from webapp.serving.fleet_rows import fleet_rows

SAMPLE_PAGES = 4
SAMPLE_PAGE_SIZE = 500
REFRESH_INTERVAL_S = 10.0
NUM_BINS = 20
NUM_GROUPS = 8
NUM_SIMILAR = 10
OVER, UNDER_WATCH = (VehicleFilter(is_watch_over=each) for each in (True, False))
Array = npt.NDArray[np.float64]


@dataclass(frozen=True, slots=True)
class FleetPercentile:
    """The rank of a forecast among those of the fleet, with a histogram of these from ``low`` to ``high``.

    The highest of the histogram's ``bars`` is 1; the forecast falls into that of index ``bin``.
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
    """The vehicles whose watch is over: arrays of shape (n_vehicles,), in ascending order of the forecasts.

    ``num_left_out`` others of the fleet are under watch; ``next_matures`` is when the first of these will be
    among them.
    """

    vehicle_id: npt.NDArray[np.int64]
    forecast: Array
    low: Array
    high: Array
    outcome: Array
    raw: Array
    """Their raw columns, shape (n_vehicles, n_columns)."""
    num_left_out: int = 0
    next_matures: date | None = None


@dataclass(frozen=True, slots=True)
class SimilarVehicle:
    """A vehicle like another, with its raw columns, and its bookings in a watch of the model."""

    vehicle_id: int
    raw: Mapping[str, float]
    outcome: float


class FleetOverview:
    """Forecasts of the fleet, or of an even sample of a large one, cached per model and state of the fleet.

    Each is by boosters that did not learn from the vehicle, and is used for ``refresh_interval_s`` at least,
    while vehicles keep changing.
    """

    def __init__(self, source: SourceStore, *, refresh_interval_s: float = REFRESH_INTERVAL_S) -> None:
        self._source = source
        self._refresh_interval_s = refresh_interval_s
        self._lock = threading.Lock()
        self._made_from = (0, "")  # version of the model, revision of the vehicles
        self._made_at = 0.0
        self._predictions: FleetPredictions | None = None

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

    def similar(
        self, model: LoadedModel, vehicle: Mapping[str, float], *, but: int | None = None
    ) -> list[SimilarVehicle]:
        """Return the vehicles nearest in all raw columns, each by its spread in the fleet, but for one id."""
        fleet = self.predictions(model)
        if not fleet.vehicle_id.size:
            return []
        here = np.array([vehicle[name] for name in COLUMNS])
        spread = fleet.raw.std(axis=0)
        away = (((fleet.raw - here) / np.where(spread > 0, spread, 1.0)) ** 2).sum(axis=1)
        away[fleet.vehicle_id == but] = np.inf
        nearest = np.argsort(away, kind="stable")[:NUM_SIMILAR]
        return [
            SimilarVehicle(
                vehicle_id=int(fleet.vehicle_id[i]),
                raw=dict(zip(COLUMNS, fleet.raw[i].tolist(), strict=True)),
                outcome=float(fleet.outcome[i]),
            )
            for i in nearest
            if np.isfinite(away[i])
        ]

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
            moment = time.monotonic()
            cached = self._predictions if self._made_from[0] == model.version else None
            if cached and moment - self._made_at < self._refresh_interval_s:
                return cached
            made_from = (model.version, self._source.revision())
            if cached and self._made_from == made_from:
                return cached
            self._predictions = _forecast(self._source, model)
            self._made_from, self._made_at = made_from, moment
            return self._predictions


def _forecast(source: SourceStore, model: LoadedModel) -> FleetPredictions:
    watch = source.watch()
    rows = fleet_rows(source, watch, model, sample(source))
    made = [
        (
            row.vehicle.vehicle_id,
            row.forecast.predicted_reservations,
            row.forecast.low,
            row.forecast.high,
            row.outcome,
            *(getattr(row.vehicle, name) for name in COLUMNS),
        )
        for row in rows
        if row.forecast is not None and row.outcome is not None
    ]
    table = np.array(made, dtype=float).reshape(-1, 5 + len(COLUMNS))
    vehicle_id, forecast, low, high, outcome = table[:, :5].T
    order = np.argsort(forecast, kind="stable")
    left_out = source.list_vehicles(kind="fleet", where=UNDER_WATCH, sort="watch_start", page_size=1)
    starts = [vehicle.watch_start for vehicle in left_out.items if vehicle.watch_start]
    return FleetPredictions(
        vehicle_id=vehicle_id.astype(np.int64)[order],
        forecast=forecast[order],
        low=low[order],
        high=high[order],
        outcome=outcome[order],
        raw=table[order, 5:],
        num_left_out=left_out.total,
        next_matures=watch.over_on(starts[0]) if watch and starts else None,
    )


def sample(source: SourceStore) -> list[StoredVehicle]:
    """Return the vehicles whose watch is over while they are few, and evenly spread pages of many."""

    def read(page: int) -> VehiclePage:
        return source.list_vehicles(kind="fleet", where=OVER, page=page, page_size=SAMPLE_PAGE_SIZE)

    first = read(1)
    num_pages = max(1, -(-first.total // SAMPLE_PAGE_SIZE))
    spread = {round(k * (num_pages - 1) / (SAMPLE_PAGES - 1)) + 1 for k in range(SAMPLE_PAGES)}
    found = list(first.items)
    for page in sorted(spread - {1}):
        found += read(page).items
    return found
