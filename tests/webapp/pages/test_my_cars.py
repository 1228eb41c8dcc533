"""Cars of a browser: found again, changed, named, withdrawn, deleted, and carried to another device."""

import json
import logging
import re
from html import unescape
from pathlib import Path

import pytest
from flask import Flask
from flask.testing import FlaskClient
from sqlalchemy import select
from werkzeug.test import TestResponse

from tests.factories import VEHICLE
from tests.vroom_features.stores import book
from tests.webapp.conftest import OPERATOR, copy_cookie, csrf_token, new_client, owner_cookie, save, sign_in
from vroom_features.database.queries import BIGGEST_ID
from vroom_features.database.tables import TABLES
from webapp.rendering.forms import DEFAULTS
from webapp.services import Services

SECRET_NAME = "Zoë's <b>Käfer</b>"
NAMES = {
    "é Wagen": "É WAGEN",
    "100%_ours": "0%_o",
    "<script>alert(1)</script>": "ALERT(1)",
    "{{ 7 * 7 }}": "{{ 7",
    "👨‍👩‍👧 car": "👨‍👩‍👧",
}


def send(client: FlaskClient, path: str, **form: object) -> TestResponse:
    data = {"csrf_token": csrf_token(client), **{name: str(value) for name, value in form.items()}}
    return client.post(path, data=data, headers={"Accept": "text/html"})


def save_by_form(client: FlaskClient, **changes: object) -> int:
    """Save a car as the form does, and return its id."""
    form_key = re.search(r'name="form_key" value="([^"]+)"', client.get("/").text)
    assert form_key is not None
    answer = send(client, "/", **DEFAULTS | changes, action="save", form_key=form_key[1])
    assert answer.status_code == 303
    return int(answer.headers["Location"].partition("/my-cars?saved=")[2])


def listed(client: FlaskClient, **query: str) -> list[int]:
    answer = client.get("/my-cars", query_string=query)
    assert answer.status_code == 200
    return [int(found) for found in re.findall(r'id="vehicle-(\d+)"', answer.text)]


def carried(client: FlaskClient) -> str:
    """Return the path of the browser's private link."""
    found = re.search(r'value="http://localhost(/my-cars/link/[^"]+)"', send(client, "/my-cars/share").text)
    assert found is not None
    return found[1]


def changed(client: FlaskClient, vehicle_id: int, **changes: object) -> TestResponse:
    page = client.get(f"/?vehicle_id={vehicle_id}").text
    version = re.search(r'name="version" value="(\w+)"', page)
    form = {"vehicle_id": vehicle_id, "version": version[1] if version else ""}
    return send(client, "/", **DEFAULTS | form | changes, action="change")


def test_a_saved_car_is_found_again_by_its_browser_alone(app: Flask, client: FlaskClient) -> None:
    vehicle_id = save_by_form(client)
    cookie = client.get_cookie(owner_cookie(app))
    assert cookie is not None
    assert (cookie.http_only, cookie.same_site, cookie.path) == (True, "Lax", "/")
    assert (cookie.max_age or 0) > 300 * 24 * 3600
    again = new_client(app)
    again.set_cookie(owner_cookie(app), cookie.value)  # tomorrow: the session is over, the cookie is there
    assert listed(again) == [vehicle_id]
    assert f'id="vehicle-{vehicle_id}" class="fresh"' in again.get(f"/my-cars?saved={vehicle_id}").text
    assert listed(new_client(app)) == []
    forged = new_client(app)
    forged.set_cookie(owner_cookie(app), cookie.value.partition(".")[0] + "." + "A" * 43)
    assert listed(forged) == []
    assert listed(new_client(app)) == []


def test_no_id_of_a_browser_is_in_the_database_and_an_api_car_is_nobodys(
    app: Flask, client: FlaskClient, services: Services
) -> None:
    vehicle_id = save_by_form(client)
    by_program = save(client)
    assert listed(client) == [vehicle_id]
    stored = services.source.get_vehicle(by_program)
    assert stored is not None
    assert stored.owner_hash is None
    cookie = client.get_cookie(owner_cookie(app))
    assert cookie is not None
    with services.source.reading() as connection:
        held = [str(row) for table in TABLES.values() for row in connection.execute(select(table))]
    assert not any(cookie.value.partition(".")[0] in row for row in held)


