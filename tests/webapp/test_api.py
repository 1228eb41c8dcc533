"""The JSON API: what it answers, what it refuses, and that both ways to a forecast are one."""

import json
from datetime import UTC, datetime
from typing import Any

import pytest
from flask import Flask
from flask.testing import FlaskClient
from hypothesis import HealthCheck, given
from hypothesis import settings as hypothesis_settings
from hypothesis import strategies as st

from tests.factories import VEHICLE, vehicles
from tests.webapp.conftest import Promote, on_both_databases
from tests.webapp.registry import Models
from tests.webapp.waiting import wait_until
from vroom_features.online.rows import online_row
from vroom_features.settings import Settings
from webapp.app import create_app
from webapp.services import Services
from webapp.serving.fastpath import FastPath

pytestmark = pytest.mark.usefixtures("champion")

anything = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=8),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.sampled_from(list(VEHICLE)), inner),
    max_leaves=8,
)
many = hypothesis_settings(
    max_examples=60, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture]
)


def both_ways(app: Flask, path: str, body: bytes) -> list[tuple[int, Any]]:
    """Answer a request by the short way (which may hand on) and by Flask alone."""
    assert isinstance(app.wsgi_app, FastPath)
    short, answers = app.wsgi_app, []
    for way in (short, short._app):
        app.wsgi_app = way  # type: ignore[method-assign]
        response = app.test_client().post(path, data=body, content_type="application/json")
        document = response.get_json()
        document.pop("request_id", None)
        answers.append((response.status_code, document))
    app.wsgi_app = short  # type: ignore[method-assign]
    return answers


@many
@given(vehicle=vehicles())
def test_both_ways_forecast_the_same(app: Flask, vehicle: dict[str, Any]) -> None:
    (short_status, short), (long_status, long) = both_ways(app, "/predict", json.dumps(vehicle).encode())
    assert short_status == long_status == 200
    assert short == long
    interval = short["interval"]
    assert interval["low"] <= short["predicted_reservations"] <= interval["high"]


@many
@given(document=anything)
def test_both_ways_refuse_the_same(app: Flask, document: object) -> None:
    for path in ("/predict", "/predict/id"):
        short, long = both_ways(app, path, json.dumps(document).encode())
        assert short == long
        assert short[0] == 422


@pytest.mark.parametrize(
    ("change", "field"),
    [
        ({"actual_price": float("nan")}, "actual_price"),
        ({"actual_price": float("inf")}, "actual_price"),
        ({"actual_price": 1e308}, "actual_price"),
        ({"actual_price": 0}, "actual_price"),
        ({"actual_price": -1}, "actual_price"),
        ({"actual_price": True}, "actual_price"),
        ({"actual_price": "45"}, "actual_price"),
        ({"actual_price": None}, "actual_price"),
        ({"num_images": 10**40}, "num_images"),
        ({"num_images": 2.5}, "num_images"),
        ({"technology": 2}, "technology"),
        ({"technology": False}, "technology"),
        ({"street_parked": "0"}, "street_parked"),
        ({"description": [1]}, "description"),
        ({"colour": "red"}, "colour"),
    ],
)
def test_what_is_no_vehicle_is_refused_by_the_name_of_its_field(
    client: FlaskClient, change: dict[str, Any], field: str
) -> None:
    for path in ("/predict", "/vehicles", "/predict/batch"):
        body: Any = VEHICLE | change
        response = client.post(path, json=[body] if path.endswith("batch") else body)
        assert response.status_code == 422
        assert response.content_type == "application/problem+json"
        assert field in [error["field"].removeprefix("0.") for error in response.json["errors"]]
        assert response.json["request_id"] == response.headers["X-Request-ID"]


def test_a_given_request_id_is_kept_unless_it_could_do_harm(client: FlaskClient) -> None:
    for path in ("/predict", "/predict/batch"):
        body: Any = [VEHICLE] if path.endswith("batch") else VEHICLE
        kept = client.post(path, json=body, headers={"X-Request-ID": "order-7:a.b_c"})
        assert kept.headers["X-Request-ID"] == "order-7:a.b_c"
        harmful = client.post(path, json=body, headers={"X-Request-ID": 'x" onload="y'})
        assert harmful.headers["X-Request-ID"].isalnum()


def test_a_batch_answers_in_order_and_by_one_model(client: FlaskClient, champion: int) -> None:
    vehicles = [VEHICLE | {"num_images": n} for n in range(1000)]
    answer = client.post("/predict/batch", json=vehicles).json
    assert answer["model_version"] == champion
    assert [p["predicted_reservations"] for p in answer["predictions"]] == [5.0] * 1000
    assert client.post("/predict/batch", json=[*vehicles, VEHICLE]).status_code == 422
    assert client.post("/predict/batch", json=[]).status_code == 422


