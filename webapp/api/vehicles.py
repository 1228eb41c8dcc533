"""The JSON API's vehicles: stored ones, their features, and the stores."""

from collections.abc import Callable
from typing import Literal

from flask import Response, request
from flask_openapi3 import Tag
from pydantic import BaseModel, ConfigDict, Field

from vroom_features.database.vehicles import StoredVehicle
from vroom_features.errors import OnlineStoreError, VehicleNotFoundError
from vroom_features.online.rows import VIEW_ID, OnlineRow, online_row
from vroom_features.vehicle import VehicleCreate
from vroom_features.view import VEHICLE_VIEW
from webapp.api.openapi import OPERATOR
from webapp.api.validation import ValidatedBlueprint
from webapp.problems import Problem
from webapp.rendering.formats import feature_unit
from webapp.security.sign_in import operator_required, saver_required
from webapp.services import now, services
from webapp.serving import saving
from webapp.serving.schemas import (
    FeaturesDocument,
    FeaturesPageDocument,
    SaveHeader,
    StoredVehicleDocument,
    VehicleDocument,
    VehiclePageDocument,
    VehiclePath,
    VehicleQuery,
)
from webapp.serving.store_state import offline_state

vehicles_api = ValidatedBlueprint("vehicles_api", __name__, abp_tags=[Tag(name="vehicles")])


class PageQuery(BaseModel):
    """Which page."""

    model_config = ConfigDict(extra="forbid")
    page: int = Field(default=1, ge=1, le=1_000_000)
    page_size: int = Field(default=50, ge=1, le=1_000)


class StoreDocument(BaseModel):
    """One store."""

    status: Literal["up", "down"]
    location: str
    num_rows: int | None


class FeatureDocument(BaseModel):
    """One model input."""

    name: str
    unit: str
    sources: list[str]


class ViewDocument(BaseModel):
    """The feature view."""

    name: str
    version: int
    label: str
    features: list[FeatureDocument]


class StoresDocument(BaseModel):
    """Both stores and the view they hold."""

    offline_store: StoreDocument
    online_store: StoreDocument
    feature_view: ViewDocument


def vehicle_document(vehicle: StoredVehicle) -> StoredVehicleDocument:
    """Return a stored vehicle as the API shows it."""
    return StoredVehicleDocument(
        status="new_arrival" if vehicle.is_new_arrival else "fleet", **vehicle.model_dump()
    )


def unless_known(document: Callable[[], BaseModel], revision: str) -> Response:
    """Make a document, unless the client holds the one of this revision."""
    response = Response(content_type="application/json")
    response.set_etag(revision, weak=True)
    response.make_conditional(request)
    if response.status_code == 200:
        response.set_data(document().model_dump_json())
    return response


@vehicles_api.get("/vehicles", responses={200: VehiclePageDocument, 304: None, 422: Problem})
def list_vehicles(query: VehicleQuery) -> Response:
    """List vehicles, a page at a time; If-None-Match answers 304 while no vehicle or booking changed."""
    source = services().source

    def found() -> BaseModel:
        page = source.list_vehicles(**query.model_dump())
        return VehiclePageDocument(
            vehicles=[vehicle_document(vehicle) for vehicle in page.items],
            total=page.total,
            page=query.page,
            page_size=query.page_size,
        )

    return unless_known(found, source.revision())


@vehicles_api.post(
    "/vehicles",
    security=[{}, *OPERATOR],
    responses={
        201: StoredVehicleDocument,
        400: Problem,
        401: Problem,
        404: Problem,
        409: Problem,
        415: Problem,
        422: Problem,
    },
)
@saver_required
def save_vehicle(header: SaveHeader, body: VehicleDocument) -> Response:
    """Save a vehicle; the same Idempotency-Key saves it once and answers alike: 404 once it is deleted."""
    vehicle = VehicleCreate.model_validate(body.model_dump())
    saved = saving.save(services(), vehicle, saved_at=now(), idempotency_key=header.idempotency_key)
    headers = {"Location": f"/vehicles/{saved.vehicle.vehicle_id}/features"}
    if not saved.created:
        headers["Idempotency-Replayed"] = "true"
    return Response(
        vehicle_document(saved.vehicle).model_dump_json(),
        status=201,
        content_type="application/json",
        headers=headers,
    )


