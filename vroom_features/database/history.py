"""Changes of a vehicle of the web form, and what it was before.

A change of a model input begins a new watch: what was booked before counts for neither the count nor the
label of the new one.  A withdrawn vehicle keeps its row and its watch: without it, only those that did well
would be learned from.
"""

import json
from collections.abc import Container
from dataclasses import dataclass
from datetime import datetime
from typing import Any

from sqlalchemy import Connection, func, insert, select, update

from vroom_features.database import queries
from vroom_features.database.queries import StoredVehicle, history, vehicles
from vroom_features.database.vehicles import SourceStore
from vroom_features.errors import NotChangeableError, StaleVehicleError
from vroom_features.vehicle import COLUMNS, VehicleCreate
from vroom_features.view import VEHICLE_VIEW


@dataclass(frozen=True, slots=True)
class VehicleState:
    """What a vehicle is, or was until a change, and its forecast when it became so, if that is known."""

    attributes: dict[str, float]
    held_from: datetime
    held_until: datetime | None
    saved_forecast: dict[str, Any] | None


def change_vehicle(
    source: SourceStore,
    vehicle_id: int,
    vehicle: VehicleCreate,
    *,
    changed_at: datetime,
    name: str | None = None,
    versions: Container[str] | None = None,
    saved_forecast: str | None = None,
) -> StoredVehicle:
    """Give a vehicle of the web form other values, and keep the old ones.

    Parameters
    ----------
    source : SourceStore
    vehicle_id : int
    vehicle : VehicleCreate
        Equal values change nothing.
    changed_at : datetime
        With its zone.
    name : str, optional
        Another name; empty for none.  The old one is not kept.
    versions : container of str, optional
        The change is made only of one of these versions of the vehicle.
    saved_forecast : str, optional
        Its forecast after the change, as JSON.

    Raises
    ------
    VehicleNotFoundError
        If there is none.
    StaleVehicleError
        If it has another version.
    NotChangeableError
        If it came from a CSV file, was withdrawn, or was changed at a later moment.
    """
    with source.writing() as connection:
        found = _get_changeable(connection, vehicle_id, changed_at, versions)
        if name is not None:
            _set(connection, vehicle_id, name=name or None)
        old, new = ({name: getattr(each, name) for name in COLUMNS} for each in (found, vehicle))
        if old == new:
            return queries.get_existing(connection, vehicle_id)
        is_new_watch = VEHICLE_VIEW.compute(old) != VEHICLE_VIEW.compute(new)
        watch_start = found.watch_start or found.saved_at
        row = {
            "vehicle_id": vehicle_id,
            "held_from": _held_from(connection, found),
            "held_until": changed_at,
            "watch_start": watch_start,
            "attributes": json.dumps(old),
            "saved_forecast": found.saved_forecast,
        }
        connection.execute(insert(history).values(row))
        values = {
            **new,
            "watch_start": changed_at if is_new_watch else watch_start,
            "saved_forecast": saved_forecast,
            "row_version": queries.next_change(connection),
        }
        _set(connection, vehicle_id, **values)
        return queries.get_existing(connection, vehicle_id)


def withdraw_vehicle(source: SourceStore, vehicle_id: int, *, withdrawn_at: datetime) -> StoredVehicle:
    """Take a vehicle of the web form off; its row, watch and history stay.  Errors as `change_vehicle`."""
    with source.writing() as connection:
        _get_changeable(connection, vehicle_id, withdrawn_at)
        row_version = queries.next_change(connection)
        _set(connection, vehicle_id, withdrawn_at=withdrawn_at, row_version=row_version)
        return queries.get_existing(connection, vehicle_id)


def rename_vehicle(source: SourceStore, vehicle_id: int, name: str) -> None:
    """Give a vehicle of the web form another name, also a withdrawn one; empty for none."""
    with source.writing() as connection:
        _get_saved(connection, vehicle_id)
        _set(connection, vehicle_id, name=name or None)


def erase_vehicle(source: SourceStore, vehicle_id: int, *, erased_at: datetime) -> int:
    """Withdraw a vehicle whose bookings must stay, erase its owner and name, and return its row version."""
    with source.writing() as connection:
        found = _get_saved(connection, vehicle_id)
        row_version = queries.next_change(connection)
        moment = found.withdrawn_at or erased_at
        values = {"withdrawn_at": moment, "row_version": row_version, "owner_hash": None, "name": None}
        _set(connection, vehicle_id, **values)
        return row_version


def move_vehicles(source: SourceStore, owner_hash: str, new_owner_hash: str) -> int:
    """Give all vehicles of an owner to another one, and return how many."""
    with source.writing() as connection:
        theirs = update(vehicles).where(vehicles.c.owner_hash == owner_hash)
        return connection.execute(theirs.values(owner_hash=new_owner_hash)).rowcount


def list_states(source: SourceStore, vehicle_id: int) -> list[VehicleState]:
    """Return what a vehicle of the web form is and was, the latest first."""
    query = select(history).where(history.c.vehicle_id == vehicle_id).order_by(history.c.held_until.desc())
    with source.reading() as connection:
        found = _get_saved(connection, vehicle_id)
        now = {name: getattr(found, name) for name in COLUMNS}
        states = [VehicleState(now, _held_from(connection, found), None, _read(found.saved_forecast))]
        for row in connection.execute(query):
            attributes = now | json.loads(row.attributes)
            states.append(VehicleState(attributes, row.held_from, row.held_until, _read(row.saved_forecast)))
        return states


def _read(saved_forecast: str | None) -> dict[str, Any] | None:
    found: dict[str, Any] | None = json.loads(saved_forecast) if saved_forecast else None
    return found


def _set(connection: Connection, vehicle_id: int, **values: Any) -> None:
    connection.execute(update(vehicles).where(vehicles.c.vehicle_id == vehicle_id).values(values))


def _get_saved(connection: Connection, vehicle_id: int) -> StoredVehicle:
    found = queries.get_existing(connection, vehicle_id)
    if found.source != "ui":
        raise NotChangeableError(vehicle_id, "it came from a CSV file; change it there")
    return found


def _get_changeable(
    connection: Connection, vehicle_id: int, moment: datetime, versions: Container[str] | None = None
) -> StoredVehicle:
    found = _get_saved(connection, vehicle_id)
    if versions is not None and found.version not in versions:
        raise StaleVehicleError(vehicle_id)
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
