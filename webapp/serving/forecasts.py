"""Forecasts as the API gives them: one place for the short way and for Flask's views."""

from collections.abc import Iterator, Sequence
from typing import Any

import numpy as np

from vroom_features.database.vehicles import StoredVehicle
from vroom_features.errors import OnlineStoreError, VehicleNotFoundError
from vroom_features.online.rows import VIEW_ID
from vroom_model.serving.predictor import Forecast
from webapp import metrics
from webapp.services import Services
from webapp.serving.model_slot import LoadedModel
from webapp.serving.schemas import BatchDocument, VehicleDocument

_HIT = metrics.ONLINE_READS.labels("hit")
_MISS = metrics.ONLINE_READS.labels("miss")
_STALE = metrics.ONLINE_READS.labels("stale")
_AWAY = metrics.ONLINE_READS.labels("away")


def document(forecast: Forecast, version: int) -> dict[str, Any]:
    """Return a forecast and the model that made it: a ``ForecastDocument``."""
    return {
        "predicted_reservations": forecast.predicted_reservations,
        "model_version": version,
        "interval": {"low": forecast.low, "high": forecast.high, "coverage": forecast.coverage},
    }


def predict_stored(app: Services, served: LoadedModel, vehicle_id: int) -> dict[str, Any]:
    """Forecast from the online store; from the database when the store has no such row or is away.

    Raises
    ------
    VehicleNotFoundError
        If there is no such vehicle.
    """
    row = None
    if app.heartbeat.is_redis_up:
        try:
            row = app.online.get(vehicle_id)
        except OnlineStoreError:
            app.heartbeat.mark_stale()
    if row is not None and row.view == VIEW_ID:
        _HIT.inc()
        forecast, source = served.predictor.predict_features(row.features), "online_store"
    else:
        vehicle = app.source.get_vehicle(vehicle_id)
        if vehicle is None:
            raise VehicleNotFoundError(vehicle_id)
        (_STALE if row is not None else _MISS if app.heartbeat.is_redis_up else _AWAY).inc()
        forecast, source = served.predictor.predict_one(vehicle.model_dump()), "database"
    return {"vehicle_id": vehicle_id, "source": source, **document(forecast, served.version)}


def predict_batch(served: LoadedModel, batch: BatchDocument) -> dict[str, Any]:
    """Forecast many vehicles with one call: a ``BatchForecastDocument``."""
    predictions = [document(made, served.version) for made in predict_vehicles(served, batch.root)]
    return {"predictions": predictions, "model_version": served.version}


def predict_vehicles(
    served: LoadedModel, vehicles: Sequence[VehicleDocument | StoredVehicle]
) -> Iterator[Forecast]:
    """Yield a forecast for each vehicle, made with one call: for the API, the lists and their files alike."""
    if not vehicles:
        return
    columns = {
        name: np.fromiter((getattr(vehicle, name) for vehicle in vehicles), np.float64, len(vehicles))
        for name in served.predictor.view.sources
    }
    made = served.predictor.predict_many(columns)
    rows = (made.predicted_reservations.tolist(), made.low.tolist(), made.high.tolist())
    for value, low, high in zip(*rows, strict=True):
        yield Forecast(value, low, high, made.coverage)