@vehicles_api.delete(
    "/vehicles/<int:vehicle_id>",
    security=OPERATOR,
    responses={204: None, 401: Problem, 403: Problem, 404: Problem, 409: Problem, 422: Problem},
)
@operator_required
def delete_vehicle(path: VehiclePath) -> Response:
    """Delete a vehicle that was typed in."""
    saving.delete(services(), path.vehicle_id)
    return Response(status=204)


@vehicles_api.get("/vehicles/features", responses={200: FeaturesPageDocument, 304: None, 422: Problem})
def list_features(query: PageQuery) -> Response:
    """List the features of the new arrivals, made from the database: materialized_at is null in each."""
    source = services().source

    def found() -> BaseModel:
        page = source.list_vehicles(kind="new", page=query.page, page_size=query.page_size)
        moment = now()
        return FeaturesPageDocument(
            features=[
                features_document(online_row(vehicle, materialized_at=moment), "database")
                for vehicle in page.items
            ],
            total=page.total,
            page=query.page,
            page_size=query.page_size,
        )

    return unless_known(found, f"{source.revision()}-{VIEW_ID}")


@vehicles_api.get(
    "/vehicles/<int:vehicle_id>/features", responses={200: FeaturesDocument, 304: None, 404: Problem}
)
def vehicle_features(path: VehiclePath) -> Response:
    """Return a vehicle's features, from the online store when it holds them."""
    app = services()
    row: OnlineRow | None = None
    if app.heartbeat.is_redis_up:
        try:
            row = app.online.get(path.vehicle_id)
        except OnlineStoreError:
            app.heartbeat.mark_stale()
    source: Literal["online_store", "database"] = "online_store"
    if row is None:
        vehicle = app.source.get_vehicle(path.vehicle_id)
        if vehicle is None:
            raise VehicleNotFoundError(path.vehicle_id)
        row, source = online_row(vehicle, materialized_at=now()), "database"
    response = Response(features_document(row, source).model_dump_json(), content_type="application/json")
    response.add_etag()
    response.make_conditional(request)
    return response


def features_document(row: OnlineRow, source: Literal["online_store", "database"]) -> FeaturesDocument:
    """Return an online row as the API shows it."""
    return FeaturesDocument(
        vehicle_id=row.vehicle_id,
        features=row.features,
        view=row.view,
        attributes=row.attributes,
        source=source,
        row_version=row.row_version,
        materialized_at=row.materialized_at if source == "online_store" else None,
    )


@vehicles_api.get("/stores", responses={200: StoresDocument})
def stores() -> BaseModel:
    """Describe both stores and the feature view."""
    app = services()
    num_online: int | None = None
    if app.heartbeat.is_redis_up:
        try:
            num_online = app.online.count_rows()
        except OnlineStoreError:
            app.heartbeat.mark_stale()
    snapshots = offline_state(app.settings.offline_store).snapshots
    num_offline = next((snapshot.num_rows for snapshot in snapshots if snapshot.is_current), None)
    return StoresDocument(
        offline_store=StoreDocument(
            status="down" if num_offline is None else "up",
            location=str(app.settings.offline_store),
            num_rows=num_offline,
        ),
        online_store=StoreDocument(
            status="down" if num_online is None else "up", location="redis", num_rows=num_online
        ),
        feature_view=ViewDocument(
            name=VEHICLE_VIEW.name,
            version=VEHICLE_VIEW.version,
            label=VEHICLE_VIEW.label,
            features=[
                FeatureDocument(
                    name=feature.name, unit=feature_unit(feature.name), sources=list(feature.sources)
                )
                for feature in VEHICLE_VIEW.features
            ],
        ),
    )
