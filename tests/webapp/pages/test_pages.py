"""Pages without a browser: lists of cars, and what holds for every page."""

import base64
import csv
import gzip
import re
from hashlib import sha256

import pytest
from flask import Flask

from tests.factories import VEHICLE
from tests.snapshots import SAMPLE
from tests.vroom_features.stores import arrive
from tests.webapp.conftest import HTML, Visitor
from vroom_features.database.queries import VehicleFilter
from vroom_features.ingest.seed import seed
from webapp.rendering.listing import PAGE_SIZE
from webapp.services import Services


@pytest.fixture(scope="module", autouse=True)
def fleet(app: Flask) -> None:
    seed(app.extensions["vroom"].source, SAMPLE)


def listed(page: str) -> list[int]:
    """Return the cars that a page lists."""
    return list(map(int, re.findall(r'<th scope="row"><a href="/(?:\?vehicle_id=|fleet/)(\d+)"', page)))


def test_cars_are_listed_by_page_and_deleted_by_the_operator(client: Visitor, services: Services) -> None:
    first, *others = [arrive(services.source) for _ in range(PAGE_SIZE + 1)]
    for asked in ("-1", "9" * 5_000, "two"):
        assert "page 1 of 2" in client.page("/arrivals", page=asked)
    for asked in ("2", "99999999"):
        shown = client.page("/arrivals", page=asked)
        assert "page 2 of 2" in shown
        assert listed(shown) == [first]
    assert "Delete<" not in shown
    client.sign_in()
    assert f'Delete<span class="quiet"> car {first}</span>' in client.page("/arrivals", page=2)
    address = f"/arrivals/{first}/delete?page=2"
    asked = client.send(address).text
    assert f"Delete car {first}?" in asked
    assert 'name="confirmed" value="yes"' in asked
    assert services.source.get_vehicle(first) is not None
    answer = client.send(address, confirmed="yes")
    assert answer.location == "/arrivals?page=2"
    shown = client.page(answer.location)
    assert f"Car {first} is deleted." in shown
    assert listed(shown) == others[::-1]


def test_the_fleet_is_sorted_and_narrowed(client: Visitor, services: Services) -> None:
    shown = client.page("/fleet", sort="num_reservations", order="desc", page=2)
    assert "1,000 cars · page 2 of 40" in shown
    counts = [int(text) for text in re.findall(r'<td class="num"[^>]*><strong>(\d+)</strong>', shown)]
    assert len(counts) == PAGE_SIZE
    assert counts == sorted(counts, reverse=True)
    assert 'aria-sort="descending"' in shown
    assert {str(number)[:2] for number in listed(client.page("/fleet", q="77"))} == {"77"}
    query = {"booking": "arranged", "price": "market", "sort": "actual_price", "order": "desc"}
    where = VehicleFilter(technology=0, is_overpriced=False)
    total = services.source.list_vehicles(kind="fleet", where=where).total
    assert 0 < total < 500
    shown = client.page("/fleet", **query)
    assert f"{total} cars" in shown
    assert '<option value="arranged" selected>' in shown
    file = client.get("/fleet.csv", query_string=query)
    assert "content-length" not in file.headers  # it is sent as it is made
    rows = list(csv.DictReader(file.text.splitlines()))
    assert len(rows) == total
    assert {row["technology"] for row in rows} == {"0"}
    prices = [float(row["actual_price"]) for row in rows]
    assert prices == sorted(prices, reverse=True)
    assert listed(shown) == [int(row["vehicle_id"]) for row in rows[:PAGE_SIZE]]
    made = client.post("/predict/id", json={"vehicle_id": listed(shown)[0]}).json
    expected = (made["predicted_reservations"], *(made["interval"][end] for end in ("low", "high")))
    written = tuple(float(rows[0][name]) for name in ("predicted_reservations", "low", "high"))
    assert written == pytest.approx(expected, abs=0.0006)
    assert rows[0]["model_version"] == str(made["model_version"])
    none = client.page("/fleet", q="999999", **query)
    assert "No car number begins with “999999”, with these filters" in none


