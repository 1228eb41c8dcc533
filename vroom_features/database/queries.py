"""Queries over vehicles, and the small frozen rows that they return."""

from dataclasses import dataclass
from datetime import datetime
from typing import Any, Literal

from pydantic import ConfigDict
from sqlalchemy import (
    ColumnElement,
    Connection,
    Row,
    Select,
    and_,
    exists,
    false,
    func,
    not_,
    or_,
    select,
    true,
    update,
)
from sqlmodel import Field

from vroom_features.database.engine import TABLES
from vroom_features.features import has_outcome
from vroom_features.vehicle import VehicleBase

Kind = Literal["fleet", "new"]
"""Vehicles that were watched, or new arrivals."""


class StoredVehicle(VehicleBase):
    """A vehicle as the database holds it; ``num_reservations`` is None for a new arrival."""

    model_config = ConfigDict(frozen=True)  # type: ignore[assignment]  # SQLModel narrows the type

    vehicle_id: int
    source: Literal["csv", "ui"]
    row_version: int
    saved_at: datetime | None
    num_reservations: int | None = Field(description="null: not watched yet")

    @property
    def is_new_arrival(self) -> bool:
        """True when nobody has watched it long enough to know its bookings."""
        return self.num_reservations is None


@dataclass(frozen=True, slots=True)
class SavedVehicle:
    """What a save did: the row, and whether this call made it (False for a repeated key)."""

    vehicle: StoredVehicle
    created: bool


@dataclass(frozen=True, slots=True)
class VehicleFilter:
    """Which vehicles of a list are wanted; None wants all.

    Parameters
    ----------
    technology, street_parked : int, optional
        Only this value.
    is_overpriced : bool, optional
        Only those priced above the market, or only the others.
    """

    technology: int | None = None
    street_parked: int | None = None
    is_overpriced: bool | None = None


@dataclass(frozen=True, slots=True)
class VehiclePage:
    """One page of a list, and how many rows the whole list has."""

    items: tuple[StoredVehicle, ...]
    total: int


@dataclass(frozen=True, slots=True)
class VehicleCounts:
    """How much the database holds."""

    fleet: int
    new_arrivals: int
    reservations: int


@dataclass(frozen=True, slots=True)
class LastChange:
    """A database and the number of its last change."""

    database_id: str
    number: int


@dataclass(frozen=True, slots=True)
class Changes:
    """What happened to typed-in vehicles after a change number.

    ``deleted`` gives each deleted vehicle's row version; ``change_number`` is the database's last one;
    ``complete`` is False when there were more vehicles than asked for.
    """

    vehicles: tuple[StoredVehicle, ...]
    deleted: dict[int, int]
    change_number: int
    complete: bool


vehicles, reservations, state, deletions, keys, *_ = TABLES
BIGGEST_ID = 2**63 - 1

_count_bookings = (
    select(func.count())
    .select_from(reservations)
    .where(reservations.c.vehicle_id == vehicles.c.vehicle_id)
    .scalar_subquery()
)
is_fleet = or_(
    vehicles.c.source == "csv",
    exists().where(reservations.c.vehicle_id == vehicles.c.vehicle_id),
)
num_reservations = func.nullif(_count_bookings, 0)
SORTS: dict[str, ColumnElement[Any]] = {
    **{c.name: c for c in vehicles.c},
    "price_diff": vehicles.c.actual_price - vehicles.c.recommended_price,
    "num_reservations": func.coalesce(num_reservations, 0),
}


def select_vehicles() -> Select[Any]:
    """Select vehicles with their bookings counted."""
    return select(vehicles, num_reservations.label("counted"))


def order(sort: str, descending: bool, *, reverse: bool = False) -> tuple[ColumnElement[Any], ...]:
    """Return what to sort by, ids last; reversed it gives the same list from its end."""
    key = SORTS[sort]
    return (
        key.asc() if descending == reverse else key.desc(),
        vehicles.c.vehicle_id.desc() if reverse else vehicles.c.vehicle_id.asc(),
    )


def count_vehicles() -> Select[Any]:
    """Count vehicles."""
    return select(func.count()).select_from(vehicles)


def stored(row: Row[Any]) -> StoredVehicle:
    """Turn a selected row into what callers get; no booking means 0 only where somebody watched."""
    values = dict(row._mapping)
    counted = values.pop("counted") or 0
    watched = has_outcome(values["source"] == "csv", counted)
    return StoredVehicle.model_construct(**values, num_reservations=counted if watched else None)


def get_one(connection: Connection, vehicle_id: int) -> StoredVehicle | None:
    """Read one vehicle."""
    if abs(vehicle_id) > BIGGEST_ID:
        return None
    row = connection.execute(select_vehicles().where(vehicles.c.vehicle_id == vehicle_id)).first()
    return None if row is None else stored(row)


def next_change(connection: Connection) -> int:
    """Take the next change number."""
    number = update(state).values(change_number=state.c.change_number + 1)
    return int(connection.execute(number.returning(state.c.change_number)).scalar_one())


def wanted(kind: Kind | None, search: str, where: VehicleFilter | None) -> ColumnElement[bool]:
    """Match what a list asks for."""
    return and_(
        is_fleet if kind == "fleet" else not_(is_fleet) if kind == "new" else true(),
        id_starts_with(search.strip()) if search.strip() else true(),
        passes(where) if where else true(),
    )


def passes(where: VehicleFilter) -> ColumnElement[bool]:
    """Match what a filter wants."""
    columns = vehicles.c
    wanted: list[ColumnElement[bool]] = [true()]
    if where.technology is not None:
        wanted.append(columns.technology == where.technology)
    if where.street_parked is not None:
        wanted.append(columns.street_parked == where.street_parked)
    if where.is_overpriced is not None:
        above = columns.actual_price > columns.recommended_price
        wanted.append(above if where.is_overpriced else not_(above))
    return and_(*wanted)


def id_starts_with(digits: str) -> ColumnElement[bool]:
    """Match ids that begin so, as ranges of the key rather than text."""
    if not (digits.isascii() and digits.isdigit()) or digits.startswith("0"):
        return false()
    first = int(digits)
    spans = [(first * 10**n, (first + 1) * 10**n - 1) for n in range(19 - len(digits) + 1)]
    return or_(
        false(),
        *(
            vehicles.c.vehicle_id.between(low, min(high, BIGGEST_ID))
            for low, high in spans
            if low <= BIGGEST_ID
        ),
    )
