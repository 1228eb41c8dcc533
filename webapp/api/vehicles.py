"""GET, POST, PUT and DELETE /vehicles: stored vehicles and their features."""

from datetime import datetime
from typing import Any, Literal

from flask import Response, request
from flask_openapi3 import Tag
from flask_openapi3.types import ResponseDict
from pydantic import BaseModel, ConfigDict, Field, create_model

from vroom_features.database.queries import SORTS, StoredVehicle
from vroom_features.online.rows import VIEW_ID, OnlineRow, online_row
from vroom_features.vehicle import VehicleBase, VehicleCreate, VehicleName
from vroom_features.watch import Watch
from webapp.api.openapi import (
    OPERATOR,
    ValidatedBlueprint,
    operator_required,
    owner_required,
    saver_required,
    unless_known,
)
from webapp.problems import Problem, ProblemError
from webapp.security.owners import may_change
from webapp.services import now, services
from webapp.serving import vehicles
from webapp.serving.current_model import WatchDocument
from webapp.serving.vehicles import VehicleDocument, VehicleKey

vehicles_api = ValidatedBlueprint("vehicles_api", __name__, abp_tags=[Tag(name="vehicles")])
REFUSALS: ResponseDict = dict.fromkeys((400, 401, 404, 409, 415, 422), Problem)


class PageQuery(BaseModel):
    """Which page."""

    model_config = ConfigDict(extra="forbid")
    page: int = Field(default=1, ge=1, le=1_000_000)
    page_size: int = Field(default=50, ge=1, le=1_000)


class VehicleQuery(PageQuery):
    """Which vehicles, in which order."""

    kind: Literal["fleet", "new"] | None = Field(default=None, description="fleet vehicles or new arrivals")
    search: str = Field(default="", max_length=100, description="the first digits of a vehicle id")
    sort: str = Field(default="vehicle_id", pattern=f"^({'|'.join(SORTS)})$")
    descending: bool = False


class SaveHeader(BaseModel):
    """How a save can be repeated safely."""

    idempotency_key: str | None = Field(
        default=None, min_length=1, max_length=200, pattern=r"^[\x21-\x7e]+$", alias="Idempotency-Key"
    )


class ChangeHeader(BaseModel):
    """Which version is changed."""

    if_match: str | None = Field(
        default=None,
        alias="If-Match",
        description="the ETag of the vehicle, or *",
        json_schema_extra={"example": "*"},
    )


_NAME: Any = Field(default=None, description="null or missing: as it is; empty: none")
ChangeDocument = create_model(
    "ChangeDocument",
    __base__=VehicleDocument,
    __doc__="What a vehicle is from now on.",
    name=(VehicleName | None, _NAME),
)


class OwnVehicleDocument(VehicleBase):
    """A vehicle as its owner has it; bookings do not change it, nor its ETag."""

    vehicle_id: int
    source: Literal["csv", "ui"]
    name: str | None = Field(description="null for everybody but its owner and the operator")
    saved_at: datetime | None
    watch_start: datetime | None
    withdrawn_at: datetime | None


class StoredVehicleDocument(StoredVehicle):
    """A vehicle as it is stored."""

    status: Literal["fleet", "new_arrival", "withdrawn"] = Field(
        description="a fleet vehicle whose watch is not over is under watch; of the withdrawn ones, those of "
        "the fleet are called so"
    )
    days_watched: int | None = Field(
        description="of the days of a watch; null while no booking of a csv vehicle is known"
    )


class VehiclePageDocument(BaseModel):
    """One page of vehicles."""

    watch: WatchDocument | None = Field(
        description="the watch of the fleet; null while no booking of a csv vehicle is known"
    )
    vehicles: list[StoredVehicleDocument]
    total: int
    page: int
    page_size: int


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


def _vehicle_document(vehicle: StoredVehicle, watch: Watch | None) -> StoredVehicleDocument:
    # As it is: an earlier release took more photos and higher prices than a field takes today.
    return StoredVehicleDocument.model_construct(
        status="fleet" if vehicle.is_fleet else "new_arrival" if vehicle.is_new_arrival else "withdrawn",
        days_watched=vehicle.days_of(watch),
        **vehicle.model_dump(),
    )


def _features_document(row: OnlineRow, source: Literal["online_store", "database"]) -> FeaturesDocument:
    document = FeaturesDocument(**row._asdict(), source=source)
    return document if source == "online_store" else document.model_copy(update={"materialized_at": None})


@vehicles_api.get("/vehicles", responses={200: VehiclePageDocument, 304: None, 422: Problem})
def list_vehicles(query: VehicleQuery) -> Response:
    """List vehicles, a page at a time; If-None-Match answers 304 while no vehicle or booking changed."""
    source = services().source

    def document() -> BaseModel:
        found, watch = source.list_vehicles(**query.model_dump()), source.watch()
        return VehiclePageDocument(
            watch=WatchDocument.of(watch),
            vehicles=[_vehicle_document(vehicle, watch) for vehicle in found.items],
            total=found.total,
            page=query.page,
            page_size=query.page_size,
        )

    return unless_known(document, source.revision())


