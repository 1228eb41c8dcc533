"""The JSON API: what it answers, what it refuses, and that the fast path and Flask agree on a forecast."""

import json
from typing import Any

import pytest
from flask import Flask
from flask.testing import FlaskClient
from hypothesis import HealthCheck, given
from hypothesis import settings as hypothesis_settings
from hypothesis import strategies as st

from tests.factories import VEHICLE, vehicles
from tests.webapp.conftest import CHAMPION, running_app
from vroom_features.settings import Settings
from webapp.services import Services
from webapp.serving.fastpath import FastPath

pytestmark = pytest.mark.shared_app

anything = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=8),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.sampled_from(list(VEHICLE)), inner),
    max_leaves=8,
)
many = hypothesis_settings(
    max_examples=30, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture]
)


def both_ways(app: Flask, path: str, body: bytes) -> list[tuple[int, Any]]:
    assert isinstance(app.wsgi_app, FastPath)
    fast, answers = app.wsgi_app, []
    for way in (fast, fast._app):
        app.wsgi_app = way  # type: ignore[method-assign]
        response = app.test_client().post(path, data=body, content_type="application/json")
        document = response.get_json()
        document.pop("request_id", None)
        answers.append((response.status_code, document))
    app.wsgi_app = fast  # type: ignore[method-assign]
    return answers


@many
@given(vehicle=vehicles())
def test_both_ways_forecast_the_same(app: Flask, vehicle: dict[str, Any]) -> None:
    (fast_status, fast), (flask_status, by_flask) = both_ways(app, "/predict", json.dumps(vehicle).encode())
    assert fast_status == flask_status == 200
    assert fast == by_flask
    interval = fast["interval"]
    assert interval["low"] <= fast["predicted_reservations"] <= interval["high"]


@many
@given(document=anything)
def test_both_ways_refuse_the_same(app: Flask, document: object) -> None:
    for path in ("/predict", "/predict/id"):
        fast, by_flask = both_ways(app, path, json.dumps(document).encode())
        assert fast == by_flask
        assert fast[0] == 422


def test_a_batch_answers_in_order_and_by_one_model(client: FlaskClient, champion: int) -> None:
    vehicles = [VEHICLE | {"num_images": n} for n in range(1000)]
    answer = client.post("/predict/batch", json=vehicles).json
    assert answer["model_version"] == champion
    assert [p["predicted_reservations"] for p in answer["predictions"]] == [CHAMPION] * 1000
    assert client.post("/predict/batch", json=[*vehicles, VEHICLE]).status_code == 422
    assert client.post("/predict/batch", json=[]).status_code == 422
    refused = client.post("/predict/batch", json=[VEHICLE, VEHICLE | {"num_images": -1}])
    assert refused.json["errors"][0]["field"] == "1.num_images"


def test_a_given_request_id_is_kept_unless_it_could_do_harm(client: FlaskClient) -> None:
    for path, body in (("/predict", VEHICLE), ("/predict/batch", [VEHICLE])):
        kept = client.post(path, json=body, headers={"X-Request-ID": "order-7:a.b_c"})
        assert kept.headers["X-Request-ID"] == "order-7:a.b_c"
        harmful = client.post(path, json=body, headers={"X-Request-ID": 'x" onload="y'})
        assert harmful.headers["X-Request-ID"].isalnum()


def test_forecasts_are_logged_where_that_is_asked_for(
    settings: Settings, champion: int, caplog: pytest.LogCaptureFixture
) -> None:
    for is_asked_for in (False, True):
        caplog.clear()
        with (
            running_app(settings, web_log_forecasts=is_asked_for) as app,
            caplog.at_level("INFO", logger="webapp.serving.fastpath"),
        ):
            app.test_client().post("/predict", json=VEHICLE, headers={"X-Request-ID": "order-7"})
        found = [
            (record.getMessage(), record.__dict__["request_id"], record.__dict__["model_version"])
            for record in caplog.records
            if record.name == "webapp.serving.fastpath"
        ]
        assert found == ([("POST /predict 200", "order-7", champion)] if is_asked_for else [])


def test_paths_and_queries_beyond_range_are_refused(client: FlaskClient) -> None:
    for vehicle_id in (0, -1, 2**63, "1", 1.5, True, None):
        assert client.post("/predict/id", json={"vehicle_id": vehicle_id}).status_code == 422
    assert client.get(f"/vehicles/{10**30}/features").status_code == 422
    for query in ("page=0", "page_size=100000", "sort=password", "kind=x", "page=1e9", "nope=1"):
        assert client.get(f"/vehicles?{query}").status_code == 422, query
    for path in ("/vehicles/features?pagesize=1", "/health?foo=1"):
        assert client.get(path).status_code == 422, path
    for query in ("all=1", "all=true"):
        assert client.get(f"/health?{query}").status_code == 200, query


def test_a_fault_of_ours_shows_no_trace(
    client: FlaskClient, services: Services, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(services.source.engine, "connect", None)
    response = client.get("/vehicles")
    assert response.status_code == 500
    assert "Traceback" not in response.text
    assert response.json["detail"] == "something went wrong here; the request id finds it in the log"


def test_made_up_methods_are_counted_as_one(client: FlaskClient) -> None:
    for number in range(3):
        assert client.open("/health", method=f"MADEUP{number}").status_code == 405
    counted = client.get("/metrics").text
    assert "MADEUP" not in counted
    assert 'method="other"' in counted


def test_the_fast_path_reads_headers_as_flask_does(client: FlaskClient) -> None:
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
    with running_app(settings, web_host="0.0.0.0") as app:
        client = app.test_client()
        for host in ("[", "a b", "evil.example:x"):
            assert client.get("/events", headers={"Host": host}).status_code == 307
            headers = {"Host": host, "Origin": "null"}
            assert client.post("/predict", json=VEHICLE, headers=headers).status_code == 403


def test_a_health_check_of_the_machine_itself_is_answered(settings: Settings) -> None:
    with running_app(settings, web_trusted_hosts="forecast.example") as app:
        client = app.test_client()
        answers = [
            client.get("/v2/health/live", headers={"Host": host}).status_code
            for host in ("127.0.0.1:8000", "forecast.example", "rebound.example")
        ]
    assert answers == [200, 200, 400]