def test_a_double_click_makes_one_car_of_one_owner(app: Flask, client: FlaskClient) -> None:
    token, page = csrf_token(client), client.get("/").text
    form_key = re.search(r'name="form_key" value="([^"]+)"', page)
    assert form_key is not None
    form = {**DEFAULTS, "action": "save", "csrf_token": token, "form_key": form_key[1]}
    second = copy_cookie(client, app)
    answers = [each.post("/", data=form) for each in (client, second)]
    assert answers[0].headers["Location"] == answers[1].headers["Location"]
    assert listed(client) == listed(second) != []


@pytest.mark.parametrize(("name", "part"), NAMES.items())
def test_a_car_is_named_and_found_by_its_name_or_number(client: FlaskClient, name: str, part: str) -> None:
    vehicle_id, other = save_by_form(client), save_by_form(client, actual_price=61)
    assert send(client, f"/my-cars/{vehicle_id}/name", name=f" {name} ").status_code == 303
    assert listed(client, q=part) == listed(client, q=str(vehicle_id)) == [vehicle_id]
    assert listed(client, q="nothing like it") == []
    assert listed(client) == [other, vehicle_id]
    for path in ("/my-cars", f"/my-cars/{vehicle_id}", f"/?vehicle_id={vehicle_id}"):
        page = client.get(path).text
        assert name in unescape(page)
        assert "<script>alert" not in page


@pytest.mark.parametrize("name", ["x" * 81, "a\nb", "a\x00b", "a\x7fb", "\u202egnp", "a\u2028b", "a\x1b[31m"])
def test_a_long_name_or_one_with_control_characters_is_refused(client: FlaskClient, name: str) -> None:
    vehicle_id = save_by_form(client)
    answer = send(client, f"/my-cars/{vehicle_id}/name", name=name)
    assert (answer.status_code, "A name has at most 80 characters" in answer.text) == (422, True)
    path, own = f"/vehicles/{vehicle_id}", {"X-CSRFToken": csrf_token(client), "If-Match": "*"}
    answer = client.put(path, json=VEHICLE | {"name": name}, headers=own)
    assert (answer.status_code, answer.json["errors"][0]["field"]) == (422, "name")
    assert client.get(path).json["name"] is None


def test_a_name_is_shown_to_its_owner_and_the_operator_alone(app: Flask, client: FlaskClient) -> None:
    vehicle_id, path = save_by_form(client), ""
    send(client, f"/my-cars/{vehicle_id}/name", name=SECRET_NAME)
    visitor, operator = new_client(app), new_client(app)
    sign_in(operator)
    path = f"/vehicles/{vehicle_id}"
    assert client.get(path).json["name"] == SECRET_NAME
    assert new_client(app).get(path, headers=OPERATOR).json["name"] == SECRET_NAME
    assert "Käfer" in operator.get("/arrivals?q=KÄFER").text
    assert operator.get(f"/my-cars/{vehicle_id}").status_code == 200
    assert visitor.get(path).json["name"] is None
    named = visitor.get(path).headers["ETag"]
    send(client, f"/my-cars/{vehicle_id}/name", name="another")
    assert visitor.get(path).headers["ETag"] == named  # or it could be guessed
    public = [
        "/arrivals",
        "/arrivals?q=another",
        "/vehicles",
        "/vehicles?search=another",
        "/vehicles/features",
    ]
    public += [f"/?vehicle_id={vehicle_id}", f"{path}/features", "/fleet.csv", f"/my-cars/{vehicle_id}"]
    for shown in public:
        answer = visitor.get(shown)
        assert "another" not in answer.text.replace("q=another", "").replace("“another”", "").replace(
            'value="another"', ""
        ), shown
        assert "owner_hash" not in answer.text
    assert visitor.get(f"/my-cars/{vehicle_id}").status_code == 401
    for column in ("name", "owner_hash", "saved_forecast"):
        assert visitor.get(f"/vehicles?sort={column}").status_code == 422


