"""Vehicles of the fleet with their bookings, and the forecasts that stand beside these."""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from vroom_features.database.queries import StoredVehicle
from vroom_features.database.vehicles import SourceStore
from vroom_features.watch import Watch, watch_scale
from vroom_model.serving.predictor import Forecast
from webapp.serving.current_model import LoadedModel
from webapp.serving.vehicles import columns_of


@dataclass(frozen=True, slots=True)
class FleetRow:
    """A vehicle with its bookings, and its forecast by boosters that did not learn from it."""

    vehicle: StoredVehicle
    forecast: Forecast | None
    """For a watch of the model; None without one."""
    num_in_watch: int | None = None
    """Bookings so far; this and the next two are None while there is no watch."""
    days_watched: int | None = None
    watch_days: int | None = None
    scale: float = 1.0
    """What turns reservations per watch of the model into those per watch of the fleet."""

    @property
    def training_label(self) -> int | None:
        """Its bookings in its watch; None before that is over."""
        return self.num_in_watch if self.vehicle.is_watch_over else None

    @property
    def outcome(self) -> float | None:
        """The label in the unit of the forecast."""
        return None if self.training_label is None else self.training_label / self.scale

    @property
    def forecast_so_far(self) -> float | None:
        """The share of the forecast that falls into the days watched."""
        if self.forecast is None or self.days_watched is None or self.watch_days is None:
            return None
        return self.forecast.predicted_reservations * self.scale * self.days_watched / self.watch_days


def fleet_rows(
    source: SourceStore, watch: Watch | None, model: LoadedModel | None, vehicles: Sequence[StoredVehicle]
) -> list[FleetRow]:
    """Return a row for each of these vehicles; ``watch`` is the one of ``source``."""
    forecasts = _predict_unseen(model, vehicles) if model and vehicles else [None] * len(vehicles)
    if watch is None:
        return [FleetRow(*each) for each in zip(vehicles, forecasts, strict=True)]
    counted = source.count_in_watch(watch, [vehicle.vehicle_id for vehicle in vehicles])
    return [
        FleetRow(
            vehicle=vehicle,
            forecast=forecast,
            num_in_watch=counted.get(vehicle.vehicle_id, 0),
            days_watched=vehicle.days_of(watch),
            watch_days=watch.days,
            scale=watch_scale(model.watch if model else None, watch),
        )
        for vehicle, forecast in zip(vehicles, forecasts, strict=True)
    ]


def _predict_unseen(model: LoadedModel, vehicles: Sequence[StoredVehicle]) -> list[Forecast]:
    columns = columns_of(model, vehicles)
    ids = np.array([vehicle.vehicle_id for vehicle in vehicles], dtype=np.int64)
    known = np.array([may_have_learned_from(model.watch, vehicle) for vehicle in vehicles])
    return list(model.predictor.predict_unseen(columns, ids, known))


def may_have_learned_from(watch: Watch | None, vehicle: StoredVehicle) -> bool:
    """Return whether a model of this watch was, or may have been, trained on a vehicle.

    A vehicle whose watch began anew since, by a change or by leaving the CSV files and coming back, may
    have been.  Models of earlier releases had no watch, and learned from csv vehicles alone.
    """
    if vehicle.source == "csv" or vehicle.saved_at is None:
        return True
    return watch is not None and bool(watch.is_over(vehicle.saved_at))
