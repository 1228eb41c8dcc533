"""The Open Inference Protocol v2 (REST), for stock inference clients.

Inputs are a vehicle's raw columns, one tensor each; outputs are the forecast and its range.  Tensors come in
JSON or in the protocol's binary extension: there a body is a JSON document, as long as
``Inference-Header-Content-Length`` says, then the bytes of the tensors that have a ``binary_data_size``,
little-endian, in order.
"""

from collections.abc import Mapping
from typing import Any

import numpy as np
import numpy.typing as npt
import orjson
from flask import Blueprint, Response, request
from pydantic import BaseModel, ConfigDict, Field, ValidationError

from vroom_features.vehicle import COLUMNS
from vroom_features.view import VEHICLE_VIEW
from webapp.problems import INFERENCE_PREFIX, ProblemError, invalid
from webapp.services import services
from webapp.serving.current_model import LoadedModel, no_model, require_model
from webapp.serving.vehicles import BatchDocument

inference_api = Blueprint("inference_api", __name__, url_prefix=INFERENCE_PREFIX)

HEADER_LENGTH = "Inference-Header-Content-Length"
OUTPUTS = ("predicted_reservations", "low", "high")
OUTPUT_DTYPE = "FP64"
Array = npt.NDArray[Any]
DTYPES: dict[str, "np.dtype[Any]"] = {
    "FP64": np.dtype("<f8"),
    "FP32": np.dtype("<f4"),
    "INT64": np.dtype("<i8"),
    "INT32": np.dtype("<i4"),
    "INT16": np.dtype("<i2"),
    "INT8": np.dtype("<i1"),
    "UINT8": np.dtype("<u1"),
}


class TensorError(ValueError):
    """An inference request is not what the protocol defines, or asks for no output there is."""


class InputTensor(BaseModel):
    """One input."""

    name: str
    shape: list[int] = Field(min_length=1, max_length=2)
    datatype: str
    parameters: dict[str, Any] = {}
    data: list[Any] | None = None


class OutputRequest(BaseModel):
    """One output that is asked for."""

    name: str
    parameters: dict[str, Any] = {}


EXAMPLE: dict[str, Any] = {
    "inputs": [
        {"name": column.name, "datatype": "FP64", "shape": [1], "data": [column.initial]}
        for column in COLUMNS.values()
    ]
}


class InferenceRequest(BaseModel):
    """What to infer."""

    model_config = ConfigDict(json_schema_extra={"example": EXAMPLE})
    id: str | None = None
    parameters: dict[str, Any] = {}
    inputs: list[InputTensor] = Field(min_length=1, max_length=64)
    outputs: list[OutputRequest] = []


@inference_api.get("")
def server() -> dict[str, object]:
    """Describe this server."""
    extensions = ["binary_tensor_data", "model_repository"]
    return {"name": "vroom-forecast", "version": "2", "extensions": extensions}


@inference_api.get("/health/live")
def live() -> dict[str, object]:
    """Answer while this process runs."""
    return {"live": True}


@inference_api.get("/health/ready")
def ready() -> tuple[dict[str, object], int]:
    """Report whether there is a model."""
    is_ready = services().slot.current is not None
    return {"ready": is_ready}, 200 if is_ready else 503


@inference_api.post("/repository/index")
def index() -> list[dict[str, str]]:
    """List the models: the one that serves."""
    model = services().slot.current
    name = services().settings.model_name
    return [{"name": name, "version": str(model.version), "state": "READY", "reason": ""}] if model else []


@inference_api.get("/models/<name>")
@inference_api.get("/models/<name>/versions/<version>")
def model(name: str, version: str | None = None) -> dict[str, object]:
    """Describe the model that serves."""
    return {
        "name": name,
        "versions": [str(_model(name, version).version)],
        "platform": "onnxruntime_onnx",
        "inputs": [
            {"name": column, "datatype": "INT64" if COLUMNS[column].is_whole else "FP64", "shape": [-1]}
            for column in VEHICLE_VIEW.sources
        ],
        "outputs": [{"name": output, "datatype": OUTPUT_DTYPE, "shape": [-1]} for output in OUTPUTS],
    }


@inference_api.get("/models/<name>/ready")
@inference_api.get("/models/<name>/versions/<version>/ready")
def model_ready(name: str, version: str | None = None) -> dict[str, object]:
    """Report whether the model serves."""
    return {"name": name, "version": str(_model(name, version).version), "ready": True}


@inference_api.post("/models/<name>/infer")
@inference_api.post("/models/<name>/versions/<version>/infer")
def infer(name: str, version: str | None = None) -> Response:
    """Forecast up to 1,000 vehicles: one tensor a column, in JSON or in the binary extension."""
    model = _model(name, version)
    require_model()  # a body that is refused counts as one
    header_length = request.headers.get(HEADER_LENGTH, type=int)
    try:
        asked, tensors = read_request(request.get_data(cache=False), header_length)
        require_model(max(map(len, tensors.values()), default=1))
        forecasts = model.predictor.predict_many(_check_vehicles(tensors))
        outputs = {output: getattr(forecasts, output) for output in OUTPUTS}
        header = {"model_name": name, "model_version": str(model.version)}
        if asked.id is not None:
            header["id"] = asked.id
        content, length = write_response(header, outputs, asked)
    except TensorError as exc:
        raise ProblemError(400, "Not an inference request", str(exc)) from exc
    if length is None:
        return Response(content, content_type="application/json")
    headers = {HEADER_LENGTH: str(length)}
    return Response(content, content_type="application/octet-stream", headers=headers)


