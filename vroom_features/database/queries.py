"""Queries over vehicles, and the small frozen rows that they return."""

import json
from dataclasses import dataclass
from datetime import datetime, timedelta
from hashlib import sha256
from typing import Any, Literal

from pydantic import ConfigDict
from sqlalchemy import (
    BigInteger,
    ColumnElement,
    Connection,
    Row,
    Select,
    String,
    and_,
    case,
    cast,
    exists,
    extract,
    false,
    func,
    not_,
    or_,
    select,
    true,
    update,
)
from sqlmodel import Field

from vroom_features.database.tables import MICROSECOND, TABLES
from vroom_features.errors import VehicleNotFoundError
from vroom_features.features import is_observed
from vroom_features.vehicle import COLUMNS, VehicleBase
from vroom_features.watch import RecentBookings, Watch

BIGGEST_ID = 2**63 - 1
DAY = timedelta(days=1)
Kind = Literal["fleet", "new"]
"""The fleet, which has those under watch too, or new arrivals."""


class StoredVehicle(VehicleBase):
    """A vehicle as the database holds it."""

    model_config = ConfigDict(frozen=True)  # type: ignore[assignment]  # SQLModel narrows the type

    vehicle_id: int
    source: Literal["csv", "ui"]
    row_version: int
    saved_at: datetime | None
    watch_start: datetime | None = Field(
        default=None,
        description="since when its bookings are counted; null for csv while no booking is known",
    )
    withdrawn_at: datetime | None = Field(
        default=None, description="when its owner took it off; it keeps its watch"
    )
    owner_hash: str | None = Field(default=None, exclude=True)
    name: str | None = Field(default=None, exclude=True)
    """For its owner and the operator alone, as the hash is for nobody: no copy or document has them."""
    saved_forecast: str | None = Field(default=None, exclude=True)
    num_reservations: int | None = Field(
        description="its bookings; null for a vehicle of the form without one"
    )
    is_watch_over: bool = Field(
        default=False,
        description="whether it was watched for as long as a watch is, so that a model can learn from it",
    )

    @property
    def version(self) -> str:
        """Differs after any change that an owner can make; bookings do not change it."""
        kept = [getattr(self, name) for name in (*COLUMNS, "name", "watch_start", "withdrawn_at")]
        return sha256(json.dumps(kept, default=str).encode()).hexdigest()[:32]

    @property
    def is_fleet(self) -> bool:
        return self.num_reservations is not None or self.is_watch_over

    @property
    def is_under_watch(self) -> bool:
        """Whether it is of the fleet, and its bookings are no outcome yet."""
        return self.is_fleet and not self.is_watch_over

    @property
    def is_new_arrival(self) -> bool:
        return not self.is_fleet and self.withdrawn_at is None

    def days_of(self, watch: Watch | None) -> int | None:
        """Return for how many days of a watch it was watched; None while no booking of a csv one is known."""
        return watch.days_watched(self.watch_start) if watch and self.watch_start else None


@dataclass(frozen=True, slots=True)
class SavedVehicle:
    """The row of a save; ``created`` is False for a repeated idempotency key."""

    vehicle: StoredVehicle
    created: bool


@dataclass(frozen=True, slots=True)
class VehicleFilter:
    """Which vehicles a list shows; None shows all."""

    technology: int | None = None
    street_parked: int | None = None
    is_overpriced: bool | None = None
    is_watch_over: bool | None = None
    owner_hash: str | None = None
    in_names: bool = False
    """Whether a search finds a part of a name, too: for the owner and the operator alone."""


@dataclass(frozen=True, slots=True)
class VehiclePage:
    """One page of a list, and how many rows the whole list has."""

    items: tuple[StoredVehicle, ...]
    total: int


@dataclass(frozen=True, slots=True)
class VehicleCounts:
    """How many rows the database holds."""

    fleet: int
    new_arrivals: int
    reservations: int


@dataclass(frozen=True, slots=True)
class LastChange:
    """A database, the number of its last change, and its watch.

    That is None while no booking of a csv vehicle is known.
    """

    database_id: str
    number: int
    watch: Watch | None


@dataclass(frozen=True, slots=True)
class Changes:
    """What happened to vehicles of the web form after a change number.

    ``deleted`` has the ids of those deleted; ``change_number`` is the database's last one; ``complete`` is
    False when there were more vehicles than the limit.
    """

    vehicles: tuple[StoredVehicle, ...]
    deleted: tuple[int, ...]
    change_number: int
    complete: bool


vehicles, reservations, history = TABLES["vehicles"], TABLES["reservations"], TABLES["vehicle_history"]
state, deletions, keys = TABLES["database_state"], TABLES["deletions"], TABLES["idempotency_keys"]
_is_counted = or_(
    vehicles.c.source == "csv",
    vehicles.c.watch_start == vehicles.c.saved_at,
    reservations.c.created_at >= vehicles.c.watch_start,  # those before a change began a new watch are not
)
_is_its = and_(reservations.c.vehicle_id == vehicles.c.vehicle_id, _is_counted)
num_reservations = func.nullif(select(func.count()).where(_is_its).scalar_subquery(), 0)
is_watch_over = func.coalesce(
    vehicles.c.watch_start < select(state.c.over_before).scalar_subquery(), false()
).label("is_watch_over")
is_fleet = or_(vehicles.c.source == "csv", exists().where(_is_its), is_watch_over)
"""`StoredVehicle.is_fleet` in SQL."""
is_new_arrival = and_(not_(is_fleet), vehicles.c.withdrawn_at.is_(None))
SORTS: dict[str, ColumnElement[Any]] = {
    **{c.name: c for c in vehicles.c if c.name not in {"owner_hash", "name", "saved_forecast"}},
    "price_diff": vehicles.c.actual_price - vehicles.c.recommended_price,
    "num_reservations": func.coalesce(num_reservations, 0),
}
"""What ``list_vehicles`` can sort by."""


