"""Cars of a browser: found again, changed, named, withdrawn, deleted, and carried to another device."""

import logging
import re
from pathlib import Path
from urllib.parse import urlsplit

import pytest
from flask import Flask
from sqlalchemy import select
from werkzeug.test import TestResponse

from tests.factories import VEHICLE
from tests.vroom_features.stores import book
from tests.webapp.conftest import OPERATOR, Visitor, copy_cookie, form_value, owner_cookie
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


def save_by_form(client: Visitor, **changes: object) -> int:
    """Save a car as the form does, and return its id."""
    form_key = form_value(client.get("/").text, "form_key")
    answer = client.send("/", **DEFAULTS | changes, action="save", form_key=form_key)
    assert answer.status_code == 303
    return int(answer.headers["Location"].partition("/my-cars?saved=")[2])


def listed(client: Visitor, **query: str) -> list[int]:
    answer = client.get("/my-cars", query_string=query)
    assert answer.status_code == 200
    return [int(found) for found in re.findall(r'id="vehicle-(\d+)"', answer.text)]


def changed(client: Visitor, vehicle_id: int, **changes: object) -> TestResponse:
    version = re.search(r'name="version" value="(\w+)"', client.get(f"/?vehicle_id={vehicle_id}").text)
    form = {"vehicle_id": vehicle_id, "version": version[1] if version else ""}
    return client.send("/", **DEFAULTS | form | changes, action="change")


def all_stored(services: Services) -> str:
    """Return everything that the database has."""
    with services.source.reading() as connection:
        return str([list(connection.execute(select(table))) for table in TABLES.values()])


def test_a_saved_car_is_found_again_by_its_browser_alone(app: Flask, client: Visitor) -> None:
    vehicle_id = save_by_form(client)
    cookie = client.get_cookie(owner_cookie(app))
    assert (cookie.http_only, cookie.same_site, cookie.path) == (True, "Lax", "/")
    assert (cookie.max_age or 0) > 300 * 24 * 3600
    again = app.test_client()
    again.set_cookie(owner_cookie(app), cookie.value)  # tomorrow: the session is over, the cookie is there
    assert listed(again) == [vehicle_id]
    assert f'id="vehicle-{vehicle_id}" class="fresh"' in again.get(f"/my-cars?saved={vehicle_id}").text
    forged = app.test_client()
    forged.set_cookie(owner_cookie(app), cookie.value.partition(".")[0] + "." + "A" * 43)
    assert listed(forged) == listed(app.test_client()) == []


def test_no_id_of_a_browser_is_in_the_database_and_an_api_car_is_nobodys(
    app: Flask, client: Visitor, services: Services
) -> None:
    vehicle_id = save_by_form(client)
    by_program = client.save()
    assert listed(client) == [vehicle_id]
    stored = services.source.get_vehicle(by_program)
    assert stored.owner_hash is None
    cookie = client.get_cookie(owner_cookie(app))
    assert cookie.value.partition(".")[0] not in all_stored(services)


def test_a_double_click_makes_one_car_of_one_owner_and_a_change_after_it_another(
    app: Flask, client: Visitor
) -> None:
    form_key = form_value(client.get("/").text, "form_key")
    form = DEFAULTS | {"action": "save", "csrf_token": client.token(), "form_key": form_key}
    second = copy_cookie(client, app)
    answers = [each.post("/", data=form) for each in (client, second)]
    assert answers[0].headers["Location"] == answers[1].headers["Location"]
    assert listed(client) == listed(second) == [int(answers[0].headers["Location"].partition("saved=")[2])]
    client.post("/", data=form | {"actual_price": "53"})
    assert len(listed(client)) == 2


@pytest.mark.parametrize(("name", "part"), NAMES.items())
def test_a_car_is_named_and_found_by_its_name_or_number(client: Visitor, name: str, part: str) -> None:
    vehicle_id, other = save_by_form(client), save_by_form(client, actual_price=61)
    assert client.send(f"/my-cars/{vehicle_id}/name", name=f" {name} ").status_code == 303
    assert listed(client, q=part) == listed(client, q=str(vehicle_id)) == [vehicle_id]
    assert listed(client, q="nothing like it") == []
    assert listed(client) == [other, vehicle_id]
    for path in ("/my-cars", f"/my-cars/{vehicle_id}", f"/?vehicle_id={vehicle_id}"):
        assert name in client.page(path)
        assert "<script>alert" not in client.get(path).text