def _model(name: str, version: str | None) -> LoadedModel:
    if name != services().settings.model_name:
        raise ProblemError(404, "No such model", f"there is no model {name!r}")
    model = services().slot.current
    if model is None:
        raise no_model()
    if version is not None and version != str(model.version):
        raise ProblemError(404, "No such version", f"version {version} does not serve; {model.version} does")
    return model


def _check_vehicles(tensors: dict[str, Array]) -> dict[str, Array]:
    """Return the columns if every vehicle is in range."""
    names = set(VEHICLE_VIEW.sources)
    if set(tensors) != names:
        raise TensorError(f"inputs must be {sorted(names)}, got {sorted(tensors)}")
    columns: dict[str, list[Any]] = {}
    for name, values in tensors.items():
        is_whole = COLUMNS[name].is_whole and bool(np.all(np.isfinite(values) & (values == np.round(values))))
        columns[name] = values.astype(np.int64).tolist() if is_whole else values.tolist()
    rows = [dict(zip(columns, row, strict=True)) for row in zip(*columns.values(), strict=True)]
    try:
        BatchDocument.model_validate(rows)
    except ValidationError as exc:
        raise TensorError(invalid(exc).detail) from exc
    return tensors


def read_request(body: bytes, header_length: int | None) -> tuple[InferenceRequest, dict[str, Array]]:
    """Return a request and its tensors, each as an array of shape (n_rows,)."""
    head, tail = (body, b"") if header_length is None else (body[:header_length], body[header_length:])
    try:
        request = InferenceRequest.model_validate_json(head)
    except ValidationError as exc:
        error = exc.errors()[0]
        raise TensorError(f"{'.'.join(map(str, error['loc']))}: {error['msg']}") from exc
    tensors: dict[str, Array] = {}
    for tensor in request.inputs:
        if tensor.name in tensors:
            raise TensorError(f"input {tensor.name} comes twice")
        dtype, num_rows = DTYPES.get(tensor.datatype), tensor.shape[0]
        if dtype is None:
            problem = f"datatype {tensor.datatype} is not one of {sorted(DTYPES)}"
            raise TensorError(f"input {tensor.name}: {problem}")
        if num_rows < 1 or tensor.shape[1:] not in ([], [1]):
            raise TensorError(f"input {tensor.name}: shape {tensor.shape} is neither [n] nor [n, 1]")
        size = tensor.parameters.get("binary_data_size")
        try:
            if isinstance(size, int):
                tensors[tensor.name], tail = _from_bytes(tail[:size], dtype, num_rows), tail[size:]
            else:
                tensors[tensor.name] = _from_json(tensor.data or [], dtype, num_rows)
        except (ValueError, OverflowError) as exc:
            raise TensorError(f"input {tensor.name}: {exc}") from exc
    if len({len(values) for values in tensors.values()}) > 1:
        raise TensorError("inputs differ in their number of rows")
    return request, tensors


def _from_bytes(content: bytes, dtype: "np.dtype[Any]", num_rows: int) -> Array:
    if len(content) != num_rows * dtype.itemsize:
        raise ValueError(f"{len(content)} bytes do not make {num_rows} rows of {dtype}")
    return np.frombuffer(content, dtype)


def _from_json(data: list[Any], dtype: "np.dtype[Any]", num_rows: int) -> Array:
    values = [row[0] if isinstance(row, list) and len(row) == 1 else row for row in data]
    if len(values) != num_rows:
        raise ValueError(f"{len(values)} values do not make {num_rows} rows")
    if not all(type(value) in (int, float) for value in values):  # bool is an int, and no number here
        raise ValueError("every value must be a number")
    array = np.array(values, np.float64)
    cast = array.astype(dtype)
    if dtype.kind in "iu" and not np.array_equal(cast, array):
        raise ValueError(f"the values do not fit {dtype}")
    return cast


def write_response(
    header: Mapping[str, Any], outputs: Mapping[str, Array], request: InferenceRequest
) -> tuple[bytes, int | None]:
    """Return the body of an answer, and the length of its JSON part if tensors follow it as bytes."""
    is_binary = bool(request.parameters.get("binary_data_output"))
    wanted = request.outputs or [
        OutputRequest(name=name, parameters={"binary_data": is_binary}) for name in outputs
    ]
    documents: dict[str, dict[str, Any]] = {}
    tail = b""
    for output in wanted:
        if output.name not in outputs:
            raise TensorError(f"there is no output {output.name}; there are {sorted(outputs)}")
        if output.name in documents:
            raise TensorError(f"output {output.name} is asked for twice")
        values = np.ascontiguousarray(outputs[output.name], DTYPES[OUTPUT_DTYPE])
        document: dict[str, Any] = {"name": output.name, "datatype": OUTPUT_DTYPE, "shape": [len(values)]}
        if output.parameters.get("binary_data"):
            content = values.tobytes()
            document["parameters"] = {"binary_data_size": len(content)}
            tail += content
        else:
            document["data"] = values.tolist()
        documents[output.name] = document
    head = orjson.dumps({**header, "outputs": list(documents.values())})
    return head + tail, len(head) if tail else None
