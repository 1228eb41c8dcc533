"""What goes in and out of the JSON API: the source of its validation and of its documentation."""

from datetime import datetime
from typing import Annotated, Any, Literal

from pydantic import BaseModel, ConfigDict, Field, RootModel, create_model

from vroom_features.database.queries import StoredVehicle
from vroom_features.database.vehicles import SORTS
from vroom_features.vehicle import EXAMPLE, VehicleCreate

BATCH_MAX = 1_000
ID_MAX = 2**63 - 1

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


class Interval(BaseModel):
    """Where the true count lies with the stated probability."""

    low: float
    high: float
    coverage: float = Field(description="probability that the count lies in the interval")


class ForecastDocument(BaseModel):
    """A forecast and the model that made it."""

    predicted_reservations: float
    model_version: int
    interval: Interval


class StoredForecastDocument(ForecastDocument):
    """A forecast for a vehicle that is stored."""

    vehicle_id: int
    source: Literal["online_store", "database"] = Field(description="where its features came from")


class VehicleKey(BaseModel):
    """A vehicle's key, as JSON."""

    model_config = ConfigDict(extra="forbid")
    vehicle_id: int = Field(gt=0, le=ID_MAX)


class VehiclePath(BaseModel):
    """A vehicle's key, in a path."""

    vehicle_id: int = Field(gt=0, le=ID_MAX)


class BatchDocument(RootModel[Annotated[list[VehicleDocument], Field(min_length=1, max_length=BATCH_MAX)]]):
    """Up to 1,000 vehicles."""


class BatchForecastDocument(BaseModel):
    """Forecasts in the order of the vehicles, all by one model."""

    predictions: list[ForecastDocument]
    model_version: int


class VehicleQuery(BaseModel):
    """Which vehicles, in which order."""

    model_config = ConfigDict(extra="forbid")
    kind: Literal["fleet", "new"] | None = Field(default=None, description="fleet vehicles or new arrivals")
    search: str = Field(default="", max_length=100, description="part of a vehicle id")
    sort: str = Field(default="vehicle_id", pattern=f"^({'|'.join(SORTS)})$")
    descending: bool = False
    page: int = Field(default=1, ge=1, le=1_000_000)
    page_size: int = Field(default=50, ge=1, le=1_000)


class StoredVehicleDocument(StoredVehicle):
    """A vehicle as it is stored."""

    status: Literal["fleet", "new_arrival"]


class VehiclePageDocument(BaseModel):
    """One page of vehicles."""

    vehicles: list[StoredVehicleDocument]
    total: int
    page: int
    page_size: int


class SaveHeader(BaseModel):
    """How a save can be repeated safely."""

    idempotency_key: str | None = Field(
        default=None, min_length=1, max_length=200, pattern=r"^[\x21-\x7e]+$", alias="Idempotency-Key"
    )


class FeaturesDocument(BaseModel):
    """A vehicle's features."""

    vehicle_id: int
    features: dict[str, float]
    attributes: dict[str, float]
    source: Literal["online_store", "database"]
    row_version: int
    view: str = Field(description="name and version of the feature view")
    materialized_at: datetime | None = None


class FeaturesPageDocument(BaseModel):
    """Features of the new arrivals, one page of them."""

    features: list[FeaturesDocument]
    total: int
    page: int
    page_size: int