def test_a_change_updates_the_car_and_begins_a_new_watch(client: FlaskClient, services: Services) -> None:
    vehicle_id = save_by_form(client)
    page = client.get(f"/?vehicle_id={vehicle_id}").text
    assert all(words in page for words in ("Save changes", "Save as a new car", "begins a new watch"))
    assert changed(client, vehicle_id, actual_price=70).headers["Location"] == f"/my-cars?saved={vehicle_id}"
    assert "A new watch begins." in client.get("/my-cars").text
    assert listed(client) == [vehicle_id]
    stored = services.source.get_vehicle(vehicle_id)
    assert stored is not None
    assert stored.saved_at is not None
    assert stored.watch_start is not None
    assert (stored.actual_price, stored.watch_start > stored.saved_at) == (70, True)
    row = services.online.get(vehicle_id)
    assert row is not None
    assert row.features["price_diff"] == 20
    shown = " ".join(re.sub(r"<[^>]+>", " ", client.get(f"/my-cars/{vehicle_id}").text).split())
    assert shown.count(f"model {services.slot.current.version}") > 2  # type: ignore[union-attr]
    assert shown.index("now 5.0") < shown.index("70 50 4") < shown.index("58 50 4")


def test_a_change_of_an_old_page_is_refused_and_what_was_typed_is_kept(client: FlaskClient) -> None:
    vehicle_id = save_by_form(client)
    version = re.search(r'name="version" value="(\w+)"', client.get(f"/?vehicle_id={vehicle_id}").text)
    assert version is not None
    changed(client, vehicle_id, actual_price=70)
    form = {"vehicle_id": vehicle_id, "version": version[1], "action": "change"}
    late = send(client, "/", **DEFAULTS | form | {"actual_price": 80})
    assert (late.status_code, 'value="80"' in late.text) == (409, True)
    assert "changed in another window" in late.text


def test_a_withdrawn_car_stays_in_the_list_and_leaves_the_online_store(
    client: FlaskClient, services: Services
) -> None:
    vehicle_id = save_by_form(client)
    asked = send(client, f"/my-cars/{vehicle_id}/withdraw")
    assert (asked.status_code, "Withdraw car" in asked.text) == (200, True)
    assert send(client, f"/my-cars/{vehicle_id}/withdraw", confirmed="yes").status_code == 303
    assert "withdrawn" in client.get("/my-cars").text
    assert (services.online.get(vehicle_id), listed(client)) == (None, [vehicle_id])
    assert "Save changes" not in client.get(f"/?vehicle_id={vehicle_id}").text
    assert changed(client, vehicle_id, actual_price=70).status_code == 409
    send(client, f"/my-cars/{vehicle_id}/name", name="")
    assert send(client, f"/my-cars/{vehicle_id}/delete", confirmed="yes").headers["Location"] == "/my-cars"
    assert services.source.get_vehicle(vehicle_id) is None


@pytest.mark.parametrize("by", ["owner", "operator"])
@pytest.mark.parametrize("is_booked", [False, True])
def test_a_deleted_car_leaves_its_name_nowhere(
    app: Flask, services: Services, tmp_path: Path, by: str, *, is_booked: bool
) -> None:
    client = new_client(app)
    vehicle_id = save_by_form(client)
    send(client, f"/my-cars/{vehicle_id}/name", name=SECRET_NAME)
    changed(client, vehicle_id, actual_price=70)
    if is_booked:
        book(services.source, tmp_path, vehicle_id)
    who = client
    if by == "operator":
        who = new_client(app)
        assert sign_in(who) == 302
    if is_booked:
        assert who.delete(f"/vehicles/{vehicle_id}", headers=OPERATOR).status_code == 409
    assert send(who, f"/my-cars/{vehicle_id}/delete", confirmed="yes").status_code == 303
    assert listed(client) == []
    stored = services.source.get_vehicle(vehicle_id)
    assert (stored is not None) == is_booked
    assert stored is None or (stored.name, stored.owner_hash, bool(stored.withdrawn_at)) == (None, None, True)
    with services.source.reading() as connection:
        held = [str(row) for table in TABLES.values() for row in connection.execute(select(table))]
    assert not any("Käfer" in row for row in held)


