"""GET /stores: both feature stores and the feature view."""

from typing import Literal

from flask_openapi3 import Tag
from pydantic import BaseModel, Field

from vroom_features.view import VEHICLE_VIEW
from webapp.api.openapi import ValidatedBlueprint
from webapp.services import services
from webapp.serving.current_model import WatchDocument
from webapp.serving.store_state import current_manifest, feature_unit

stores_api = ValidatedBlueprint("stores_api", __name__, abp_tags=[Tag(name="vehicles")])


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

    watch: WatchDocument | None = Field(description="null while no booking is known")

    offline_store: StoreDocument
    online_store: StoreDocument
    feature_view: ViewDocument


@stores_api.get("/stores", responses={200: StoresDocument})
def stores() -> StoresDocument:
    """Describe both stores and the feature view."""
    app = services()
    num_online = app.heartbeat.try_redis(app.online.count_rows)
    snapshot = current_manifest(app.settings.offline_store)
    features = [
        FeatureDocument(name=feature.name, unit=feature_unit(feature.name), sources=list(feature.sources))
        for feature in VEHICLE_VIEW.features
    ]
    return StoresDocument(
        watch=WatchDocument.of(app.source.watch()),
        offline_store=_store(str(app.settings.offline_store), snapshot.num_rows if snapshot else None),
        online_store=_store("redis", num_online),
        feature_view=ViewDocument(
            name=VEHICLE_VIEW.name,
            version=VEHICLE_VIEW.version,
            label=VEHICLE_VIEW.label,
            features=features,
        ),
    )


def _store(location: str, num_rows: int | None) -> StoreDocument:
    return StoreDocument(status="down" if num_rows is None else "up", location=location, num_rows=num_rows)