@pytest.mark.parametrize("name", ["x" * 81, "a\nb", "a\x00b", "a\x7fb", "\u202egnp", "a\u2028b", "a\x1b[31m"])
def test_a_long_name_or_one_with_control_characters_is_refused(client: Visitor, name: str) -> None:
    vehicle_id = save_by_form(client)
    answer = client.send(f"/my-cars/{vehicle_id}/name", name=name)
    assert (answer.status_code, "A name has at most 80 characters" in answer.text) == (422, True)
    path, own = f"/vehicles/{vehicle_id}", {"X-CSRFToken": client.token(), "If-Match": "*"}
    answer = client.put(path, json=VEHICLE | {"name": name}, headers=own)
    assert (answer.status_code, answer.json["errors"][0]["field"]) == (422, "name")
    assert client.get(path).json["name"] is None


def test_a_name_is_shown_to_its_owner_and_the_operator_alone(app: Flask, client: Visitor) -> None:
    vehicle_id = save_by_form(client)
    path = f"/vehicles/{vehicle_id}"
    client.send(f"/my-cars/{vehicle_id}/name", name=SECRET_NAME)
    visitor, operator = app.test_client(), app.test_client()
    operator.sign_in()
    assert client.get(path).json["name"] == SECRET_NAME
    assert app.test_client().get(path, headers=OPERATOR).json["name"] == SECRET_NAME
    assert "Käfer" in operator.get("/arrivals?q=KÄFER").text
    assert operator.get(f"/my-cars/{vehicle_id}").status_code == 200
    assert visitor.get(path).json["name"] is None
    named = visitor.get(path).headers["ETag"]
    client.send(f"/my-cars/{vehicle_id}/name", name="another")
    assert visitor.get(path).headers["ETag"] == named  # or it could be guessed
    lists = ("/arrivals", "/arrivals?q=another", "/vehicles", "/vehicles?search=another", "/fleet.csv")
    of_car = (f"/?vehicle_id={vehicle_id}", f"{path}/features", f"/my-cars/{vehicle_id}")
    for shown in (*lists, "/vehicles/features", *of_car):
        text = re.sub('q=another|“another”|value="another"', "", visitor.get(shown).text)  # what was searched
        assert not re.search("another|owner_hash", text), shown
    assert visitor.get(f"/my-cars/{vehicle_id}").status_code == 401
    for column in ("name", "owner_hash", "saved_forecast"):
        assert visitor.get(f"/vehicles?sort={column}").status_code == 422


def test_a_change_updates_the_car_and_begins_a_new_watch(client: Visitor, services: Services) -> None:
    vehicle_id = save_by_form(client)
    page = client.get(f"/?vehicle_id={vehicle_id}").text
    assert all(words in page for words in ("Save changes", "Save as a new car", "begins a new watch"))
    assert changed(client, vehicle_id, actual_price=70).headers["Location"] == f"/my-cars?saved={vehicle_id}"
    assert "A new watch begins." in client.get("/my-cars").text
    assert listed(client) == [vehicle_id]
    stored = services.source.get_vehicle(vehicle_id)
    assert (stored.actual_price, stored.watch_start > stored.saved_at) == (70, True)
    row = services.online.get(vehicle_id)
    assert row.features["price_diff"] == 20
    shown = client.words(f"/my-cars/{vehicle_id}")
    assert shown.count(f"model {services.slot.current.version}") > 2
    assert shown.index("now 5.0") < shown.index("70 50 4") < shown.index("58 50 4")


@pytest.mark.parametrize("way", ["at once", "reloaded", "pinned"])
def test_a_change_of_an_old_page_is_refused_and_what_was_typed_is_kept(client: Visitor, way: str) -> None:
    vehicle_id = save_by_form(client)
    page = client.page("/", vehicle_id=vehicle_id)
    form = DEFAULTS | {"vehicle_id": vehicle_id, "version": form_value(page, "version")}
    changed(client, vehicle_id, actual_price=70)
    if way == "reloaded":  # after the script replaced the address
        page = client.page(form_value(page.replace("data-address", "value"), "result"))
    elif way == "pinned":
        page = client.page(client.send("/", **form, action="pin").location)
    late = changed(client, vehicle_id, version=form_value(page, "version"), actual_price=80)
    assert (late.status_code, 'value="80"' in late.text) == (409, True)
    assert "changed in another window" in late.text


