"""Rows of the online store and their encoding."""

import math
from datetime import datetime
from typing import Literal, NamedTuple

import orjson

from vroom_features.database.queries import StoredVehicle
from vroom_features.errors import OnlineStoreError
from vroom_features.view import VEHICLE_VIEW

VIEW_ID = f"{VEHICLE_VIEW.name}:{VEHICLE_VIEW.version}"
Freshness = Literal["fresh", "stale", "missing"]


class OnlineRow(NamedTuple):
    """One vehicle's features, and the version of its database row that they were computed from."""

    vehicle_id: int
    row_version: int
    view: str
    materialized_at: datetime
    features: dict[str, float]
    attributes: dict[str, float]


def online_row(vehicle: StoredVehicle, *, materialized_at: datetime) -> OnlineRow:
    """Compute the online row of a vehicle."""
    features = VEHICLE_VIEW.compute(vars(vehicle))
    return OnlineRow(
        vehicle_id=vehicle.vehicle_id,
        row_version=vehicle.row_version,
        view=VIEW_ID,
        materialized_at=materialized_at,
        features={name: float(value) for name, value in features.items()},
        attributes={name: getattr(vehicle, name) for name in VEHICLE_VIEW.attributes},
    )


def freshness(row: OnlineRow | None, vehicle: StoredVehicle) -> Freshness:
    """Return whether a row was computed from the vehicle as it is now, by this program's view."""
    if row is None:
        return "missing"
    return "fresh" if (row.row_version, row.view) == (vehicle.row_version, VIEW_ID) else "stale"


def encode(row: OnlineRow) -> bytes:
    """Return a row as its version and JSON."""
    body = {
        "view": row.view,
        "materialized_at": row.materialized_at,
        "features": row.features,
        **row.attributes,
    }
    return b"%d %b" % (row.row_version, orjson.dumps(body))


def decode(vehicle_id: int, value: bytes) -> OnlineRow:
    """Return the row of a value; OnlineStoreError if it cannot be read."""
    version, _, body = value.partition(b" ")
    try:
        fields = orjson.loads(body)
        features = fields["features"]
        is_ours = fields["view"] == VIEW_ID
        row = OnlineRow(
            vehicle_id=vehicle_id,
            row_version=int(version),
            view=fields["view"],
            materialized_at=datetime.fromisoformat(fields["materialized_at"]),
            features={
                name: float(features[name]) for name in (VEHICLE_VIEW.columns if is_ours else features)
            },
            attributes={
                name: float(fields[name]) for name in VEHICLE_VIEW.attributes if is_ours or name in fields
            },
        )
    except (ValueError, TypeError, KeyError) as exc:
        raise OnlineStoreError(f"Redis: the row of vehicle {vehicle_id} cannot be read: {exc!r}") from exc
    if not all(map(math.isfinite, row.features.values())):
        raise OnlineStoreError(f"Redis: the row of vehicle {vehicle_id} holds a number that is not finite")
    return row