def test_a_car_of_the_fleet_has_a_page_with_what_it_got_and_others_like_it(
    client: Visitor, services: Services
) -> None:
    assert "Photos 1 photo Parking" in client.words("/fleet/1")
    said, vehicle, model = client.words("/fleet/12"), services.source.get_vehicle(12), services.slot.current
    assert f"Booked in 364 days {vehicle.num_reservations} Forecast for 364 days 5.0" in said
    found = services.fleet.similar(model, vehicle.model_dump(), but=12)
    assert len(found) == 10
    assert 12 not in {each.vehicle_id for each in found}
    assert services.fleet.similar(model, vehicle.model_dump())[0].vehicle_id == 12
    for each in found:
        assert f"{each.vehicle_id} {each.outcome:.0f} {each.raw['actual_price']:.2f}" in said
    assert 12 not in listed(client.page("/", vehicle_id=12))
    new = arrive(services.source)
    assert client.get(f"/fleet/{new}").location == f"/?vehicle_id={new}"
    for unknown in ("/fleet/999999", f"/fleet/{10**30}", "/nowhere"):
        assert client.get(unknown, headers=HTML).status_code == 404


def test_what_has_no_secret_is_compressed(client: Visitor) -> None:
    (script,) = re.findall(r'<script type="module" src="([^"]+)"', client.get("/").text)
    lists = ("/vehicles?page_size=200", "/fleet/points", "/fleet.csv", "/fleet?q=7", "/openapi.json")
    for path in (script, *lists):
        plain, packed = (client.get(path, headers={"Accept-Encoding": kind}) for kind in ("", "gzip"))
        with plain, packed:
            assert "Accept-Encoding" in plain.headers["Vary"]
            assert "Content-Encoding" not in plain.headers
            assert packed.headers["Content-Encoding"] == "gzip", path
            assert gzip.decompress(packed.data) == plain.data
        if etag := packed.headers.get("ETag"):
            known = {"Accept-Encoding": "gzip", "If-None-Match": etag}
            with client.get(path, headers=known) as again:
                assert again.status_code == 304, path


def test_a_page_with_a_token_beside_what_was_typed_is_not_compressed(client: Visitor) -> None:
    client.sign_in()
    for path in ("/", "/?actual_price=77", "/fleet?q=7", "/fleet/12", "/arrivals", "/sign-in"):
        answer = client.get(path, headers={"Accept-Encoding": "gzip"})
        assert "csrf_token" in answer.text
        assert "Content-Encoding" not in answer.headers, path
    made = client.post("/predict", json=VEHICLE, headers={"Accept-Encoding": "gzip"})
    assert "Content-Encoding" not in made.headers


def test_a_page_has_its_styles_and_its_policy_allows_no_others(client: Visitor) -> None:
    answer = client.get("/runs")
    (styles,) = re.findall(r"<style>(.*?)</style>", answer.text, re.DOTALL)
    digest = base64.b64encode(sha256(styles.encode()).digest()).decode()
    assert f"style-src 'sha256-{digest}';" in answer.headers["Content-Security-Policy"]
    for rule in (".skip", ".sheet", ".desk", ".chart", ".u-over"):  # one of each part
        assert rule in styles


def test_browsers_cache_a_script_of_this_release_and_of_no_other(client: Visitor) -> None:
    (address,) = re.findall(r'<script type="module" src="([^"]+)"', client.get("/runs").text)
    with client.get(address) as ours, client.get("/static/0123456789abcdef/js/app.js") as other:
        assert ours.content_type.startswith("text/javascript")
        assert ours.cache_control.immutable
        assert other.status_code == 200
        assert other.cache_control.no_cache
        assert other.cache_control.max_age is None
    for name in ("js/none.js", "../app.py", "js/"):
        assert client.get(f"/static/0123456789abcdef/{name}").status_code == 404