def test_a_private_link_carries_the_cars_until_it_is_revoked(
    app: Flask, client: FlaskClient, caplog: pytest.LogCaptureFixture
) -> None:
    vehicle_id = save_by_form(client)
    link, phone, thief = carried(client), new_client(app), new_client(app)
    own = save_by_form(phone, actual_price=61)
    with caplog.at_level(logging.INFO):
        for path in (link, f"{link}/", f"/{link}", link.upper(), f"{link}x"):
            for client_of_link in (phone, thief):
                for method in ("HEAD", "GET"):
                    client_of_link.open(path, method=method)
                client_of_link.head("/my-cars/link")
                assert listed(client_of_link) == ([own] if client_of_link is phone else [])
        answer = phone.get(link)
    secret = link.rpartition("/")[2]
    assert answer.headers["Referrer-Policy"] == "no-referrer"
    assert secret.lower() not in (caplog.text + answer.headers["Location"]).lower()
    asked = phone.get(answer.headers["Location"])
    assert "Open 1 car in this browser?" in asked.text
    assert phone.post("/my-cars/link").status_code == 403
    assert listed(phone) == [own]
    assert send(phone, "/my-cars/link", confirmed="yes").status_code == 303
    assert listed(phone) == listed(client) == [own, vehicle_id]
    assert send(thief, link).status_code == 303
    assert listed(thief) == [own, vehicle_id]

    assert "Revoke the private link?" in send(client, "/my-cars/revoke").text
    send(client, "/my-cars/revoke", confirmed="yes")
    assert listed(client) == [own, vehicle_id]
    assert listed(thief) == listed(phone) == []
    assert new_client(app).get(link).status_code == 404
    assert changed(thief, vehicle_id, actual_price=70).status_code == 401
    later = save_by_form(phone, actual_price=62)  # not by the id that the thief has
    assert (listed(phone), listed(thief)) == ([later], [])


def test_a_program_changes_a_car_only_in_the_version_that_it_read(
    app: Flask, client: FlaskClient, services: Services, tmp_path: Path
) -> None:
    vehicle_id, program = save(client), new_client(app)
    path, body = f"/vehicles/{vehicle_id}", VEHICLE | {"actual_price": 61.0}
    etag = program.get(path, headers=OPERATOR).headers["ETag"]
    book(services.source, tmp_path, vehicle_id)
    assert program.get(path, headers=OPERATOR | {"If-None-Match": etag}).status_code == 304

    def put(if_match: str | None, **changes: object) -> TestResponse:
        headers = OPERATOR | ({} if if_match is None else {"If-Match": if_match})
        return program.put(path, json=body | changes, headers=headers)

    assert put(None).status_code == 428
    assert {put(wrong).status_code for wrong in ('"other"', f"W/{etag}", "")} == {412}
    done = put(etag, name="fleet 7")
    assert (done.status_code, done.json["actual_price"], done.json["name"]) == (200, 61.0, "fleet 7")
    assert put(etag).status_code == 412
    assert put(done.headers["ETag"]).json["name"] == "fleet 7"
    assert put("*", name="").json["name"] is None
    assert program.put(path, json=body, headers={"If-Match": "*"}).status_code == 401
    assert program.put("/vehicles/1", json=body, headers=OPERATOR | {"If-Match": "*"}).status_code in {
        404,
        409,
    }
    none = program.put(f"/vehicles/{BIGGEST_ID}", json=body, headers=OPERATOR | {"If-Match": "*"})
    assert none.status_code == 404


def test_the_owner_changes_a_car_by_the_api_with_the_token_of_a_form(client: FlaskClient) -> None:
    vehicle_id = save_by_form(client)
    path = f"/vehicles/{vehicle_id}"
    headers = {"If-Match": client.get(path).headers["ETag"]}
    assert client.put(path, json=VEHICLE, headers=headers).status_code == 403
    answer = client.put(path, json=VEHICLE, headers=headers | {"X-CSRFToken": csrf_token(client)})
    assert (answer.status_code, json.loads(answer.text)["num_images"]) == (200, VEHICLE["num_images"])