def select_vehicles() -> Select[Any]:
    """Select vehicles with their bookings counted, as `stored` takes them."""
    return select(vehicles, num_reservations.label("counted"), is_watch_over)


def count_vehicles() -> Select[Any]:
    return select(func.count()).select_from(vehicles)


def order(sort: str, *, descending: bool, backwards: bool = False) -> tuple[ColumnElement[Any], ...]:
    """Return what to sort by, ids last; ``backwards`` starts the same list at its end."""
    key = SORTS[sort]
    return (
        key.asc() if descending == backwards else key.desc(),
        vehicles.c.vehicle_id.desc() if backwards else vehicles.c.vehicle_id.asc(),
    )


def stored(row: Row[Any]) -> StoredVehicle:
    """Turn a row of `select_vehicles` into a vehicle."""
    values = dict(row._mapping)
    counted = values.pop("counted") or 0
    is_known = is_observed(values["source"] == "csv", counted)
    values["is_watch_over"] = bool(values["is_watch_over"])
    return StoredVehicle.model_construct(**values, num_reservations=counted if is_known else None)


def get_one(connection: Connection, vehicle_id: int) -> StoredVehicle | None:
    if abs(vehicle_id) > BIGGEST_ID:
        return None
    row = connection.execute(select_vehicles().where(vehicles.c.vehicle_id == vehicle_id)).first()
    return None if row is None else stored(row)


def get_existing(connection: Connection, vehicle_id: int) -> StoredVehicle:
    """Return a vehicle; VehicleNotFoundError if there is none with this id."""
    found = get_one(connection, vehicle_id)
    if found is None:
        raise VehicleNotFoundError(vehicle_id)
    return found


def get_last_change(connection: Connection) -> LastChange:
    found = connection.execute(select(state)).one()
    watch = Watch.known(found.watch_days, found.complete_through)
    return LastChange(found.database_id, found.change_number, watch)


def count_recent(connection: Connection, watch: Watch) -> RecentBookings:
    """Count the bookings of the last 30 days and of the 30 before, of vehicles watched in all of them."""
    first, middle, end = watch.recent
    at = reservations.c.created_at
    is_last = at >= middle
    query = select(func.count().filter(is_last), func.count().filter(not_(is_last)))
    query = query.select_from(reservations.join(vehicles)).where(at >= first, at < end)
    is_there = or_(vehicles.c.withdrawn_at.is_(None), vehicles.c.withdrawn_at >= end)
    last, before = connection.execute(query.where(vehicles.c.watch_start < first, is_there)).one()
    return RecentBookings(last, before)


def is_in_watch(connection: Connection, watch: Watch) -> ColumnElement[bool]:
    """Return whether a booking was made in the watch of its vehicle, and through D.

    :mod:`vroom_features.offline.partition` counts the same for training.
    """
    at = reservations.c.created_at
    since = microseconds(connection, at) - microseconds(connection, vehicles.c.watch_start)
    # The watch of a csv vehicle ends at D, and starts a day before its first day.
    is_in_last = and_(at >= watch.end - watch.length, since >= DAY // MICROSECOND)
    is_in_first = since.between(0, watch.length // MICROSECOND - 1)
    return and_(at < watch.end, case((vehicles.c.source == "csv", is_in_last), else_=is_in_first))


def get_recent(connection: Connection) -> RecentBookings | None:
    """Return what the last seed counted; None while D is not known, or after an upgrade."""
    found = connection.execute(select(state.c.num_booked_last, state.c.num_booked_before)).one()
    return None if found.num_booked_last is None else RecentBookings(*found)


def next_change(connection: Connection) -> int:
    """Increase the database's change number and return it."""
    number = update(state).values(change_number=state.c.change_number + 1)
    return int(connection.execute(number.returning(state.c.change_number)).scalar_one())


def matches(kind: Kind | None, search: str, where: VehicleFilter | None) -> ColumnElement[bool]:
    """Return the condition of a list; ``search`` is the beginning of an id."""
    conditions: list[ColumnElement[bool]] = [true()]
    if kind is not None:
        conditions.append(is_fleet if kind == "fleet" else is_new_arrival)
    if text := search.strip():
        is_found = cast(vehicles.c.vehicle_id, String).startswith(text, autoescape=True)
        in_name = vehicles.c.name.icontains(text, autoescape=True)
        conditions.append(or_(is_found, in_name) if where and where.in_names else is_found)
    if where is not None:
        asked: list[tuple[ColumnElement[Any], int | str | None]] = [
            (vehicles.c.owner_hash, where.owner_hash),
            (vehicles.c.technology, where.technology),
            (vehicles.c.street_parked, where.street_parked),
            (vehicles.c.actual_price > vehicles.c.recommended_price, where.is_overpriced),
            (is_watch_over, where.is_watch_over),
        ]
        conditions += [column == wanted for column, wanted in asked if wanted is not None]
    return and_(*conditions)


def microseconds(connection: Connection, moment: ColumnElement[Any]) -> ColumnElement[int]:
    """Return a moment of the database as microseconds since 1970, which is how SQLite holds it."""
    if connection.dialect.name == "sqlite":
        return cast(moment, BigInteger)
    return cast(extract("epoch", moment) * 1_000_000, BigInteger)