@on_both_databases
def test_a_save_is_kept_forecast_and_listed(client: FlaskClient, services: Services) -> None:
    response = client.post("/vehicles", json=VEHICLE)
    saved = response.json
    assert (response.status_code, saved["status"], saved["source"]) == (201, "new_arrival", "ui")
    listed = client.get("/vehicles?kind=new").json
    assert (listed["total"], listed["vehicles"]) == (1, [saved])
    features = client.get(f"/vehicles/{saved['vehicle_id']}/features").json
    assert features["features"]["price_diff"] == VEHICLE["actual_price"] - VEHICLE["recommended_price"]
    (listed_features,) = client.get("/vehicles/features").json["features"]
    assert listed_features["features"] == features["features"]


@on_both_databases
def test_the_same_key_saves_once_and_another_body_is_a_conflict(client: FlaskClient) -> None:
    headers = {"Idempotency-Key": "click-1"}
    first = client.post("/vehicles", json=VEHICLE, headers=headers)
    again = client.post("/vehicles", json=VEHICLE, headers=headers)
    assert (first.status_code, again.status_code) == (201, 201)
    assert "Idempotency-Replayed" not in first.headers
    assert again.headers["Idempotency-Replayed"] == "true"
    assert first.headers["Location"] == again.headers["Location"]
    assert first.json == again.json
    other = client.post("/vehicles", json=VEHICLE | {"num_images": 9}, headers=headers)
    assert (other.status_code, other.json["title"]) == (409, "Idempotency key already used")
    assert client.get("/vehicles").json["total"] == 1
    refused = client.post("/vehicles", json=VEHICLE, headers={"idempotency-key": "x" * 201})
    assert (refused.status_code, refused.json["errors"][0]["field"]) == (422, "Idempotency-Key")


@on_both_databases
def test_features_are_sent_again_only_when_they_changed(client: FlaskClient, services: Services) -> None:
    wait_until(lambda: services.heartbeat.is_redis_up)
    vehicle_id = client.post("/vehicles", json=VEHICLE).json["vehicle_id"]
    path = f"/vehicles/{vehicle_id}/features"
    etag = client.get(path).headers["ETag"]
    unchanged = client.get(path, headers={"If-None-Match": etag})
    assert (unchanged.status_code, unchanged.data) == (304, b"")
    assert client.get(path, headers={"If-None-Match": '"other"'}).status_code == 200
    services.redis.flushdb()
    vehicle = services.source.get_vehicle(vehicle_id)
    assert vehicle is not None
    services.online.put([online_row(vehicle, materialized_at=datetime(2026, 1, 1, tzinfo=UTC))])
    made_anew = client.get(path, headers={"If-None-Match": etag})
    assert (made_anew.status_code, made_anew.json["source"]) == (200, "online_store")
    assert made_anew.headers["ETag"] != etag


@pytest.mark.parametrize("path", ["/vehicles?sort=actual_price", "/vehicles/features", "/model"])
@on_both_databases
def test_lists_and_the_model_are_sent_again_only_when_something_changed(
    client: FlaskClient, path: str, models: Models, promote: Promote
) -> None:
    first = client.get(path)
    known = {"If-None-Match": first.headers["ETag"]}
    unchanged = client.get(path, headers=known)
    assert (unchanged.status_code, unchanged.data) == (304, b"")
    if path == "/model":
        version = models.register(6.0)
        promote(version)
        wait_until(lambda: client.get("/health").json["model_version"] == version)
    else:
        client.post("/vehicles", json=VEHICLE)
    changed = client.get(path, headers=known)
    assert changed.status_code == 200
    assert changed.json != first.json


def test_forecasts_are_logged_where_that_is_asked_for(
    settings: Settings, champion: int, caplog: pytest.LogCaptureFixture
) -> None:
    for is_asked_for in (False, True):
        app = create_app(settings.model_copy(update={"web_log_forecasts": is_asked_for}))
        caplog.clear()
        with caplog.at_level("INFO", logger="webapp.serving.fastpath"):
            app.test_client().post("/predict", json=VEHICLE, headers={"X-Request-ID": "order-7"})
        found = [
            (record.getMessage(), record.__dict__["request_id"], record.__dict__["model_version"])
            for record in caplog.records
            if record.name == "webapp.serving.fastpath"
        ]
        assert found == ([("POST /predict 200", "order-7", champion)] if is_asked_for else [])
        app.extensions["vroom"].close()


@on_both_databases
def test_only_vehicles_typed_in_can_be_deleted_and_only_by_the_operator(
    client: FlaskClient, operator: dict[str, str]
) -> None:
    path = f"/vehicles/{client.post('/vehicles', json=VEHICLE).json['vehicle_id']}"
    assert client.delete(path).status_code == 401
    assert client.delete(path, headers={"Authorization": "Bearer guess"}).status_code == 401
    assert client.delete(path, headers=operator).status_code == 204
    assert client.delete(path, headers=operator).status_code == 404
    assert client.post("/predict/id", json={"vehicle_id": int(path.rpartition("/")[2])}).status_code == 404


