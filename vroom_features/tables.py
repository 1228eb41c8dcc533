"""The one schema: the database's tables, and the model that validates what people send.

``Vehicle`` is a table and so validates nothing; everything from outside goes through ``VehicleCreate`` first.
"""

from datetime import datetime
from typing import Any, Literal

from pydantic import ConfigDict, FiniteFloat, field_validator
from sqlalchemy import CheckConstraint, Identity
from sqlmodel import Field, SQLModel

PRICE_MAX = 10_000_000.0
NUM_IMAGES_MAX = 1_000
DESCRIPTION_MAX = 100_000
UI_VEHICLE_ID_START = 1_000_000_001
"""Ids of vehicles typed in begin here, far above those of CSV files: a growing CSV meets none of them."""

Source = Literal["csv", "ui"]


class VehicleBase(SQLModel):
    """What describes a vehicle, with the range of every field."""

    technology: int = Field(ge=0, le=1, description="1 if it can be booked instantly and unlocked by phone")
    actual_price: FiniteFloat = Field(
        gt=0, le=PRICE_MAX, description="the owner's price, listing currency per day"
    )
    recommended_price: FiniteFloat = Field(
        gt=0, le=PRICE_MAX, description="the market's price, same unit"
    )
    num_images: int = Field(ge=0, le=NUM_IMAGES_MAX, description="photos in the listing")
    street_parked: int = Field(ge=0, le=1, description="1 if it stands on the street")
    description: int = Field(ge=0, le=DESCRIPTION_MAX, description="characters in the owner's description")


class VehicleCreate(VehicleBase):
    """A vehicle as somebody sends it: unknown fields and booleans in the place of numbers are refused."""

    model_config = ConfigDict(extra="forbid")  # type: ignore[assignment]  # SQLModel narrows the type

    @field_validator("*", mode="before")
    @classmethod
    def _refuse_booleans(cls, value: Any) -> Any:  # anything can stand in a JSON document
        if isinstance(value, bool):
            raise ValueError("expected a number, got true or false; write 1 or 0")
        return value


class Vehicle(VehicleBase, table=True):
    """A vehicle of the fleet (``source='csv'``) or one typed in (``source='ui'``)."""

    __tablename__ = "vehicles"
    __table_args__ = (
        CheckConstraint("source IN ('csv', 'ui')", name="source_is_known"),
        {"sqlite_autoincrement": True},
    )

    vehicle_id: int | None = Field(
        default=None, primary_key=True, sa_column_args=[Identity(start=UI_VEHICLE_ID_START)]
    )
    source: str = Field(max_length=3)
    row_version: int = Field(default=1, description="rises with each change of the row or its bookings")
    saved_at: datetime | None = Field(default=None, description="when it was typed in (UTC); NULL for csv")


class Reservation(SQLModel, table=True):
    """A booking of a vehicle."""

    __tablename__ = "reservations"

    id: int | None = Field(default=None, primary_key=True)
    vehicle_id: int = Field(foreign_key="vehicles.vehicle_id", index=True)
    created_at: datetime = Field(description="when the booking was made (UTC)")
