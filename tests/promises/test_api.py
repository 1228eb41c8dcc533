"""The contract of the JSON API: paths and fields that programs rely on; more fields may be added."""

import json
from typing import Any

import httpx
import pytest

from tests.promises.system import MODEL_NAME, VEHICLE, System, wait_until

FORECAST = {"predicted_reservations", "model_version", "interval"}
PATHS = {
    "/health": {"get"},
    "/predict": {"post"},
    "/predict/id": {"post"},
    "/predict/batch": {"post"},
    "/vehicles": {"get", "post"},
    "/vehicles/{vehicle_id}": {"delete"},
    "/vehicles/features": {"get"},
    "/vehicles/{vehicle_id}/features": {"get"},
    "/stores": {"get"},
    "/model": {"get"},
    "/reload": {"post"},
    "/materialize": {"post"},
    "/train": {"post"},
    "/rollback": {"post"},
    "/runs/{run_id}": {"get"},
    "/events": {"get"},
}


def document(response: httpx.Response) -> dict[str, Any]:  # a JSON object
    """Return a good answer's object."""
    found: dict[str, Any] = response.raise_for_status().json()
    return found


def assert_is_forecast(found: dict[str, Any]) -> None:
    """Check the fields of a forecast, and that the range holds it."""
    assert found.keys() >= FORECAST
    interval = found["interval"]
    assert interval.keys() >= {"low", "high", "coverage"}
    assert 0 <= interval["low"] <= found["predicted_reservations"] <= interval["high"]
    assert 0 < interval["coverage"] < 1


def test_every_path_is_described(system: System) -> None:
    described = document(system.get("/openapi.json"))["paths"]
    for path, methods in PATHS.items():
        assert described[path].keys() >= methods, path
    assert system.get("/docs").status_code == 200


def test_health(system: System) -> None:
    health = document(system.get("/health"))
    fields = {"status", "model_name", "model_version", "mlflow_uri", "online_store"}
    assert health.keys() >= fields
    assert (health["status"], health["model_name"]) == ("ok", MODEL_NAME)
    assert health["mlflow_uri"] == system.mlflow


def test_forecasts(system: System) -> None:
    one = document(system.post("/predict", VEHICLE))
    assert_is_forecast(one)
    many = document(system.post("/predict/batch", [VEHICLE] * 1_000))
    assert many["model_version"] == one["model_version"]
    assert {found["predicted_reservations"] for found in many["predictions"]} == {
        one["predicted_reservations"]
    }
    assert system.post("/predict/batch", [VEHICLE] * 1_001).status_code == 422
    vehicle_id = system.save()
    stored = document(system.post("/predict/id", {"vehicle_id": vehicle_id}))
    assert_is_forecast(stored)
    assert stored["predicted_reservations"] == one["predicted_reservations"]
    assert_is_forecast(document(system.post("/predict/id", {"vehicle_id": 1})))  # of the fleet


def test_vehicles(system: System) -> None:
    answer = system.post("/vehicles", VEHICLE)
    saved = answer.json()
    assert answer.status_code == 201
    assert answer.headers["Location"] == f"/vehicles/{saved['vehicle_id']}/features"
    assert saved.items() >= (VEHICLE | {"status": "new_arrival", "source": "ui"}).items()
    listed = document(system.get("/vehicles", params={"kind": "new", "page_size": 1_000}))
    assert saved["vehicle_id"] in {found["vehicle_id"] for found in listed["vehicles"]}
    assert listed["total"] == len(system.new_arrivals())
    every = document(system.get("/vehicles/features", params={"page_size": 1_000}))["features"]
    (found,) = (each for each in every if each["vehicle_id"] == saved["vehicle_id"])
    one = document(system.get(f"/vehicles/{saved['vehicle_id']}/features"))
    assert one["features"] == found["features"]
    assert one["features"]["price_diff"] == VEHICLE["actual_price"] - VEHICLE["recommended_price"]
    fleet = document(system.get("/vehicles", params={"kind": "fleet", "page_size": 1}))["vehicles"][0]
    assert (fleet["status"], fleet["source"]) == ("fleet", "csv")
    assert system.delete(f"/vehicles/{fleet['vehicle_id']}").status_code == 409


def test_stores_and_model(system: System) -> None:
    stores = document(system.get("/stores"))
    assert stores.keys() >= {"offline_store", "online_store", "feature_view"}
    assert stores["offline_store"]["num_rows"] >= 1_000
    model = document(system.get("/model"))
    assert model.keys() >= {"version", "run_id", "trained_at", "metrics", "params", "feature_importances"}
    run = system.registry.get_run(model["run_id"])
    assert run.data.metrics["mae"] == pytest.approx(model["metrics"]["mae"])
    inputs = {"technology", "num_images", "street_parked", "description", "price_diff"}
    assert {each["name"] for each in stores["feature_view"]["features"]} >= inputs
    assert model["feature_importances"].keys() >= inputs