@vehicles_api.post("/vehicles", security=[{}, *OPERATOR], responses={201: StoredVehicleDocument, **REFUSALS})
@saver_required
def save_vehicle(header: SaveHeader, body: VehicleDocument) -> Response:
    """Save a vehicle; the same Idempotency-Key saves it once and answers alike: 404 once it is deleted."""
    vehicle = VehicleCreate.model_validate(body.model_dump())
    saved = vehicles.save(services(), vehicle, idempotency_key=header.idempotency_key)
    headers = {"Location": f"{request.script_root}/vehicles/{saved.vehicle.vehicle_id}/features"}
    if not saved.created:
        headers["Idempotency-Replayed"] = "true"
    return Response(
        _vehicle_document(saved.vehicle, services().source.watch()).model_dump_json(),
        status=201,
        content_type="application/json",
        headers=headers,
    )


@vehicles_api.delete(
    "/vehicles/<int:vehicle_id>",
    security=OPERATOR,
    responses={204: None, **dict.fromkeys((401, 403, 404, 409, 422), Problem)},
)
@operator_required
def delete_vehicle(path: VehicleKey) -> Response:
    """Delete a vehicle that was typed in."""
    vehicles.delete(services(), path.vehicle_id)
    return Response(status=204)


@vehicles_api.get(
    "/vehicles/<int:vehicle_id>",
    security=[{}, *OPERATOR],
    responses={200: OwnVehicleDocument, 304: None, **dict.fromkeys((401, 404), Problem)},
)
def get_vehicle(path: VehicleKey) -> Response:
    """Return a vehicle as its owner has it, with the ETag that a change needs."""
    vehicle = services().vehicle(path.vehicle_id)
    response = _own(vehicle, is_named=may_change(vehicle))
    response.make_conditional(request)
    return response


@vehicles_api.put(
    "/vehicles/<int:vehicle_id>",
    security=OPERATOR,
    responses={200: OwnVehicleDocument, **REFUSALS, **dict.fromkeys((403, 412, 428), Problem)},
)
@owner_required
def change_vehicle(path: VehicleKey, header: ChangeHeader, body: ChangeDocument) -> Response:
    """Change a vehicle that was typed in, if it is still as If-Match says; a new watch may begin."""
    if header.if_match is None:
        raise ProblemError(
            428, "Which version?", "send the vehicle's ETag as If-Match, so that no other change is lost"
        )
    sent = body.model_dump()
    name = sent.pop("name")
    vehicle = VehicleCreate.model_validate(sent)
    changed = vehicles.change(services(), path.vehicle_id, vehicle, name=name, versions=request.if_match)
    return _own(changed, is_named=True)


def _own(vehicle: StoredVehicle, *, is_named: bool) -> Response:
    """Return the vehicle; its version is of its name too, which nobody else shall guess by it."""
    known = {name: getattr(vehicle, name) for name in OwnVehicleDocument.model_fields}
    document = OwnVehicleDocument.model_construct(**known | {"name": vehicle.name if is_named else None})
    response = Response(document.model_dump_json(), content_type="application/json")
    response.vary.update(("Authorization", "Cookie"))
    response.cache_control.private = response.cache_control.no_cache = True
    if is_named:
        response.set_etag(vehicle.version)
    else:
        response.add_etag()
    return response


@vehicles_api.get("/vehicles/features", responses={200: FeaturesPageDocument, 304: None, 422: Problem})
def list_features(query: PageQuery) -> Response:
    """List the features of the new arrivals, made from the database: materialized_at is null in each."""
    source = services().source

    def document() -> BaseModel:
        found = source.list_vehicles(kind="new", page=query.page, page_size=query.page_size)
        moment = now()
        features = [
            _features_document(online_row(vehicle, materialized_at=moment), "database")
            for vehicle in found.items
        ]
        return FeaturesPageDocument(
            features=features, total=found.total, page=query.page, page_size=query.page_size
        )

    return unless_known(document, f"{source.revision()}-{VIEW_ID}")


@vehicles_api.get(
    "/vehicles/<int:vehicle_id>/features", responses={200: FeaturesDocument, 304: None, 404: Problem}
)
def vehicle_features(path: VehicleKey) -> Response:
    """Return a vehicle's features, from the online store when it holds them."""
    app = services()
    row = app.heartbeat.try_redis(app.online.get, path.vehicle_id)
    source: Literal["online_store", "database"] = "online_store"
    if row is None:
        row, source = online_row(app.vehicle(path.vehicle_id), materialized_at=now()), "database"
    response = Response(_features_document(row, source).model_dump_json(), content_type="application/json")
    response.add_etag()
    response.make_conditional(request)
    return response