def test_a_save_is_not_repeated_once_its_vehicle_was_deleted(
    client: FlaskClient, operator: dict[str, str]
) -> None:
    headers = {"Idempotency-Key": "click-1"}
    vehicle_id = client.post("/vehicles", json=VEHICLE, headers=headers).json["vehicle_id"]
    assert client.delete(f"/vehicles/{vehicle_id}", headers=operator).status_code == 204
    again = client.post("/vehicles", json=VEHICLE, headers=headers)
    described = client.get("/openapi.json").json["paths"]["/vehicles"]["post"]["responses"]
    assert (again.status_code, str(again.status_code) in described) == (404, True)


def test_what_is_no_vehicle_id_is_refused(client: FlaskClient) -> None:
    for vehicle_id in (0, -1, 2**63, "1", 1.5, True, None):
        assert client.post("/predict/id", json={"vehicle_id": vehicle_id}).status_code == 422


@on_both_databases
def test_paths_and_queries_beyond_range_are_refused(client: FlaskClient) -> None:
    assert client.get(f"/vehicles/{10**30}/features").status_code == 422
    for query in ("page=0", "page_size=100000", "sort=password", "kind=x", "page=1e9", "nope=1"):
        assert client.get(f"/vehicles?{query}").status_code == 422, query
    for path in ("/vehicles/features?pagesize=1", "/health?foo=1"):
        assert client.get(path).status_code == 422, path
    for query in ("all=1", "all=true"):
        assert client.get(f"/health?{query}").status_code == 200, query


def test_the_model_is_described(client: FlaskClient, champion: int) -> None:
    model = client.get("/model").json
    assert (model["version"], model["metrics"], model["coverage"]) == (champion, {"mae": 1.0}, 0.8)
    assert "price_diff" in model["features"]


@on_both_databases
def test_the_stores_are_described(client: FlaskClient) -> None:
    stores = client.get("/stores").json
    assert stores["online_store"] == {"status": "up", "location": "redis", "num_rows": 0}
    assert "price_diff" in [feature["name"] for feature in stores["feature_view"]["features"]]


def test_a_fault_of_ours_shows_no_trace(app: Flask, services: Services) -> None:
    services.source.engine.dispose()
    services.source.engine.connect = None  # type: ignore[method-assign,assignment]
    response = app.test_client().get("/vehicles")
    assert response.status_code == 500
    assert "Traceback" not in response.text
    assert response.json["detail"] == "something went wrong here; the request id finds it in the log"


def test_made_up_methods_are_counted_as_one(client: FlaskClient) -> None:
    for number in range(3):
        assert client.open("/health", method=f"MADEUP{number}").status_code == 405
    counted = client.get("/metrics").text
    assert "MADEUP" not in counted
    assert 'method="other"' in counted


@pytest.mark.parametrize("path", ["/predict", "/reload"])
def test_a_page_of_another_site_is_refused(client: FlaskClient, operator: dict[str, str], path: str) -> None:
    for origin in ("http://[", "http://evil.example", "null", ""):
        answer = client.post(path, json=VEHICLE, headers={"Origin": origin} | operator)
        assert answer.status_code == 403


def test_a_forecast_is_refused_as_every_request_is(client: FlaskClient) -> None:
    for name, value, status in (
        ("Host", "rebound.example", 400),
        ("Host", "localhost:8000", 200),
        ("Origin", "http://localhost", 200),
        ("Content-Type", "application/jsonx", 415),
        ("Content-Type", "application/json;charset=utf-8", 200),
        ("Content-Type", "Application/JSON ; charset=utf-8", 200),
    ):
        headers = {"Content-Type": "application/json"} | {name: value}
        answer = client.post("/predict", data=json.dumps(VEHICLE), headers=headers)
        assert answer.status_code == status, (name, value)


def test_a_host_that_is_none_is_no_fault_of_ours(settings: Settings) -> None:
    app = create_app(settings.model_copy(update={"web_host": "0.0.0.0"}))
    client = app.test_client()
    for host in ("[", "a b", "evil.example:x"):
        assert client.get("/events", headers={"Host": host}).status_code == 307
        headers = {"Host": host, "Origin": "null"}
        assert client.post("/predict", json=VEHICLE, headers=headers).status_code == 403
    app.extensions["vroom"].close()


def test_a_health_check_of_the_machine_itself_is_answered(settings: Settings) -> None:
    app = create_app(settings.model_copy(update={"web_trusted_hosts": "forecast.example"}))
    client = app.test_client()
    answers = [
        client.get("/v2/health/live", headers={"Host": host}).status_code
        for host in ("127.0.0.1:8000", "forecast.example", "rebound.example")
    ]
    app.extensions["vroom"].close()
    assert answers == [200, 200, 400]
