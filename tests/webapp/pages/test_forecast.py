"""What the pages of a host take and say, without a browser."""

import gzip
import re
from datetime import date
from html import unescape
from itertools import product

import pytest
from flask.testing import FlaskClient

from tests.factories import VEHICLE
from tests.snapshots import SAMPLE
from tests.vroom_features.stores import arrive
from tests.webapp.conftest import Models, csrf_token, sign_in
from tests.webapp.registry import snapshot_ref
from vroom_features.ingest.seed import seed
from vroom_features.watch import Watch
from webapp.rendering.forms import DEFAULTS, read_entry
from webapp.services import Services


def words(client: FlaskClient, path: str) -> str:
    """Return what a page says."""
    answer = client.get(path, headers={"Accept": "text/html"})
    assert answer.status_code == 200, answer.text
    text = re.sub(r"<style>.*?</style>|<[^>]+>", " ", answer.text, flags=re.DOTALL)
    return " ".join(unescape(text).split())


@pytest.fixture(scope="module", autouse=True)
def fleet(app: object) -> None:
    services: Services = app.extensions["vroom"]  # type: ignore[attr-defined]
    seed(services.source, SAMPLE)


@pytest.mark.parametrize(
    ("typed", "price"),
    [
        *[("62,50", 62.5), ("62.5", 62.5), (" 1 250 ", 1250), ("1\u00a0250,75", 1250.75), ("1'250", 1250)],
        *[("1.250,00", 1250), ("1,250.00", 1250), ("1,250", 1250), ("1.234.567,8", None), ("€ 62", 62)],
        *[("45.125", 45.125), (",5", 0.5), ("62,", 62), ("1.2.3", None), ("6,2,50", None), ("nan", None)],
        *[("-5", None), ("", None), ("6 Euro", None), ("\u0661", None)],
    ],
)
def test_a_price_is_read_as_people_type_it(typed: str, price: float | None) -> None:
    entry = read_entry(DEFAULTS | {"actual_price": typed})
    assert (entry.vehicle.actual_price if entry.vehicle else None) == price
    assert set(entry.errors) == (set() if price else {"actual_price"})


@pytest.mark.parametrize("prices", list(product(("5e-324", "0.004", "1000000"), repeat=2)))
def test_prices_at_the_edge_are_forecast(client: FlaskClient, prices: tuple[str, str]) -> None:
    own, market = prices
    assert "bookings a year" in words(
        client, f"/?actual_price={own}&recommended_price={market}&booking_days=365"
    )


def test_the_length_of_a_text_is_taken_and_the_text_is_not_kept(client: FlaskClient) -> None:
    form = DEFAULTS | {"csrf_token": csrf_token(client), "description_text": " A car\r\nof ours. "}
    answer = client.post("/", data=form, follow_redirects=True)
    assert 'value="14"' in answer.text
    assert "of ours" not in answer.text + answer.request.url


def test_what_lies_outside_is_said_at_the_field_and_beside_the_number(client: FlaskClient) -> None:
    said = words(client, "/?num_images=30&actual_price=170&recommended_price=60")
    assert "Outside what the model has seen: your price, photos." in said
    assert "The model has seen 0 to 5." in said
    assert "The model has seen no such price beside this market price." in said
    assert "if a booking is one day" not in said  # no income of a price that nobody asked
    assert "Outside" not in words(client, "/")


def test_the_address_holds_two_cars_beside_the_form_and_leaves_out_what_it_cannot_read(
    client: FlaskClient,
) -> None:
    form = DEFAULTS | {"csrf_token": csrf_token(client), "action": "pin"}
    location = "/?pin=actual_price%3Dnone&pin="
    for price in ("51", "52", "53", "53"):
        (pins,) = [re.findall(r'name="pin" value="([^"]+)"', client.get(location).text)]
        data = form | {"actual_price": price, "pin": [unescape(pin) for pin in pins]}
        location = client.post("/", data=data).location
    said = words(client, location)
    assert "This car Pinned 1 Pinned 2" in said
    assert "Your price 53 52 53" in said
    assert client.get("/?actual_price=none").status_code == 422


def test_a_car_of_the_fleet_has_a_page_with_what_it_got_and_others_like_it(
    client: FlaskClient, services: Services
) -> None:
    said = words(client, "/fleet/12")
    vehicle = services.source.get_vehicle(12)
    assert vehicle is not None
    assert f"Booked in 364 days {vehicle.num_reservations} Forecast for 364 days 5.0" in said
    model = services.slot.current
    assert model is not None
    found = services.fleet.similar(model, vehicle.model_dump(), but=12)
    assert len(found) == 10
    assert 12 not in {each.vehicle_id for each in found}
    assert services.fleet.similar(model, vehicle.model_dump())[0].vehicle_id == 12
    for each in found:
        assert f"{each.vehicle_id} {each.outcome:.0f} {each.raw['actual_price']:.2f}" in said
    assert said.count("/fleet/12") == 0
    new = arrive(services.source)
    assert client.get(f"/fleet/{new}").location == f"/?vehicle_id={new}"
    for unknown in (999_999, 10**30):
        assert client.get(f"/fleet/{unknown}", headers={"Accept": "text/html"}).status_code == 404
    assert 12 not in listed(client.get("/?vehicle_id=12").text)
    services.source.delete_vehicle(new)


def listed(page: str) -> set[int]:
    return set(map(int, re.findall(r'href="/fleet/(\d+)"', page)))


def test_numbers_are_those_of_a_year_whatever_the_model_counts(
    client: FlaskClient, services: Services, models: Models
) -> None:
    champion = models.champion()
    models.crown(models.register(4.0, snapshot=snapshot_ref(Watch(73, date(2023, 12, 30))), segments=()))
    services.listener.refresh()
    said = words(client, "/?actual_price=50&recommended_price=50&booking_days=2")
    assert "20.0 bookings a year, 1.7 a month" in said
    assert "Expect 15 to 25 bookings a year; about 8 in 10 similar cars do." in said
    assert "From the bookings in the 73 days of 2023-10-19 to 2023-12-30." in said
    assert "About 2,000 a year, 1,500 to 2,500, if a booking is 2 days." in said
    assert "The average car gets 20.0. Your car differs by:" in said
    models.crown(champion)
    services.listener.refresh()


def test_what_has_no_secret_is_compressed(client: FlaskClient) -> None:
    (script,) = re.findall(r'<script type="module" src="([^"]+)"', client.get("/").text)
    for path in (
        script,
        "/vehicles?page_size=200",
        "/fleet/points",
        "/fleet.csv",
        "/fleet?q=7",
        "/openapi.json",
    ):
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


def test_a_page_with_a_token_beside_what_was_typed_is_not_compressed(client: FlaskClient) -> None:
    assert sign_in(client) == 302
    for path in ("/", "/?actual_price=77", "/fleet?q=7", "/fleet/12", "/arrivals", "/sign-in"):
        answer = client.get(path, headers={"Accept-Encoding": "gzip"})
        assert "csrf_token" in answer.text
        assert "Content-Encoding" not in answer.headers, path
    made = client.post("/predict", json=VEHICLE, headers={"Accept-Encoding": "gzip"})
    assert "Content-Encoding" not in made.headers
