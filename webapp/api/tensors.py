"""Tensors of the Open Inference Protocol, in JSON and in its binary extension.

With the binary extension a body is a JSON document, as long as ``Inference-Header-Content-Length`` says, then
the bytes of the tensors that have a ``binary_data_size``, little-endian, in order.
"""

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import numpy.typing as npt
import orjson
from pydantic import BaseModel, Field, ValidationError

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
OUTPUT_DTYPE = "FP64"


class TensorError(ValueError):
    """An inference request cannot be understood."""


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


class InferenceRequest(BaseModel):
    """What to infer."""

    id: str | None = None
    parameters: dict[str, Any] = {}
    inputs: list[InputTensor] = Field(min_length=1, max_length=64)
    outputs: list[OutputRequest] = []


def read_request(body: bytes, header_length: int | None) -> tuple[InferenceRequest, dict[str, Array]]:
    """Read a request and its tensors, each as an array of shape (n_rows,).

    Raises
    ------
    TensorError
        If it is not what the protocol says.
    """
    head, tail = (body, b"") if header_length is None else (body[:header_length], body[header_length:])
    try:
        request = InferenceRequest.model_validate_json(head)
    except ValidationError as exc:
        error = exc.errors()[0]
        raise TensorError(f"{'.'.join(map(str, error['loc']))}: {error['msg']}") from exc
    tensors: dict[str, Array] = {}
    for tensor in request.inputs:
        size = tensor.parameters.get("binary_data_size")
        if isinstance(size, int):
            values, tail = _from_bytes(tensor, tail[:size]), tail[size:]
        else:
            values = _from_json(tensor)
        if tensor.name in tensors:
            raise TensorError(f"input {tensor.name} comes twice")
        tensors[tensor.name] = values
    if len({len(values) for values in tensors.values()}) > 1:
        raise TensorError("inputs differ in their number of rows")
    return request, tensors


def write_response(
    header: Mapping[str, Any], outputs: Mapping[str, Array], request: InferenceRequest
) -> tuple[bytes, int | None]:
    """Return the body of an answer, and the length of its JSON part if tensors follow it as bytes.

    Raises
    ------
    TensorError
        If an output is asked for that there is not, or twice.
    """
    wanted: Sequence[OutputRequest] = request.outputs or [
        OutputRequest(
            name=name, parameters={"binary_data": bool(request.parameters.get("binary_data_output"))}
        )
        for name in outputs
    ]
    documents, tail = [], b""
    asked: set[str] = set()
    for output in wanted:
        if output.name not in outputs:
            raise TensorError(f"there is no output {output.name}; there are {sorted(outputs)}")
        if output.name in asked:
            raise TensorError(f"output {output.name} is asked for twice")
        asked.add(output.name)
        values = np.ascontiguousarray(outputs[output.name], DTYPES[OUTPUT_DTYPE])
        document: dict[str, Any] = {"name": output.name, "datatype": OUTPUT_DTYPE, "shape": [len(values)]}
        if output.parameters.get("binary_data"):
            content = values.tobytes()
            document["parameters"] = {"binary_data_size": len(content)}
            tail += content
        else:
            document["data"] = values.tolist()
        documents.append(document)
    head = orjson.dumps({**header, "outputs": documents})
    return head + tail, len(head) if tail else None


def _dtype(tensor: InputTensor) -> "np.dtype[Any]":
    dtype = DTYPES.get(tensor.datatype)
    if dtype is None:
        raise TensorError(f"input {tensor.name}: datatype {tensor.datatype} is not one of {sorted(DTYPES)}")
    return dtype


def _num_rows(tensor: InputTensor) -> int:
    num_rows = tensor.shape[0]
    if num_rows < 1 or tensor.shape[1:] not in ([], [1]):
        raise TensorError(f"input {tensor.name}: shape {tensor.shape} is neither [n] nor [n, 1]")
    return num_rows


def _from_bytes(tensor: InputTensor, content: bytes) -> Array:
    dtype = _dtype(tensor)
    if len(content) != _num_rows(tensor) * dtype.itemsize:
        raise TensorError(
            f"input {tensor.name}: {len(content)} bytes do not make {tensor.shape} {tensor.datatype}"
        )
    return np.frombuffer(content, dtype)


def _from_json(tensor: InputTensor) -> Array:
    dtype, data = _dtype(tensor), tensor.data or []
    values = [row[0] if isinstance(row, list) and len(row) == 1 else row for row in data]
    if len(values) != _num_rows(tensor):
        raise TensorError(f"input {tensor.name}: {len(values)} values do not make shape {tensor.shape}")
    if not all(type(value) in (int, float) for value in values):  # bool is an int, and no number here
        raise TensorError(f"input {tensor.name}: every value must be a number")
    try:
        array = np.array(values, np.float64)
        cast = array.astype(dtype)
    except OverflowError as exc:
        raise TensorError(f"input {tensor.name}: {exc}") from exc
    if dtype.kind in "iu" and not np.array_equal(cast, array):
        raise TensorError(f"input {tensor.name}: the values do not fit {tensor.datatype}")
    return cast
