"""What the source database gives back: small frozen rows."""

from dataclasses import dataclass
from datetime import datetime
from typing import Literal

from pydantic import ConfigDict
from sqlmodel import Field

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
