"""A stock client of the Open Inference Protocol gets what it asks for, over real HTTP."""

import json
import re
from collections.abc import Iterator
from contextlib import closing
from itertools import product

import numpy as np
import pytest
from flask import Flask
from tritonclient.http import InferenceServerClient, InferInput, InferRequestedOutput
from tritonclient.utils import InferenceServerException

from tests.factories import VEHICLE
from tests.faults import served
from tests.promises.system import ROOT
from tests.webapp.conftest import Models, Visitor

KINDS = {"INT64": np.int64, "FP64": np.float64, "FP32": np.float32, "INT32": np.int32}


@pytest.fixture(scope="module")
def triton(app: Flask) -> Iterator[InferenceServerClient]:
    with served(app) as url, closing(InferenceServerClient(url.removeprefix("http://"))) as client:
        yield client


def inputs(num_rows: int, *, binary: bool, price_kind: str = "FP64", **changes: float) -> list[InferInput]:
    tensors = []
    for name, value in (VEHICLE | changes).items():
        kind = price_kind if name.endswith("price") else "INT64"
        tensor = InferInput(name, [num_rows], kind)
        tensor.set_data_from_numpy(np.full(num_rows, value, KINDS[kind]), binary_data=binary)
        tensors.append(tensor)
    return tensors


def test_the_server_and_its_model_describe_themselves(
    champion: int, triton: InferenceServerClient, models: Models
) -> None:
    assert triton.is_server_live()
    assert triton.is_server_ready()
    ready = {("", True), (str(champion), True), ("999", False)}
    assert {(version, triton.is_model_ready(models.name, version)) for version, _ in ready} == ready
    assert not triton.is_model_ready("another-model")
    with pytest.raises(InferenceServerException, match="there is no model"):
        triton.get_model_metadata("another-model")
    assert "binary_tensor_data" in triton.get_server_metadata()["extensions"]
    (listed,) = triton.get_model_repository_index()
    assert (listed["name"], listed["version"], listed["state"]) == (models.name, str(champion), "READY")
    metadata = triton.get_model_metadata(models.name)
    assert {tensor["name"] for tensor in metadata["inputs"]} == set(VEHICLE)
    assert [tensor["name"] for tensor in metadata["outputs"]] == ["predicted_reservations", "low", "high"]


def test_inferences_come_in_every_form(champion: int, triton: InferenceServerClient, models: Models) -> None:
    for is_binary_in, is_binary_out, kind in product([True, False], [True, False, None], ["FP64", "FP32"]):
        names = ("high", "predicted_reservations")
        wanted = [InferRequestedOutput(name, binary_data=bool(is_binary_out)) for name in names]
        tensors = inputs(3, binary=is_binary_in, price_kind=kind)
        outputs = None if is_binary_out is None else wanted
        result = triton.infer(models.name, tensors, outputs=outputs, request_id="r-1")
        assert result.as_numpy("predicted_reservations").tolist() == [5.0] * 3
        assert result.as_numpy("high").tolist() == [6.0] * 3
        assert result.get_response()["model_version"] == str(champion)
        assert result.get_response()["id"] == "r-1"


@pytest.mark.parametrize(
    ("tensors", "outputs", "problem"),
    [
        (inputs(2, binary=True, actual_price=float("nan")), ["low"], "actual_price"),
        (inputs(2, binary=True, actual_price=-1.0), ["low"], "actual_price"),
        (inputs(2, binary=True, num_images=5000), ["low"], "num_images"),
        (inputs(1, binary=True)[:-1], ["low"], "inputs must be"),
        (inputs(1001, binary=True), ["low"], "at most 1000"),
        (inputs(1, binary=True), ["colour"], "there is no output"),
        (inputs(1, binary=True), ["low", "high", "low"], "output low is asked for twice"),
    ],
)
def test_what_cannot_be_forecast_is_refused_by_name(
    triton: InferenceServerClient, models: Models, tensors: list[InferInput], outputs: list[str], problem: str
) -> None:
    with pytest.raises(InferenceServerException, match=problem):
        triton.infer(models.name, tensors, outputs=[InferRequestedOutput(name) for name in outputs])


def test_every_refusal_is_one_that_a_client_reads(client: Visitor, models: Models) -> None:
    infer = f"/v2/models/{models.name}/infer"
    refusals = {
        404: client.get("/v2/modles", headers={"Accept": "text/html"}),
        405: client.get(infer),
        413: client.post(infer, data=b" " * 5_000_000),
        400: client.get("/v2", headers={"Host": "rebound.example"}),
    }
    for status, refusal in refusals.items():
        assert (refusal.status_code, refusal.mimetype) == (status, "application/json")
        assert list(refusal.json) == ["error"], status
    assert "POST" in refusals[405].headers["Allow"]
    assert client.get("/v20").mimetype == "application/problem+json"


def test_the_example_in_the_documents_runs(
    triton: InferenceServerClient,
    models: Models,
    capsys: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    document = (ROOT / "docs" / "api.md").read_text()
    (code,) = re.findall(r"```python\n(.+?)```", document, re.DOTALL)
    connect = 'client = InferenceServerClient("127.0.0.1:8000")\n'
    assert connect in code
    code = code.replace(connect, "").replace('"vroom-forecast"', repr(models.name))
    monkeypatch.setenv("CAR", json.dumps(VEHICLE))
    exec(code, {"client": triton})
    assert capsys.readouterr().out == "[5.] [4.] [6.]\n"
