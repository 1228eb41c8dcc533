"""GET /health and /metrics: the state of this worker, or of all; GET /events: where event streams are."""

from collections import Counter
from typing import Literal

from flask import Response
from flask_openapi3 import Tag
from flask_openapi3.types import ResponseDict
from prometheus_client import CONTENT_TYPE_LATEST
from pydantic import BaseModel, ConfigDict, Field

from webapp.api.openapi import ValidatedBlueprint
from webapp.observability import read_metrics
from webapp.problems import Problem
from webapp.security.headers import events_url
from webapp.services import services
from webapp.serving.worker_heartbeat import WorkerState

health_api = ValidatedBlueprint("health_api", __name__, abp_tags=[Tag(name="state")])
EXPOSITION: ResponseDict = {
    200: {"description": "text exposition", "content": {"text/plain": {"schema": {"type": "string"}}}}
}


class HealthQuery(BaseModel):
    """Of this worker, or of all."""

    model_config = ConfigDict(extra="forbid")
    all: bool = Field(default=False, description="every worker's model as well, as Redis knows them")


class HealthDocument(BaseModel):
    """The state of this worker."""

    status: Literal["ok", "loading", "no_model", "degraded"]
    reasons: list[str] = Field(description="why the status is not ok")
    model_name: str
    model_version: int | None
    since: str | None = Field(description="when this model began to serve here")
    mlflow_uri: str
    online_store: Literal["up", "down"]
    listener: Literal["subscribed", "polling"]
    alerts: list[str] = Field(description="what an operator should look into; it does not change the status")
    worker: str
    workers: list[WorkerState] | None = None
    versions: dict[str, int] | None = Field(default=None, description="how many workers serve which version")


@health_api.get("/health", responses={200: HealthDocument, 422: Problem})
def health(query: HealthQuery) -> HealthDocument:
    """Report the state of this worker, and with ``all`` of every worker."""
    app = services()
    model, slot = app.slot.current, app.slot
    workers = app.heartbeat.workers() if query.all else None
    reasons = [slot.problem] if slot.problem else []
    if not app.heartbeat.is_redis_up:
        reasons.append(
            f"the online store is not in use, answers come from the database: {app.heartbeat.problem}"
        )
    elif app.listener.problem:
        reasons.append(f"no messages are received, the registry is read in intervals: {app.listener.problem}")
    reasons += app.heartbeat.refused.values()
    status: Literal["ok", "loading", "no_model", "degraded"]
    if model is None:
        status = "no_model" if slot.settled.is_set() else "loading"
    else:
        status = "degraded" if reasons else "ok"
    return HealthDocument(
        status=status,
        reasons=reasons,
        model_name=app.settings.model_name,
        model_version=model.version if model else None,
        since=model.since.isoformat() if model else None,
        mlflow_uri=str(app.settings.mlflow),
        online_store="up" if app.heartbeat.is_redis_up else "down",
        listener="subscribed" if app.listener.is_subscribed else "polling",
        alerts=[alert.text for alert in app.alerts.current],
        worker=app.worker,
        workers=workers,
        versions=dict(Counter(str(worker.model_version) for worker in workers)) if workers else None,
    )


@health_api.get("/events", responses={307: None})
def events() -> Response:
    """Redirect to the event streams: model-swapped, vehicle-saved, vehicle-materialized, run-finished."""
    return Response(status=307, headers={"Location": events_url(services().settings)})


@health_api.get("/metrics", operation_id="metrics", responses=EXPOSITION)
def metrics() -> Response:
    """Return every metric of every worker, for Prometheus."""
    return Response(read_metrics(), content_type=CONTENT_TYPE_LATEST)
