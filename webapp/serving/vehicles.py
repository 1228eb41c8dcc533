"""Vehicles: as JSON, forecast, saved and deleted; for the fast path, the API and the pages."""

import json
import logging
from collections.abc import Callable, Container, Iterator, Mapping, Sequence
from typing import Annotated, Any, Literal

import numpy as np
import numpy.typing as npt
from pydantic import BaseModel, ConfigDict, Field, RootModel, create_model

from vroom_features.database.history import change_vehicle, erase_vehicle, withdraw_vehicle
from vroom_features.database.queries import BIGGEST_ID, SavedVehicle, StoredVehicle
from vroom_features.errors import NotDeletableError
from vroom_features.messages import Message, VehicleDeleted, VehicleSaved
from vroom_features.online.rows import VIEW_ID, online_row
from vroom_features.vehicle import EXAMPLE, VehicleCreate
from vroom_model.serving.predictor import Forecast
from webapp.observability import ONLINE_READS, SAVES
from webapp.services import Services, now
from webapp.serving.current_model import WATCH_OF_MODEL, LoadedModel, WatchDocument

logger = logging.getLogger(__name__)
BATCH_MAX = 1_000

_FIELDS: dict[str, Any] = {
    name: (field.annotation, field) for name, field in VehicleCreate.model_fields.items()
}
VehicleDocument = create_model(
    "VehicleDocument",
    __config__=ConfigDict(strict=True, extra="forbid", json_schema_extra={"example": dict(EXAMPLE)}),
    __doc__="A vehicle as JSON: the fields and ranges of ``VehicleCreate``, and no conversions.",
    **_FIELDS,
)
"""Five times as fast to validate as ``VehicleCreate``, whose base class is made for the database."""

_HIT = ONLINE_READS.labels("hit")
_MISS = ONLINE_READS.labels("miss")
_STALE = ONLINE_READS.labels("stale")
_AWAY = ONLINE_READS.labels("away")


class VehicleKey(BaseModel):
    """A vehicle's key, as JSON."""

    model_config = ConfigDict(extra="forbid", json_schema_extra={"example": {"vehicle_id": 1}})
    vehicle_id: int = Field(gt=0, le=BIGGEST_ID)


class BatchDocument(RootModel[Annotated[list[VehicleDocument], Field(min_length=1, max_length=BATCH_MAX)]]):
    """Up to 1,000 vehicles."""


class Interval(BaseModel):
    """Where the true count lies with the stated probability."""

    low: float
    high: float
    coverage: float = Field(description="probability that the count lies in the interval")
    segment: str = Field(description="the price segment of the vehicle")
    segment_coverage: float | None = Field(
        description="share of counts inside their intervals in this segment, for vehicles that the boosters "
        "had not seen; null if it had too few vehicles in training"
    )


class ForecastDocument(BaseModel):
    """A forecast and the model that made it."""

    predicted_reservations: float = Field(description="reservations in as many days as a watch of the model")
    model_version: int
    interval: Interval
    watch: WatchDocument | None = Field(description=WATCH_OF_MODEL)
    per_year: float | None = Field(description="the same forecast for 365 days")
    per_month: float | None = Field(description="the same forecast for a twelfth of that")
    outside: list[str] | None = Field(
        description="fields in which the vehicle lies outside what the model has learned from; null for a "
        "model of an earlier release"
    )


class StoredForecastDocument(ForecastDocument):
    """A forecast for a vehicle that is stored."""

    vehicle_id: int
    source: Literal["online_store", "database"] = Field(description="where its features came from")


def forecast_document(
    model: LoadedModel, vehicle: Mapping[str, float], forecast: Forecast | None = None
) -> dict[str, Any]:
    """Return the forecast of a vehicle and the model that made it, as a `ForecastDocument` for orjson."""
    forecast = forecast or model.predictor.predict_one(vehicle)
    segment, segment_coverage = model.predictor.segment(vehicle)
    reservations, watch = forecast.predicted_reservations, model.watch
    return {
        "predicted_reservations": reservations,
        "model_version": model.version,
        "interval": {
            "low": forecast.low,
            "high": forecast.high,
            "coverage": forecast.coverage,
            "segment": segment,
            "segment_coverage": segment_coverage,
        },
        "watch": model.watch_json,
        "per_year": watch and watch.per_year(reservations),
        "per_month": watch and watch.per_month(reservations),
        "outside": model.predictor.outside(vehicle),
    }


def predict_stored(app: Services, model: LoadedModel, vehicle_id: int) -> dict[str, Any]:
    """Forecast from the online store; from the database if the store has no such row or is not reachable."""
    row = app.heartbeat.try_redis(app.online.get, vehicle_id)
    if row is not None and row.view == VIEW_ID:
        _HIT.inc()
        known = row.features | row.attributes
        document = forecast_document(model, known, model.predictor.predict_features(known))
        return {"vehicle_id": vehicle_id, "source": "online_store", **document}
    vehicle = app.vehicle(vehicle_id)
    (_STALE if row is not None else _MISS if app.heartbeat.is_redis_up else _AWAY).inc()
    document = forecast_document(model, vehicle.model_dump())
    return {"vehicle_id": vehicle_id, "source": "database", **document}


