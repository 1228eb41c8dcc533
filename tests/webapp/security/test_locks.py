"""Every route that changes something, tried by everybody who may not: the routes are the app's own list."""

import re
from collections.abc import Callable, Iterator

import pytest
from flask import Flask
from werkzeug.test import TestResponse

from tests.factories import VEHICLE
from tests.webapp.conftest import OPERATOR, Visitor, owner_cookie
from webapp.pages.system import describe
from webapp.security.headers import SAFE_METHODS
from webapp.services import Services

ANYBODY = {
    "api.predict",
    "api.predict_id",
    "api.predict_batch",
    "benchmark.flask_echo",
    "inference_api.index",
    "inference_api.infer",
    "forecast.details",
}
"""They take a body and change nothing."""
SESSION = {"sign_in.show", "sign_in.sign_out"}
SAVERS = {"forecast.submit", "vehicles_api.save_vehicle"}
"""Anybody on loopback, else the operator."""
OPERATORS = {
    "operations_api.reload",
    "operations_api.materialize",
    "operations_api.rollback",
    "operations_api.train",
    "arrivals.delete",
    "operations.reload",
    "operations.start",
    "operations.promote_version",
    "vehicles_api.delete_vehicle",
}
OWNERS = {"my_cars.rename", "my_cars.withdraw", "my_cars.delete", "vehicles_api.change_vehicle"}
"""The browser that saved the car, and the operator; the form does so too, with ``action=change``."""
BROWSERS = {"my_cars.take", "my_cars.share", "my_cars.revoke"}
"""They change whose cars a browser has: nothing but its own cookie tells."""
ARGUMENTS = {"version": "1", "vehicle_id": "1", "name": "train"}


@pytest.fixture(scope="module")
def own_settings() -> dict[str, object]:
    return {"web_host": "0.0.0.0", "web_benchmark": True}


def changing(app: Flask) -> Iterator[tuple[str, str, str]]:
    for rule in app.url_map.iter_rules():
        path = re.sub(r"<(?:\w+:)?(\w+)>", lambda found: ARGUMENTS.get(found.group(1), "x"), rule.rule)
        for method in sorted((rule.methods or set()) - SAFE_METHODS):
            yield rule.endpoint, method, path


def signed_in(app: Flask) -> Visitor:
    client = app.test_client()
    assert client.sign_in() == 302
    return client


def send(client: Visitor, endpoint: str, method: str, path: str, **headers: str) -> TestResponse:
    if endpoint in {"vehicles_api.save_vehicle", "vehicles_api.change_vehicle"}:
        return client.open(path, method=method, json=VEHICLE, headers={"If-Match": "*", **headers})
    form = VEHICLE | {"confirmed": "yes", "reason": "a test", "action": "save"}
    return client.open(path, method=method, data=form, headers=headers)


def with_tokens(client: Visitor, headers: dict[str, str]) -> dict[str, str]:
    tokens = {OWN: client.token(), FOREIGN: client.application.test_client().token()}
    return {name: tokens.get(value, value) for name, value in headers.items()}


OWN, FOREIGN = "of this session", "of another session"
EVIL = "https://evil.example"
ATTACKS: dict[str, dict[str, str]] = {
    "no credentials": {},
    "a wrong token": {"Authorization": "Bearer guess"},
    "no token": {"Authorization": "Bearer"},
    "an empty token": {"Authorization": "bearer \t"},
    "a visitor's session": {"X-CSRFToken": OWN},
    "an origin that hides": OPERATOR | {"Origin": "null"},
    "a cookie without the CSRF token": {},
    "a cookie with another session's CSRF token": {"X-CSRFToken": FOREIGN},
    "a cookie and basic credentials": {"Authorization": "Basic eDp5"},
    "a cookie from a foreign origin": {"X-CSRFToken": OWN, "Origin": EVIL},
}
"""Headers; with a cookie, the operator is signed in."""


def test_every_changing_route_has_a_rule(app: Flask) -> None:
    found = {endpoint for endpoint, *_ in changing(app)}
    assert found == ANYBODY | SESSION | SAVERS | OPERATORS | OWNERS | BROWSERS


@pytest.mark.parametrize("attack", ATTACKS)
def test_nobody_but_the_operator_changes_anything(app: Flask, services: Services, attack: str) -> None:
    client = signed_in(app) if "a cookie" in attack else app.test_client()
    sent = with_tokens(client, ATTACKS[attack])
    before, vehicles = services.audit_log.entries(), services.source.count_vehicles()
    routes = [route for route in changing(app) if route[0] in OPERATORS | SAVERS | OWNERS]
    codes = {route: send(client, *route, **sent).status_code for route in routes}
    assert set(codes.values()) <= {401, 403}, codes
    assert client.post("/vehicles", json={}, headers=sent).status_code in {401, 403}  # and not what is wrong
    assert services.audit_log.entries() == before
    assert services.source.count_vehicles() == vehicles


