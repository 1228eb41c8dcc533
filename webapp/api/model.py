"""GET /model: the model that serves."""

from flask import Response
from flask_openapi3 import Tag
from pydantic import BaseModel, Field

from webapp.api.openapi import ValidatedBlueprint, unless_known
from webapp.problems import Problem
from webapp.services import services
from webapp.serving.current_model import WATCH_OF_MODEL, LoadedModel, WatchDocument, no_model

model_api = ValidatedBlueprint("model_api", __name__, abp_tags=[Tag(name="state")])


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
    num_vehicles: int = Field(description="vehicles of the snapshot that it learned from")
    num_left_out: int = Field(description="vehicles under watch, which it did not learn from")
    watch: WatchDocument | None = Field(description=WATCH_OF_MODEL)
    manifest_sha256: str


@model_api.get("/model", responses={200: ModelDocument, 304: None, 503: Problem})
def model() -> Response:
    """Describe the model that serves; If-None-Match answers 304 until another does."""
    loaded = services().slot.current
    if loaded is None:
        raise no_model()
    # Without ``since``, in which workers differ: a client asks now one, now another.
    return unless_known(lambda: _document(loaded), f"{loaded.version}-{loaded.ref.manifest_sha256}")


def _document(model: LoadedModel) -> ModelDocument:
    manifest = model.predictor.manifest
    return ModelDocument(
        version=model.version,
        run_id=model.ref.run_id,
        trained_at=manifest.trained_at.isoformat(),
        since=model.since.isoformat(),
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
        watch=WatchDocument.of(model.watch),
        manifest_sha256=model.ref.manifest_sha256,
    )