def predict_vehicles(
    model: LoadedModel, vehicles: Sequence[VehicleDocument | StoredVehicle]
) -> Iterator[Forecast]:
    """Yield a forecast for each vehicle, all made with one call of the model."""
    if vehicles:
        yield from model.predictor.predict_many(columns_of(model, vehicles))


def columns_of(
    model: LoadedModel, vehicles: Sequence[VehicleDocument | StoredVehicle]
) -> dict[str, npt.NDArray[np.float64]]:
    """Return the raw columns that a model reads."""
    return {
        name: np.fromiter((getattr(vehicle, name) for vehicle in vehicles), np.float64, len(vehicles))
        for name in model.predictor.view.sources
    }


def save(
    app: Services,
    vehicle: VehicleCreate,
    *,
    idempotency_key: str | None = None,
    owner_hash: str | None = None,
) -> SavedVehicle:
    """Save a vehicle in the database, then in the online store, which is synced later if it misses the save.

    Errors are those of ``SourceStore.save_vehicle``.
    """
    moment = now()
    saved = app.source.save_vehicle(
        vehicle,
        saved_at=moment,
        idempotency_key=idempotency_key,
        owner_hash=owner_hash,
        saved_forecast=_forecast_to_keep(app, vehicle),
    )
    if saved.created:
        SAVES.inc()
        logger.info("vehicle saved vehicle_id=%s", saved.vehicle.vehicle_id)
        row = online_row(saved.vehicle, materialized_at=moment)
        _update_store(app, lambda: app.online.put([row]), VehicleSaved(vehicle_id=row.vehicle_id))
    return saved


def change(
    app: Services,
    vehicle_id: int,
    vehicle: VehicleCreate,
    *,
    name: str | None = None,
    versions: Container[str] | None = None,
) -> StoredVehicle:
    """Change a vehicle that was typed in, in the database and the online store.

    Arguments and errors are those of `vroom_features.database.history.change_vehicle`.
    """
    moment = now()
    changed = change_vehicle(
        app.source,
        vehicle_id,
        vehicle,
        changed_at=moment,
        name=name,
        versions=versions,
        saved_forecast=_forecast_to_keep(app, vehicle),
    )
    logger.info("vehicle changed vehicle_id=%s", vehicle_id)
    rows = [online_row(changed, materialized_at=moment)] if changed.is_new_arrival else []
    _update_store(app, lambda: app.online.put(rows), VehicleSaved(vehicle_id=vehicle_id))
    return changed


def withdraw(app: Services, vehicle_id: int) -> None:
    """Take a vehicle off; errors are those of `vroom_features.database.history.withdraw_vehicle`."""
    row_version = withdraw_vehicle(app.source, vehicle_id, withdrawn_at=now()).row_version
    logger.info("vehicle withdrawn vehicle_id=%s", vehicle_id)
    _remove(app, vehicle_id, row_version)


def delete(app: Services, vehicle_id: int, *, erase_booked: bool = False) -> None:
    """Delete a vehicle that was typed in; errors are those of ``SourceStore.delete_vehicle``.

    With ``erase_booked`` a booked one is no error: its row stays, as models learn from it, withdrawn and
    without its name and owner.
    """
    try:
        row_version = app.source.delete_vehicle(vehicle_id)
    except NotDeletableError as exc:
        if exc.is_csv or not erase_booked:
            raise
        row_version = erase_vehicle(app.source, vehicle_id, erased_at=now())
    logger.info("vehicle deleted vehicle_id=%s", vehicle_id)
    _remove(app, vehicle_id, row_version)


def _forecast_to_keep(app: Services, vehicle: VehicleCreate) -> str | None:
    """Return what the history of a vehicle keeps of today's forecast; None without a model."""
    model = app.slot.current
    if model is None:
        return None
    made = model.predictor.predict_one(vehicle.model_dump())
    figures = {"predicted_reservations": made.predicted_reservations, "low": made.low, "high": made.high}
    days = model.watch.days if model.watch else None
    return json.dumps({"model_version": model.version, "days": days, **figures})


def _remove(app: Services, vehicle_id: int, row_version: int) -> None:
    _update_store(
        app,
        lambda: app.online.delete([vehicle_id], row_version=row_version),
        VehicleDeleted(vehicle_id=vehicle_id),
    )


def _update_store(app: Services, update: Callable[[], object], message: Message) -> None:
    if app.heartbeat.try_redis(update) is None:
        app.heartbeat.mark_stale()
    else:
        app.heartbeat.publish(message)
