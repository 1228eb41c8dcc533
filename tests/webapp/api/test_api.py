"""The JSON API: what it answers, what it refuses, and that the fast path and Flask agree on a forecast."""

import json
from typing import Any

import pytest
from flask import Flask
from hypothesis import given
from hypothesis import settings as hypothesis_settings
from hypothesis import strategies as st

from tests.factories import VEHICLE, vehicles
from tests.promises.system import wait_until
from tests.webapp.conftest import CHAMPION, Models, Promote, Visitor, running_app
from tests.webapp.registry import SEGMENT, snapshot_ref
from vroom_features.settings import Settings
from vroom_model.segments import SEGMENTS, segment_of
from webapp.serving.fastpath import FastPath

anything = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=8),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.sampled_from(list(VEHICLE)), inner),
    max_leaves=8,
)
many = hypothesis_settings(max_examples=30, deadline=None)


JSON = {"Content-Type": "application/json"}


def both_ways(app: Flask, path: str, body: object, **headers: str) -> list[tuple[int, Any]]:
    """Answer a request by the fast path, which may pass it on, and by Flask alone."""
    assert isinstance(app.wsgi_app, FastPath)
    fast, answers = app.wsgi_app, []
    for way in (fast, fast._app):
        app.wsgi_app = way
        response = app.test_client().post(path, data=json.dumps(body), headers=JSON | headers)
        answers.append((response.status_code, response.json | {"request_id": ""}))
    app.wsgi_app = fast
    return answers


@many
@given(vehicle=vehicles())
def test_both_ways_forecast_the_same(app: Flask, vehicle: dict[str, Any]) -> None:
    fast, by_flask = both_ways(app, "/predict", vehicle)
    assert fast == by_flask
    status, document = fast
    assert status == 200
    interval = document["interval"]
    assert interval["low"] <= document["predicted_reservations"] <= interval["high"]
    number = SEGMENTS.index(interval["segment"])
    assert number == segment_of(vehicle["actual_price"] / vehicle["recommended_price"], vehicle["num_images"])
    assert interval["segment_coverage"] == (SEGMENT.coverage if number == 0 else None)


@many
@given(document=anything)
def test_both_ways_refuse_the_same(app: Flask, document: object) -> None:
    for path in ("/predict", "/predict/id"):
        fast, by_flask = both_ways(app, path, document)
        assert fast == by_flask
        assert fast[0] == 422


def test_a_batch_answers_in_order_and_by_one_model(client: Visitor, champion: int) -> None:
    answer = client.post("/predict/batch", json=[VEHICLE] * 3).json
    assert answer["model_version"] == champion
    assert [p["predicted_reservations"] for p in answer["predictions"]] == [CHAMPION] * 3
    assert answer["predictions"][2]["interval"] == client.post("/predict", json=VEHICLE).json["interval"]
    assert client.post("/predict/batch", json=[]).status_code == 422
    refused = client.post("/predict/batch", json=[VEHICLE, VEHICLE | {"num_images": -1}])
    assert refused.json["errors"][0]["field"] == "1.num_images"


def answers_of(app: Flask, client: Visitor, vehicle: dict[str, float]) -> list[dict[str, Any]]:
    """Return the forecast of a vehicle by every way to ask for it."""
    vehicle_id = client.post("/vehicles", json=vehicle).json["vehicle_id"]
    (_, made), (_, by_flask) = both_ways(app, "/predict", vehicle)
    stored = client.post("/predict/id", json={"vehicle_id": vehicle_id}).json
    return [made, by_flask, stored, *client.post("/predict/batch", json=[vehicle]).json["predictions"]]


def test_a_forecast_says_what_it_counts_where_its_model_knows(
    app: Flask, client: Visitor, models: Models, promote: Promote
) -> None:
    watch = {"days": 364, "first_day": "2023-01-01", "last_day": "2023-12-30"}
    counted = {"watch": watch, "per_year": CHAMPION * 365 / 364, "per_month": CHAMPION * 365 / 364 / 12}
    answers = answers_of(app, client, VEHICLE)
    assert [{name: made[name] for name in counted} for made in answers] == [counted] * 4
    assert [made["outside"] for made in answers] == [[]] * 4
    far = answers_of(app, client, VEHICLE | {"num_images": 9, "recommended_price": 91.0})
    assert [made["outside"] for made in far] == [["num_images", "recommended_price", "actual_price"]] * 4
    assert client.get("/model").json["watch"] == watch
    champion, old = models.champion(), models.register(CHAMPION, snapshot=snapshot_ref(None), ranges={})
    promote(old)
    wait_until(lambda: client.serves(old))
    names = (*counted, "outside")
    assert {made[name] for made in answers_of(app, client, VEHICLE) for name in names} == {None}
    assert client.get("/model").json["watch"] is None
    assert "a year" not in client.get("/").text
    promote(champion)
    wait_until(lambda: client.serves(champion))