def test_an_operation_starts_a_run_that_can_be_followed_and_sends_messages(system: System) -> None:
    with system.redis.pubsub(ignore_subscribe_messages=True) as messages:
        messages.psubscribe(f"{MODEL_NAME}:*")
        heard: dict[str, dict[str, Any]] = {}

        def hears(channel: str) -> bool:
            if message := messages.get_message(timeout=0.1):
                heard[message["channel"].decode()] = json.loads(message["data"])
            return f"{MODEL_NAME}:{channel}" in heard

        vehicle_id = system.save()
        wait_until(lambda: hears("vehicle-saved"))
        assert heard[f"{MODEL_NAME}:vehicle-saved"]["vehicle_id"] == vehicle_id
        answer = system.post("/materialize", headers=system.operator)
        assert answer.status_code == 202
        run = document(system.get(answer.headers["Location"]))
        assert run["id"] == answer.json()["id"]
        assert system.end_of(run["id"])[0] == "COMPLETED"
        wait_until(lambda: hears("vehicle-materialized"))
    wait_until(lambda: "completed" in system.get(f"/runs/{run['id']}").json()["state"].lower())


@pytest.mark.parametrize(
    ("change", "field"),
    [
        ({"actual_price": 0}, "actual_price"),
        ({"actual_price": True}, "actual_price"),
        ({"actual_price": "45"}, "actual_price"),
        ({"actual_price": 1e308}, "actual_price"),
        ({"num_images": 2.5}, "num_images"),
        ({"technology": 2}, "technology"),
        ({"description": None}, "description"),
        ({"colour": "red"}, "colour"),
    ],
)
def test_a_refusal_names_its_field_in_a_problem_document(
    system: System, change: dict[str, Any], field: str
) -> None:
    for path in ("/predict", "/vehicles"):
        answer = system.post(path, VEHICLE | change, headers={"X-Request-ID": "order-7"})
        problem = answer.json()
        assert answer.status_code == problem["status"] == 422
        assert answer.headers["Content-Type"] == "application/problem+json"
        assert answer.headers["X-Request-ID"] == problem["request_id"] == "order-7"
        assert field in {error["field"] for error in problem["errors"]}


@pytest.mark.parametrize(
    ("body", "content_type", "status"),
    [
        (b"{", "application/json", 400),
        (b"", "application/json", 400),
        (json.dumps(VEHICLE).encode(), "text/plain", 415),
        (b" " * 5_000_000, "application/json", 413),
        (json.dumps(VEHICLE | {"actual_price": float("nan")}).encode(), "application/json", 422),
    ],
)
def test_what_is_no_request_is_refused_as_such(
    system: System, body: bytes, content_type: str, status: int
) -> None:
    for path in ("/predict", "/vehicles"):
        headers = {"Content-Type": content_type}
        answer = httpx.post(f"{system.url}{path}", content=body, headers=headers, timeout=30)
        assert answer.status_code == status
        assert answer.headers["Content-Type"] == "application/problem+json"


def test_what_is_not_there_is_a_404(system: System) -> None:
    for answer in (
        system.post("/predict/id", {"vehicle_id": 999_999_999}),
        system.get("/vehicles/999999999/features"),
        system.get("/nowhere", headers={"Accept": "application/json"}),
        system.delete("/vehicles/1999999999"),
    ):
        assert answer.status_code == 404
        assert "Traceback" not in answer.text


def test_events_are_streamed(system: System) -> None:
    address = system.get("/events").headers["Location"]
    with httpx.stream("GET", address, timeout=30) as stream:
        lines = stream.iter_lines()
        next(lines)  # it is open
        vehicle_id = system.save()
        assert "event: vehicle-saved" in lines
        assert json.loads(next(lines).removeprefix("data: "))["vehicle_id"] == vehicle_id


def test_open_inference_protocol(system: System) -> None:
    assert document(system.get("/v2/health/live"))["live"] is True
    assert document(system.get("/v2/health/ready"))["ready"] is True
    assert document(system.get(f"/v2/models/{MODEL_NAME}"))["name"] == MODEL_NAME
    inputs = [{"name": n, "shape": [1], "datatype": "FP64", "data": [float(v)]} for n, v in VEHICLE.items()]
    outputs = document(system.post(f"/v2/models/{MODEL_NAME}/infer", {"inputs": inputs}))["outputs"]
    found = {output["name"]: output["data"][0] for output in outputs}
    expected = document(system.post("/predict", VEHICLE))
    assert found["predicted_reservations"] == pytest.approx(expected["predicted_reservations"])
    assert (found["low"], found["high"]) == pytest.approx(
        (expected["interval"]["low"], expected["interval"]["high"])
    )


def test_metrics_are_for_prometheus(system: System) -> None:
    system.forecast()
    answer = system.get("/metrics")
    assert answer.headers["Content-Type"].startswith("text/plain")
    assert 'route="/predict"' in answer.text