def test_a_withdrawn_car_stays_in_the_list_and_leaves_the_online_store(
    client: Visitor, services: Services
) -> None:
    vehicle_id = save_by_form(client)
    asked = client.send(f"/my-cars/{vehicle_id}/withdraw")
    assert (asked.status_code, "Withdraw car" in asked.text) == (200, True)
    assert client.send(f"/my-cars/{vehicle_id}/withdraw", confirmed="yes").status_code == 303
    assert "withdrawn" in client.get("/my-cars").text
    assert (services.online.get(vehicle_id), listed(client)) == (None, [vehicle_id])
    assert "Save changes" not in client.get(f"/?vehicle_id={vehicle_id}").text
    assert changed(client, vehicle_id, actual_price=70).status_code == 409
    client.send(f"/my-cars/{vehicle_id}/name", name="")
    assert client.send(f"/my-cars/{vehicle_id}/delete", confirmed="yes").headers["Location"] == "/my-cars"
    assert services.source.get_vehicle(vehicle_id) is None


@pytest.mark.parametrize("by", ["owner", "operator"])
@pytest.mark.parametrize("is_booked", [False, True])
def test_a_deleted_car_leaves_its_name_nowhere(
    app: Flask, client: Visitor, services: Services, tmp_path: Path, by: str, *, is_booked: bool
) -> None:
    vehicle_id = save_by_form(client)
    client.send(f"/my-cars/{vehicle_id}/name", name=SECRET_NAME)
    changed(client, vehicle_id, actual_price=70)
    who = client if by == "owner" else app.test_client()
    if by == "operator":
        assert who.sign_in() == 302
    if is_booked:
        book(services.source, tmp_path, vehicle_id)
        assert who.delete(f"/vehicles/{vehicle_id}", headers=OPERATOR).status_code == 409
    assert who.send(f"/my-cars/{vehicle_id}/delete", confirmed="yes").status_code == 303
    assert listed(client) == []
    stored = services.source.get_vehicle(vehicle_id)
    known = stored and (stored.name, stored.owner_hash, bool(stored.withdrawn_at))
    assert known == ((None, None, True) if is_booked else None)
    assert "Käfer" not in all_stored(services)


def test_a_private_link_carries_the_cars_until_it_is_revoked(
    app: Flask, client: Visitor, caplog: pytest.LogCaptureFixture
) -> None:
    vehicle_id = save_by_form(client)
    phone, thief = app.test_client(), app.test_client()
    link = urlsplit(form_value(client.send("/my-cars/share").text, "private-link")).path
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
    assert phone.send("/my-cars/link", confirmed="yes").status_code == 303
    assert listed(phone) == listed(client) == [own, vehicle_id]
    assert thief.send(link).status_code == 303
    assert listed(thief) == [own, vehicle_id]

    assert "Revoke the private link?" in client.send("/my-cars/revoke").text
    client.send("/my-cars/revoke", confirmed="yes")
    assert listed(client) == [own, vehicle_id]
    assert listed(thief) == listed(phone) == []
    assert app.test_client().get(link).status_code == 404
    assert changed(thief, vehicle_id, actual_price=70).status_code == 401
    later = save_by_form(phone, actual_price=62)  # not by the id that the thief has
    assert (listed(phone), listed(thief)) == ([later], [])


def test_a_program_changes_a_car_only_in_the_version_that_it_read(
    app: Flask, client: Visitor, services: Services, tmp_path: Path
) -> None:
    vehicle_id, program = client.save(), app.test_client()
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
    for other, codes in ((1, {404, 409}), (BIGGEST_ID, {404})):
        answer = program.put(f"/vehicles/{other}", json=body, headers=OPERATOR | {"If-Match": "*"})
        assert answer.status_code in codes
    own = f"/vehicles/{save_by_form(client)}"
    headers = {"X-CSRFToken": client.token(), "If-Match": client.get(own).headers["ETag"]}
    assert client.put(own, json=body, headers=headers).status_code == 200  # with the token of a form
