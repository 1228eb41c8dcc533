"""The Open Inference Protocol v2 (REST): what stock inference clients speak.

Inputs are a vehicle's raw columns, one tensor each; outputs are the forecast and its range.
"""

from typing import Any

import numpy as np
import orjson
from flask import Blueprint, Response, request
from pydantic import ValidationError

from vroom_features.view import VEHICLE_VIEW
from webapp.api.forecasts import json
from webapp.api.tensors import OUTPUT_DTYPE, Array, TensorError, read_request, write_response
from webapp.problems import INFERENCE_PREFIX, ProblemError, invalid
from webapp.services import services
from webapp.serving.current_model import require_model
from webapp.serving.model_slot import LoadedModel
from webapp.serving.schemas import BatchDocument, VehicleDocument

inference_api = Blueprint("inference_api", __name__, url_prefix=INFERENCE_PREFIX)

HEADER_LENGTH = "Inference-Header-Content-Length"
OUTPUTS = ("predicted_reservations", "low", "high")
INTEGERS = frozenset(name for name, field in VehicleDocument.model_fields.items() if field.annotation is int)


@inference_api.get("")
def server() -> Response:
    """Describe this server."""
    return json(
        {"name": "vroom-forecast", "version": "2", "extensions": ["binary_tensor_data", "model_repository"]}
    )


@inference_api.get("/health/live")
def live() -> Response:
    """Tell that this process answers."""
    return json({"live": True})


@inference_api.get("/health/ready")
def ready() -> Response:
    """Tell whether forecasts can be asked for: there is a model."""
    is_ready = services().slot.current is not None
    response = json({"ready": is_ready})
    response.status_code = 200 if is_ready else 503
    return response


@inference_api.post("/repository/index")
def index() -> Response:
    """List the models: the one that serves."""
    served = services().slot.current
    name = services().settings.model_name
    models = (
        [{"name": name, "version": str(served.version), "state": "READY", "reason": ""}] if served else []
    )
    return Response(orjson.dumps(models), content_type="application/json")


@inference_api.get("/models/<name>")
@inference_api.get("/models/<name>/versions/<version>")
def metadata(name: str, version: str | None = None) -> Response:
    """Describe the model that serves."""
    served = _served(name, version)
    return json(
        {
            "name": name,
            "versions": [str(served.version)],
            "platform": "onnxruntime_onnx",
            "inputs": [
                {"name": column, "datatype": "INT64" if column in INTEGERS else "FP64", "shape": [-1]}
                for column in VEHICLE_VIEW.sources
            ],
            "outputs": [{"name": output, "datatype": OUTPUT_DTYPE, "shape": [-1]} for output in OUTPUTS],
        }
    )


@inference_api.get("/models/<name>/ready")
@inference_api.get("/models/<name>/versions/<version>/ready")
def model_ready(name: str, version: str | None = None) -> Response:
    """Tell whether the model serves."""
    served = _served(name, version)
    return json({"name": name, "version": str(served.version), "ready": True})


@inference_api.post("/models/<name>/infer")
@inference_api.post("/models/<name>/versions/<version>/infer")
def infer(name: str, version: str | None = None) -> Response:
    """Forecast up to 1,000 vehicles."""
    served = _served(name, version)
    header_length = request.headers.get(HEADER_LENGTH, type=int)
    try:
        asked, tensors = read_request(request.get_data(cache=False), header_length)
        require_model(max(map(len, tensors.values()), default=1))
        forecasts = served.predictor.predict_many(_vehicles(tensors))
        outputs = {output: getattr(forecasts, output) for output in OUTPUTS}
        header = {"model_name": name, "model_version": str(served.version)}
        if asked.id is not None:
            header["id"] = asked.id
        content, length = write_response(header, outputs, asked)
    except TensorError as exc:
        raise ProblemError(400, "Not an inference request", str(exc)) from exc
    headers = {HEADER_LENGTH: str(length)} if length is not None else {}
    content_type = "application/octet-stream" if length is not None else "application/json"
    return Response(content, content_type=content_type, headers=headers)


def _served(name: str, version: str | None) -> LoadedModel:
    """Return the model under this name, or refuse."""
    if name != services().settings.model_name:
        raise ProblemError(404, "No such model", f"there is no model {name!r}")
    served = require_model()
    if version is not None and version != str(served.version):
        raise ProblemError(404, "No such version", f"version {version} does not serve; {served.version} does")
    return served


def _vehicles(tensors: dict[str, Array]) -> dict[str, Array]:
    """Return the columns of vehicles that are in range, every one."""
    names = set(VEHICLE_VIEW.sources)
    if set(tensors) != names:
        raise TensorError(f"inputs must be {sorted(names)}, got {sorted(tensors)}")
    columns: dict[str, list[Any]] = {}
    for name, values in tensors.items():
        whole = name in INTEGERS and bool(np.all(np.isfinite(values) & (values == np.round(values))))
        columns[name] = values.astype(np.int64).tolist() if whole else values.tolist()
    rows = [dict(zip(columns, row, strict=True)) for row in zip(*columns.values(), strict=True)]
    try:
        BatchDocument.model_validate(rows)
    except ValidationError as exc:
        raise TensorError(invalid(exc).detail) from exc
    return tensors
