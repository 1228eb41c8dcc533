"""POST /predict, /predict/id and /predict/batch, and the views that benchmarks compare a forecast with."""

from typing import Any

import orjson
from flask import Blueprint, Response, request
from flask_openapi3 import Tag
from flask_openapi3.types import ResponseDict
from pydantic import BaseModel

from webapp.api.openapi import ValidatedBlueprint
from webapp.problems import Problem
from webapp.services import services
from webapp.serving.current_model import require_model
from webapp.serving.fastpath import ECHO
from webapp.serving.vehicles import (
    BatchDocument,
    ForecastDocument,
    StoredForecastDocument,
    VehicleDocument,
    VehicleKey,
    forecast_document,
    predict_stored,
    predict_vehicles,
)

PROBLEMS: ResponseDict = dict.fromkeys((400, 415, 422, 429, 503), Problem)
predict_api = ValidatedBlueprint("api", __name__, abp_tags=[Tag(name="forecasts")])
benchmark = Blueprint("benchmark", __name__, url_prefix="/benchmark")


class BatchForecastDocument(BaseModel):
    """Forecasts in the order of the vehicles, all by one model."""

    predictions: list[ForecastDocument]
    model_version: int


@predict_api.post("/predict", responses={200: ForecastDocument, **PROBLEMS})
def predict(body: VehicleDocument) -> dict[str, Any]:
    """Forecast a vehicle."""
    return forecast_document(require_model(), body.model_dump())


@predict_api.post("/predict/id", responses={200: StoredForecastDocument, 404: Problem, **PROBLEMS})
def predict_id(body: VehicleKey) -> dict[str, Any]:
    """Forecast a stored vehicle."""
    return predict_stored(services(), require_model(), body.vehicle_id)


@predict_api.post("/predict/batch", responses={200: BatchForecastDocument, **PROBLEMS})
def predict_batch(body: BatchDocument) -> dict[str, Any]:
    """Forecast up to 1,000 vehicles, all by one model."""
    model = require_model(len(body.root))
    forecasts = predict_vehicles(model, body.root)
    predictions = [
        forecast_document(model, vehicle.__dict__, made)
        for vehicle, made in zip(body.root, forecasts, strict=True)
    ]
    return {"predictions": predictions, "model_version": model.version}


@benchmark.get("/empty-page")
def empty_page() -> str:
    """Return the least that a browser paints."""
    return "<!doctype html><html lang=en><title>Empty</title><body>.</body></html>"


@benchmark.post("/flask-echo")
def flask_echo() -> Response:
    """Parse the body and return a constant."""
    orjson.loads(request.get_data(cache=False))
    return Response(orjson.dumps(ECHO), content_type="application/json")
