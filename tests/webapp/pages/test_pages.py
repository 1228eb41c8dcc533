"""Pages without a browser: what is in them, what their forms do, and that they do not wait."""

import base64
import csv
import re
from collections.abc import Iterator
from hashlib import sha256
from html import unescape
from urllib.parse import parse_qsl

import pytest
from flask.testing import FlaskClient

from tests.faults import FaultyProxy
from tests.snapshots import SAMPLE
from tests.vroom_features.stores import arrive
from tests.webapp.conftest import csrf_token, sign_in
from vroom_features.database.queries import VehicleFilter
from vroom_features.ingest.seed import seed
from vroom_features.vehicle import PRICE_MAX
from vroom_model.serving.what_if import NUM_PRICES
from webapp.rendering.formats import plain
from webapp.rendering.forms import DEFAULTS
from webapp.rendering.listing import PAGE_SIZE
from webapp.services import Services


def page(client: FlaskClient, path: str, **query: object) -> str:
    answer = client.get(path, query_string=query or None, headers={"Accept": "text/html"})
    assert answer.status_code == 200
    return unescape(answer.text)


def listed_ids(shown: str) -> list[int]:
    return [
        int(found) for found in re.findall(r'<th scope="row"><a href="/(?:\?vehicle_id=|fleet/)(\d+)"', shown)
    ]


@pytest.fixture(autouse=True)
def no_arrivals(services: Services) -> Iterator[None]:
    yield
    for vehicle in services.source.list_vehicles(kind="new", page_size=1_000).items:
        services.source.delete_vehicle(vehicle.vehicle_id)


def test_cars_are_listed_by_page_and_deleted_by_the_operator(client: FlaskClient, services: Services) -> None:
    first, *others = [arrive(services.source) for _ in range(PAGE_SIZE + 1)]
    for asked in ("-1", "9" * 5_000, "two"):
        assert "page 1 of 2" in page(client, "/arrivals", page=asked)
    for asked in ("2", "99999999"):
        shown = page(client, "/arrivals", page=asked)
        assert "page 2 of 2" in shown
        assert listed_ids(shown) == [first]
    assert "Delete<" not in shown
    assert sign_in(client) == 302
    assert f'Delete<span class="quiet"> car {first}</span>' in page(client, "/arrivals", page=2)
    address, form = f"/arrivals/{first}/delete?page=2", {"csrf_token": csrf_token(client)}
    asked = client.post(address, data=form).text
    assert f"Delete car {first}?" in asked
    assert 'name="confirmed" value="yes"' in asked
    assert services.source.get_vehicle(first) is not None
    answer = client.post(address, data=form | {"confirmed": "yes"})
    assert answer.location == "/arrivals?page=2"
    shown = page(client, answer.location)
    assert f"Car {first} is deleted." in shown
    assert listed_ids(shown) == others[::-1]


def test_what_is_not_there_is_not_found(client: FlaskClient) -> None:
    for text in ("abc", "", "-1", "1.5", "9" * 30, "1000000999"):
        answer = client.get("/", query_string={"vehicle_id": text}, headers={"Accept": "text/html"})
        assert answer.status_code == 404, text
        assert "No such vehicle" in answer.text
    answer = client.get("/nowhere", headers={"Accept": "text/html"})
    assert answer.status_code == 404
    assert "<h1>Not Found</h1>" in answer.text


def test_the_form_of_a_stored_car_takes_its_own_price(client: FlaskClient, services: Services) -> None:
    for price in (45.125, 0.005, PRICE_MAX):
        shown = page(client, "/", vehicle_id=arrive(services.source, actual_price=price))
        (field,) = re.findall(r'<input id="actual_price".*?>', shown, re.DOTALL)
        assert re.findall(r'value="([^"]*)"', field) == [plain(price)]
        assert "Must be" not in shown


def test_the_form_without_scripts_forecasts_and_saves_once(client: FlaskClient, services: Services) -> None:
    form = DEFAULTS | {"actual_price": "52", "form_key": "k", "csrf_token": csrf_token(client)}
    shown = client.post("/", data=form | {"action": "forecast"}, follow_redirects=True)
    assert "about 77% of the cars priced up to 10% above market do." in shown.text
    assert dict(parse_qsl(shown.request.query_string.decode())) == DEFAULTS | {"actual_price": "52"}
    details = client.post("/details", data=form).text
    assert "association" in details
    assert details.count('<th scope="row" data-v=') == 2 * NUM_PRICES  # what a chart shows is a table too
    first, second = (client.post("/", data=form | {"action": "save"}) for _ in range(2))
    assert first.location == second.location
    assert services.source.count_vehicles().new_arrivals == 1
    assert f"Saved as car {first.location.partition('saved=')[2]}." in page(client, first.location)
    client.post("/", data=form | {"action": "save", "actual_price": "53"})
    assert services.source.count_vehicles().new_arrivals == 2


