"""The JSON API: forecasts, the model, the state of the app."""

from collections import Counter
from collections.abc import Mapping
from typing import Literal

import orjson
from flask import Response, request
from flask_openapi3 import Tag
from flask_openapi3.types import ResponseDict
from pydantic import BaseModel, ConfigDict, Field
from redis.exceptions import RedisError

from webapp.api.openapi import OPERATOR
from webapp.api.validation import ValidatedBlueprint
from webapp.problems import Problem
from webapp.security.headers import events_url
from webapp.security.sign_in import operator_required
from webapp.services import Services, services
from webapp.serving.current_model import no_model, reload_everywhere, require_model
from webapp.serving.forecasts import document, predict_batch, predict_stored
from webapp.serving.schemas import (
    BatchDocument,
    BatchForecastDocument,
    ForecastDocument,
    StoredForecastDocument,
    VehicleDocument,
    VehicleKey,
)
from webapp.serving.worker_heartbeat import WorkerState

PROBLEMS: ResponseDict = dict.fromkeys((400, 415, 422), Problem)
api = ValidatedBlueprint("api", __name__, abp_tags=[Tag(name="forecasts")])


class HealthQuery(BaseModel):
    """How much to tell."""

    model_config = ConfigDict(extra="forbid")
    all: bool = Field(default=False, description="every worker's model as well, as Redis knows them")


class HealthDocument(BaseModel):
    """How this worker is."""

    status: Literal["ok", "loading", "no_model", "degraded"]
    reasons: list[str] = Field(description="why the status is not ok")
    model_name: str
    model_version: int | None
    since: str | None = Field(description="when this model began to serve here")
    mlflow_uri: str
    online_store: Literal["up", "down"]
    listener: Literal["subscribed", "polling"]
    worker: str
    workers: list[WorkerState] | None = None
    versions: dict[str, int] | None = Field(default=None, description="how many workers serve which version")


class ModelDocument(BaseModel):
    """The model that serves."""

    version: int
    run_id: str
    trained_at: str
    since: str
    metrics: dict[str, float]
    params: dict[str, float | int | bool]
    feature_importances: dict[str, float] = Field(
        description="how much the out-of-fold error rises when the feature is shuffled"
    )
    feature_view: str
    features: list[str]
    coverage: float
    price_ratio: list[float] = Field(
        min_length=2,
        max_length=2,
        description="owner's over market price, lowest and highest seen in training",
    )
    snapshot_id: str
    snapshot_digest: str
    num_vehicles: int = Field(
        description="vehicles of the snapshot that it learned from: those of the CSV files"
    )
    num_left_out: int = Field(description="booked vehicles from the web form that it did not learn from")
    manifest_sha256: str


class ReloadDocument(BaseModel):
    """What a reload found."""

    model_version: int | None
    problem: str | None


def json(content: Mapping[str, object]) -> Response:
    """Return a JSON answer."""
    return Response(orjson.dumps(content), content_type="application/json")


@api.post("/predict", responses={200: ForecastDocument, 429: Problem, 503: Problem, **PROBLEMS})
def predict(body: VehicleDocument) -> Response:
    """Forecast a vehicle."""
    served = require_model()
    return json(document(served.predictor.predict_one(body.model_dump()), served.version))


@api.post(
    "/predict/id",
    responses={200: StoredForecastDocument, 404: Problem, 429: Problem, 503: Problem, **PROBLEMS},
)
def predict_id(body: VehicleKey) -> Response:
    """Forecast a stored vehicle."""
    return json(predict_stored(services(), require_model(), body.vehicle_id))


@api.post("/predict/batch", responses={200: BatchForecastDocument, 429: Problem, 503: Problem, **PROBLEMS})
def predict_many(body: BatchDocument) -> Response:
    """Forecast up to 1,000 vehicles, all by one model."""
    return json(predict_batch(require_model(len(body.root)), body))


@api.get("/health", tags=[Tag(name="state")], responses={200: HealthDocument, 422: Problem})
def health(query: HealthQuery) -> BaseModel:
    """Tell how this worker is, and with ``all`` every worker."""
    app = services()
    served, slot = app.slot.current, app.slot
    workers = _workers(app) if query.all else None
    reasons = [slot.problem] if slot.problem else []
    if not app.heartbeat.is_redis_up:
        reasons.append("the online store is away: answers come from the database")
    if served is None:
        status: Literal["ok", "loading", "no_model", "degraded"]
        status = "loading" if not slot.settled.is_set() else "no_model"
    else:
        status = "degraded" if reasons else "ok"
    return HealthDocument(
        status=status,
        reasons=reasons,
        model_name=app.settings.model_name,
        model_version=served.version if served else None,
        since=served.since.isoformat() if served else None,
        mlflow_uri=str(app.settings.mlflow),
        online_store="up" if app.heartbeat.is_redis_up else "down",
        listener="subscribed" if app.listener.is_subscribed else "polling",
        worker=app.worker,
        workers=workers,
        versions=dict(Counter(str(worker.model_version) for worker in workers)) if workers else None,
    )


def _workers(app: Services) -> list[WorkerState] | None:
    try:
        return list(app.heartbeat.workers())
    except RedisError:
        return None


@api.get("/model", tags=[Tag(name="state")], responses={200: ModelDocument, 304: None, 503: Problem})
def model() -> Response:
    """Describe the model that serves; If-None-Match answers 304 until another does."""
    served = services().slot.current
    if served is None:
        raise no_model()
    manifest = served.predictor.manifest
    document = ModelDocument(
        version=served.version,
        run_id=served.ref.run_id,
        trained_at=manifest.trained_at.isoformat(),
        since=served.since.isoformat(),
        metrics=manifest.metrics,
        params=manifest.params,
        feature_importances={item.feature: item.mae_increase for item in manifest.feature_importances},
        feature_view=f"{manifest.view.name}:{manifest.view.version}",
        features=list(manifest.view.columns),
        coverage=manifest.coverage,
        price_ratio=list(manifest.price_ratio),
        snapshot_id=manifest.snapshot.id,
        snapshot_digest=manifest.snapshot.digest,
        num_vehicles=manifest.snapshot.num_rows,
        num_left_out=manifest.snapshot.num_left_out,
        manifest_sha256=served.ref.manifest_sha256,
    )
    response = Response(document.model_dump_json(), content_type="application/json")
    # weak: workers differ in ``since``, and a client asks now one, now another
    response.set_etag(f"{served.version}-{served.ref.manifest_sha256}", weak=True)
    response.make_conditional(request)
    return response


@api.get("/events", tags=[Tag(name="state")], responses={307: None})
def events() -> Response:
    """Go to the server of event streams: model-swapped, vehicle-saved, vehicle-materialized, run-finished."""
    return Response(status=307, headers={"Location": events_url(services().settings)})


@api.post(
    "/reload",
    tags=[Tag(name="operations")],
    security=OPERATOR,
    responses={200: ReloadDocument, 401: Problem, 403: Problem},
)
@operator_required
def reload() -> BaseModel:
    """Read the registry now instead of at the next poll, in this worker and, by message, in all."""
    served = reload_everywhere()
    problem = services().slot.problem
    return ReloadDocument(model_version=served.version if served else None, problem=problem)
