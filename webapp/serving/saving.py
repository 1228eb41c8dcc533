"""Saving a vehicle: what the form and the JSON API both call."""

import logging
from datetime import datetime

from redis.exceptions import RedisError

from vroom_features.database.vehicles import SavedVehicle
from vroom_features.errors import OnlineStoreError
from vroom_features.messages import VehicleDeleted, VehicleSaved
from vroom_features.online.rows import online_row
from vroom_features.vehicle import VehicleCreate
from webapp import metrics
from webapp.services import Services

logger = logging.getLogger(__name__)


def save(
    services: Services, vehicle: VehicleCreate, *, saved_at: datetime, idempotency_key: str | None = None
) -> SavedVehicle:
    """Save a vehicle for good, then make its features known.

    The database decides; the online store follows, at once or, when Redis is away, as soon as it is back.

    Raises
    ------
    IdempotencyConflictError
        If the key came before with another vehicle.
    SourceStoreError
        If the vehicle is not saved.
    """
    saved = services.source.save_vehicle(vehicle, saved_at=saved_at, idempotency_key=idempotency_key)
    if not saved.created:
        return saved
    metrics.SAVES.inc()
    logger.info("vehicle saved vehicle_id=%s", saved.vehicle.vehicle_id)
    if not services.heartbeat.is_redis_up:
        services.heartbeat.mark_stale()
        return saved
    try:
        services.online.put([online_row(saved.vehicle, materialized_at=saved_at)])
        message = VehicleSaved(vehicle_id=saved.vehicle.vehicle_id)
        services.redis.publish(message.channel, message.encode())
    except (OnlineStoreError, RedisError) as exc:
        logger.warning("online store missed a save vehicle_id=%s: %s", saved.vehicle.vehicle_id, exc)
        services.heartbeat.mark_stale()
    return saved


def delete(services: Services, vehicle_id: int) -> None:
    """Delete a vehicle that was typed in, and its features.

    Raises
    ------
    VehicleNotFoundError
        If there is none.
    NotDeletableError
        If it belongs to the CSV fleet.
    """
    row_version = services.source.delete_vehicle(vehicle_id)
    logger.info("vehicle deleted vehicle_id=%s", vehicle_id)
    if not services.heartbeat.is_redis_up:
        services.heartbeat.mark_stale()
        return
    try:
        services.online.delete([vehicle_id], row_version=row_version)
        message = VehicleDeleted(vehicle_id=vehicle_id)
        services.redis.publish(message.channel, message.encode())
    except (OnlineStoreError, RedisError) as exc:
        logger.warning("online store missed a deletion vehicle_id=%s: %s", vehicle_id, exc)
        services.heartbeat.mark_stale()