def test_the_operator_is_let_in_and_every_change_is_recorded_for_good(app: Flask, services: Services) -> None:
    client = signed_in(app)
    (signed, *_) = services.audit_log.entries()
    assert signed.action == "auth.sign_in"
    headers = {"X-CSRFToken": client.token(), "X-Request-ID": "change-7"}
    assert client.post("/operations/train", headers=headers).status_code == 200  # a question: not recorded
    for endpoint, method, path in changing(app):
        if endpoint in OPERATORS | SAVERS | OWNERS:
            answer = send(client, endpoint, method, path, **headers)
            # Prefect and vehicle 1 are not there in this test.
            assert answer.status_code in {200, 201, 303, 404, 503}, (endpoint, answer.text)
    entries = [entry for entry in services.audit_log.entries() if entry.id > signed.id]
    assert sorted(entry.action for entry in entries) == sorted(OPERATORS | OWNERS)
    assert [entry.action for entry in entries if describe(entry) == entry.action] == []  # all have words
    assert {(entry.actor, entry.request_id) for entry in entries} == {("cookie", "change-7")}
    page = client.get("/audit?limit=3").json
    assert [line["id"] for line in page["entries"]] == [entry.id for entry in entries[:3]]
    earlier = client.get(f"/audit?before={signed.id}").json["entries"]
    assert all(line["id"] < signed.id for line in earlier)
    for route in changing(app):
        send(client, *route, **headers)
    for method in ("POST", "PUT", "PATCH", "DELETE"):
        for path in ("/audit", f"/audit/{entries[0].id}"):
            for credentials in (headers, OPERATOR):
                assert client.open(path, method=method, headers=credentials).status_code in {404, 405}
    recorded = services.audit_log.entries(limit=1_000)
    assert recorded[recorded.index(entries[0]) :][: len(entries)] == entries


OWNER_ATTACKS: dict[str, tuple[Callable[[str], str], dict[str, str]]] = {
    "no cookie": (lambda _cookie: "", {"X-CSRFToken": OWN}),
    "a forged cookie": (lambda cookie: cookie.partition(".")[0] + "." + "A" * 43, {"X-CSRFToken": OWN}),
    "a cookie without its signature": (lambda cookie: cookie.partition(".")[0], {"X-CSRFToken": OWN}),
    "another browser's cookie": (lambda _cookie: "another", {"X-CSRFToken": OWN}),
    "its cookie without the CSRF token": (str, {}),
    "its cookie with another session's CSRF token": (str, {"X-CSRFToken": FOREIGN}),
    "its cookie from a foreign origin": (str, {"X-CSRFToken": OWN, "Origin": EVIL}),
    "its cookie and a wrong token": (str, {"X-CSRFToken": OWN, "Authorization": "Bearer guess"}),
}


def save_own(app: Flask) -> tuple[int, str]:
    """Save a car, which here is for the operator alone, and return its id and the cookie of its owner."""
    client = signed_in(app)
    location = client.send("/", **VEHICLE, action="save").headers["Location"]
    cookie = client.get_cookie(owner_cookie(app))
    return int(location.partition("=")[2]), cookie.value


@pytest.mark.parametrize("attack", OWNER_ATTACKS)
def test_nobody_but_its_owner_and_the_operator_changes_a_car(
    app: Flask, services: Services, attack: str
) -> None:
    (vehicle_id, cookie), (_, another) = save_own(app), save_own(app)
    before, lines = services.source.get_vehicle(vehicle_id), services.audit_log.entries()
    of_attack, headers = OWNER_ATTACKS[attack]
    client, sent = app.test_client(), of_attack(cookie)
    client.set_cookie(owner_cookie(app), another if sent == "another" else sent)
    found = with_tokens(client, headers)
    for endpoint, method, path in changing(app):
        if endpoint in OWNERS:
            answer = send(client, endpoint, method, path.replace("/1", f"/{vehicle_id}"), **found)
            assert answer.status_code in {401, 403}, (endpoint, answer.text)
    form = {"action": "change", "vehicle_id": vehicle_id, "version": before and before.row_version}
    answer = client.post("/", data=VEHICLE | {"num_images": 1} | form, headers=found)
    assert answer.status_code in {401, 403}
    assert services.source.get_vehicle(vehicle_id) == before
    assert services.audit_log.entries() == lines


def test_nothing_is_done_unrecorded_and_nobody_is_signed_in(app: Flask, services: Services) -> None:
    def rename_log(old: str, new: str) -> None:
        with services.source.engine.begin() as connection:
            connection.exec_driver_sql(f"ALTER TABLE {old} RENAME TO {new}")

    client, program = signed_in(app), app.test_client()
    vehicle_id = program.post("/vehicles", json=VEHICLE, headers=OPERATOR).json["vehicle_id"]
    rename_log("audit_entries", "moved")
    assert client.get("/audit").status_code == 503
    assert program.delete(f"/vehicles/{vehicle_id}", headers=OPERATOR).status_code == 503
    rename_log("moved", "audit_entries")
    assert client.get("/audit").status_code == 200
    assert services.source.get_vehicle(vehicle_id) is not None
