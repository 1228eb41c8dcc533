"""Saving and deleting a vehicle, for the form and the JSON API."""

import logging
from collections.abc import Callable

from vroom_features.database.queries import SavedVehicle
from vroom_features.messages import Message, VehicleDeleted, VehicleSaved
from vroom_features.online.rows import online_row
from vroom_features.vehicle import VehicleCreate
from webapp.observability import SAVES
from webapp.services import Services, now

logger = logging.getLogger(__name__)


def save(app: Services, vehicle: VehicleCreate, *, idempotency_key: str | None = None) -> SavedVehicle:
    """Save a vehicle in the database, then in the online store, which is synced later if it misses the save.

    Raises
    ------
    IdempotencyConflictError
        If the key came before with another vehicle.
    SourceStoreError
        If the vehicle is not saved.
    """
    moment = now()
    saved = app.source.save_vehicle(vehicle, saved_at=moment, idempotency_key=idempotency_key)
    if saved.created:
        SAVES.inc()
        logger.info("vehicle saved vehicle_id=%s", saved.vehicle.vehicle_id)
        row = online_row(saved.vehicle, materialized_at=moment)
        _update_store(app, lambda: app.online.put([row]), VehicleSaved(vehicle_id=row.vehicle_id))
    return saved


def delete(app: Services, vehicle_id: int) -> None:
    """Delete a vehicle that was typed in, and its features.

    Raises
    ------
    VehicleNotFoundError
        If there is none.
    NotDeletableError
        If it belongs to the CSV fleet.
    """
    row_version = app.source.delete_vehicle(vehicle_id)
    logger.info("vehicle deleted vehicle_id=%s", vehicle_id)
    _update_store(
        app,
        lambda: app.online.delete([vehicle_id], row_version=row_version),
        VehicleDeleted(vehicle_id=vehicle_id),
    )


def _update_store(app: Services, update: Callable[[], object], message: Message) -> None:
    def write() -> bool:
        update()
        app.redis.publish(message.channel, message.encode())
        return True

    if not app.heartbeat.try_redis(write):
        app.heartbeat.mark_stale()