def test_a_given_request_id_is_kept_unless_it_could_do_harm(client: Visitor) -> None:
    for path, body in (("/predict", VEHICLE), ("/predict/batch", [VEHICLE])):
        kept = client.post(path, json=body, headers={"X-Request-ID": "order-7:a.b_c"})
        assert kept.headers["X-Request-ID"] == "order-7:a.b_c"
        harmful = client.post(path, json=body, headers={"X-Request-ID": 'x" onload="y'})
        assert harmful.headers["X-Request-ID"].isalnum()


@pytest.mark.parametrize("is_asked_for", [False, True])
def test_forecasts_are_logged_where_that_is_asked_for(
    settings: Settings, champion: int, caplog: pytest.LogCaptureFixture, is_asked_for: bool
) -> None:
    caplog.set_level("INFO", logger="webapp.serving.fastpath")
    with running_app(settings, web_log_forecasts=is_asked_for) as client:
        client.post("/predict", json=VEHICLE, headers={"X-Request-ID": "order-7"})
    records = [vars(record) for record in caplog.records if record.name == "webapp.serving.fastpath"]
    found = [(record["message"], record["request_id"], record["model_version"]) for record in records]
    assert found == [("POST /predict 200", "order-7", champion)] * is_asked_for


def test_paths_and_queries_beyond_range_are_refused(client: Visitor) -> None:
    for vehicle_id in (0, -1, 2**63, "1", 1.5, True, None):
        assert client.post("/predict/id", json={"vehicle_id": vehicle_id}).status_code == 422
    queries = ("page=0", "page_size=100000", "sort=password", "kind=x", "page=1e9", "nope=1")
    paths = (f"/vehicles/{10**30}/features", "/vehicles/features?pagesize=1", "/health?foo=1")
    for path in (*paths, *(f"/vehicles?{query}" for query in queries)):
        assert client.get(path).status_code == 422, path
    for query in ("all=1", "all=true"):
        assert client.get(f"/health?{query}").status_code == 200, query


def test_no_trace_is_shown_also_where_the_machine_has_flask_debug(
    settings: Settings, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("FLASK_DEBUG", "1")
    with running_app(settings) as client:
        client.services.alerts.stop()  # it reads the database, too
        monkeypatch.setattr(client.services.source.engine, "connect", None)
        response = client.get("/vehicles")
    assert response.status_code == 500
    assert "Traceback" not in response.text
    assert response.json["detail"] == "something went wrong here; the request id finds it in the log"


def test_made_up_methods_are_counted_as_one(client: Visitor) -> None:
    for number in range(3):
        assert client.open("/health", method=f"MADEUP{number}").status_code == 405
    counted = client.get("/metrics").text
    assert "MADEUP" not in counted
    assert 'method="other"' in counted


@pytest.mark.parametrize(
    ("name", "value", "status"),
    [
        ("Host", "rebound.example", 400),
        ("Host", "localhost:8000", 200),
        ("Origin", "http://localhost", 200),
        ("Content-Type", "application/jsonx", 415),
        ("Content-Type", "Application/JSON ; charset=utf-8", 200),
    ],
)
def test_both_ways_read_headers_alike(app: Flask, name: str, value: str, status: int) -> None:
    fast, by_flask = both_ways(app, "/predict", VEHICLE, **{name: value})
    assert fast == by_flask
    assert fast[0] == status


def test_a_host_that_is_none_is_no_fault_of_ours(settings: Settings) -> None:
    with running_app(settings, web_host="0.0.0.0") as client:
        for host in ("[", "a b", "evil.example:x"):
            assert client.get("/events", headers={"Host": host}).status_code == 307
            headers = {"Host": host, "Origin": "null"}
            assert client.post("/predict", json=VEHICLE, headers=headers).status_code == 403


@pytest.mark.parametrize("path", ["/", "/nothing"])
def test_a_host_that_is_not_known_gets_a_page_that_says_so(client: Visitor, path: str) -> None:
    answer = client.get(path, headers={"Host": "rebound.example", "Accept": "text/html"})
    assert answer.status_code == 400
    assert "Host &#39;rebound.example&#39; is not trusted" in answer.text
    assert answer.text.rstrip().endswith("</html>")


def test_a_health_check_of_the_machine_itself_is_answered(settings: Settings) -> None:
    hosts = {"127.0.0.1:8000": 200, "forecast.example": 200, "rebound.example": 400}
    with running_app(settings, web_trusted_hosts="forecast.example") as client:
        for host, status in hosts.items():
            assert client.get("/v2/health/live", headers={"Host": host}).status_code == status, host