def test_a_wrong_field_comes_back_with_its_error_and_what_was_typed(client: FlaskClient) -> None:
    typed = {"num_images": "2.5", "description": "33", "actual_price": "-3", "technology": "7"}
    form = DEFAULTS | typed | {"csrf_token": csrf_token(client), "action": "save"}
    answer = client.post("/", data=form)
    assert answer.status_code == 422
    errors = dict(re.findall(r'id="(\w+)-error">([^<]+)<', answer.text))
    assert errors == {
        "num_images": "Must be a whole number.",
        "actual_price": "Must be more than 0.",
        "technology": "Choose one of the two.",
    }
    assert 'value="2.5"' in answer.text
    assert 'value="33"' in answer.text
    assert "Correct the marked field to see the forecast." in answer.text
    details = client.post("/details", data=form)
    assert details.status_code == 422
    assert dict(re.findall(r'id="(\w+)-error">([^<]+)<', details.text)) == errors


def test_the_fleet_is_sorted_and_narrowed(client: FlaskClient, services: Services) -> None:
    seed(services.source, SAMPLE)
    shown = page(client, "/fleet", sort="num_reservations", order="desc", page=2)
    assert "1,000 cars · page 2 of 40" in shown
    counts = [int(text) for text in re.findall(r'<td class="num"><strong>(\d+)</strong>', shown)]
    assert counts == sorted(counts, reverse=True)
    assert 'aria-sort="descending"' in shown
    found = listed_ids(page(client, "/fleet", q="77"))
    assert {str(number)[:2] for number in found} == {"77"}
    query = {"booking": "arranged", "price": "market", "sort": "actual_price", "order": "desc"}
    where = VehicleFilter(technology=0, is_overpriced=False)
    total = services.source.list_vehicles(kind="fleet", where=where).total
    assert 0 < total < 500
    shown = page(client, "/fleet", **query)
    assert f"{total} cars" in shown
    assert '<option value="arranged" selected>' in shown
    file = client.get("/fleet.csv", query_string=query)
    assert "content-length" not in file.headers  # it is sent as it is made
    rows = list(csv.DictReader(file.text.splitlines()))
    assert len(rows) == total
    assert {row["technology"] for row in rows} == {"0"}
    prices = [float(row["actual_price"]) for row in rows]
    assert prices == sorted(prices, reverse=True)
    assert listed_ids(shown) == [int(row["vehicle_id"]) for row in rows[:PAGE_SIZE]]
    made = client.post("/predict/id", json={"vehicle_id": listed_ids(shown)[0]}).json
    expected = (made["predicted_reservations"], *(made["interval"][end] for end in ("low", "high")))
    written = tuple(float(rows[0][name]) for name in ("predicted_reservations", "low", "high"))
    assert written == pytest.approx(expected, abs=0.0006)
    assert rows[0]["model_version"] == str(made["model_version"])
    none = page(client, "/fleet", q="999999", **query)
    assert "No car number begins with “999999”, with these filters" in none


def test_an_operation_is_offered_to_the_operator_alone_and_confirmed_first(client: FlaskClient) -> None:
    assert 'id="start-train"' not in page(client, "/models")
    sign_in(client)
    shown = page(client, "/models")
    assert 'id="start-train" disabled>Train a model<' in shown  # nothing listens where Prefect should
    assert "Prefect is not reachable, so nothing can be started here." in shown
    assert "Prefect is not reachable." in page(client, "/runs")
    asked = client.post("/operations/train", data={"csrf_token": csrf_token(client)}).text
    assert "Train a model on the latest snapshot?" in asked
    assert 'name="confirmed" value="yes"' in asked


def test_a_page_has_its_styles_and_its_policy_allows_no_others(client: FlaskClient) -> None:
    answer = client.get("/runs")
    (styles,) = re.findall(r"<style>(.*?)</style>", answer.text, re.DOTALL)
    digest = base64.b64encode(sha256(styles.encode()).digest()).decode()
    assert f"style-src 'sha256-{digest}';" in answer.headers["Content-Security-Policy"]
    for rule in (".skip", ".sheet", ".desk", ".chart", ".u-over"):  # one of each part
        assert rule in styles


def test_browsers_cache_a_script_of_this_release_and_of_no_other(client: FlaskClient) -> None:
    (address,) = re.findall(r'<script type="module" src="([^"]+)"', client.get("/runs").text)
    with client.get(address) as ours, client.get("/static/0123456789abcdef/js/app.js") as other:
        assert ours.content_type.startswith("text/javascript")
        assert ours.cache_control.immutable
        assert other.status_code == 200
        assert other.cache_control.no_cache
        assert other.cache_control.max_age is None
    for name in ("js/none.js", "../app.py", "js/"):
        assert client.get(f"/static/0123456789abcdef/{name}").status_code == 404


def test_the_models_page_does_not_wait_for_the_registry(client: FlaskClient, proxy: FaultyProxy) -> None:
    with client.session_transaction() as session:
        session["_flashes"] = [("good", "Read again.")]
    proxy.fault = "hang"
    parts = client.get("/models", headers={"Accept": "text/html"}).iter_encoded()
    head = next(parts).decode()
    assert "</nav>" in head
    assert "<h1>Models</h1>" in head
    proxy.heal()
    rest = b"".join(parts).decode()
    assert "Champion: model" in rest
    assert "The registry cannot be read" not in rest
    assert rest.rstrip().endswith("</html>")
    assert "Read again." in head + rest
    assert "Read again." not in page(client, "/models")
