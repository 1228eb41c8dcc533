"""Changes of a vehicle of the web form, and what it was before.

A change of a model input begins a new watch: what was booked before counts for neither the count nor the
label of the new one.  A withdrawn vehicle keeps its row and its watch: without it, only those that did well
would be learned from.
"""

import json
from datetime import datetime

from sqlalchemy import Connection, func, insert, select, update

from vroom_features.database import queries
from vroom_features.database.queries import StoredVehicle, history, vehicles
from vroom_features.database.vehicles import SourceStore
from vroom_features.errors import NotChangeableError
from vroom_features.vehicle import COLUMNS, VehicleCreate
from vroom_features.view import VEHICLE_VIEW


def change_vehicle(
    source: SourceStore, vehicle_id: int, vehicle: VehicleCreate, *, changed_at: datetime
) -> StoredVehicle:
    """Give a vehicle of the web form other values, and keep the old ones.

    Parameters
    ----------
    source : SourceStore
    vehicle_id : int
    vehicle : VehicleCreate
        Validated before; equal values change nothing.
    changed_at : datetime
        The moment, with its zone.

    Raises
    ------
    VehicleNotFoundError
        If there is none.
    NotChangeableError
        If it came from a CSV file, was withdrawn, or was changed at a later moment.
    """
    with source.writing() as connection:
        found = _get_changeable(connection, vehicle_id, changed_at)
        old, new = ({name: getattr(each, name) for name in COLUMNS} for each in (found, vehicle))
        if old == new:
            return found
        is_new_watch = VEHICLE_VIEW.compute(old) != VEHICLE_VIEW.compute(new)
        watch_start = found.watch_start or found.saved_at
        row = {
            "vehicle_id": vehicle_id,
            "held_from": _held_from(connection, found),
            "held_until": changed_at,
            "watch_start": watch_start,
            "attributes": json.dumps(old),
        }
        connection.execute(insert(history).values(row))
        values = {
            **new,
            "watch_start": changed_at if is_new_watch else watch_start,
            "row_version": queries.next_change(connection),
        }
        connection.execute(update(vehicles).where(vehicles.c.vehicle_id == vehicle_id).values(values))
        return queries.get_existing(connection, vehicle_id)


def withdraw_vehicle(source: SourceStore, vehicle_id: int, *, withdrawn_at: datetime) -> StoredVehicle:
    """Take a vehicle of the web form off; its row, watch and history stay.  Errors as `change_vehicle`."""
    with source.writing() as connection:
        _get_changeable(connection, vehicle_id, withdrawn_at)
        values = {"withdrawn_at": withdrawn_at, "row_version": queries.next_change(connection)}
        connection.execute(update(vehicles).where(vehicles.c.vehicle_id == vehicle_id).values(values))
        return queries.get_existing(connection, vehicle_id)


def _get_changeable(connection: Connection, vehicle_id: int, moment: datetime) -> StoredVehicle:
    found = queries.get_existing(connection, vehicle_id)
    if found.source != "ui":
        raise NotChangeableError(vehicle_id, "it came from a CSV file; change it there")
    if found.withdrawn_at is not None:
        raise NotChangeableError(vehicle_id, "it was withdrawn; save it again as a new one")
    if moment <= (last := _held_from(connection, found)):
        raise NotChangeableError(vehicle_id, f"its last change is of {last.isoformat()}; check the clock")
    return found


def _held_from(connection: Connection, vehicle: StoredVehicle) -> datetime:
    """Return since when the vehicle is as it is."""
    query = select(func.max(history.c.held_until)).where(history.c.vehicle_id == vehicle.vehicle_id)
    last: datetime | None = connection.execute(query).scalar()
    return last or vehicle.saved_at  # type: ignore[return-value]  # every ui vehicle has it
