"""The forecast page without a browser: what its form takes, and what it says."""

import re
from datetime import date
from html import unescape
from itertools import product
from urllib.parse import parse_qsl

import pytest

from tests.vroom_features.stores import arrive
from tests.webapp.conftest import HTML, Models, Visitor
from tests.webapp.registry import snapshot_ref
from vroom_features.vehicle import PRICE_MAX
from vroom_features.watch import Watch
from vroom_model.serving.what_if import NUM_PRICES
from webapp.rendering.formats import plain
from webapp.rendering.forms import DEFAULTS, read_entry
from webapp.services import Services


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


def test_prices_at_the_edge_are_forecast(client: Visitor) -> None:
    for own, market in product(("5e-324", "0.004", "1000000"), repeat=2):
        prices = {"actual_price": own, "recommended_price": market, "booking_days": 365}
        assert "bookings a year" in client.words("/", **prices)


def test_the_form_of_a_stored_car_takes_its_own_price(client: Visitor, services: Services) -> None:
    for price in (45.125, 0.005, PRICE_MAX):
        shown = client.page("/", vehicle_id=arrive(services.source, actual_price=price))
        (field,) = re.findall(r'<input id="actual_price".*?>', shown, re.DOTALL)
        assert re.findall(r'value="([^"]*)"', field) == [plain(price)]
        assert "Must be" not in shown


def test_a_car_that_is_not_there_is_not_found(client: Visitor) -> None:
    for text in ("abc", "", "-1", "1.5", "9" * 30, "1000000999"):
        answer = client.get("/", query_string={"vehicle_id": text}, headers=HTML)
        assert answer.status_code == 404, text
        assert "No such vehicle" in answer.text


def test_the_form_without_scripts_forecasts_at_an_address_of_its_own(client: Visitor) -> None:
    typed = {"actual_price": "52", "description_text": " A car\r\nof ours. "}
    shown = client.get(client.send("/", **DEFAULTS | typed | {"action": "forecast"}).location)
    assert "about 77% of the cars priced up to 10% above market do." in shown.text
    query = dict(parse_qsl(shown.request.query_string.decode()))
    assert query == DEFAULTS | {"actual_price": "52", "description": "14"}  # the text is counted and not kept
    assert "of ours" not in shown.text
    details = client.send("/details", **DEFAULTS).text
    assert "association" in details
    assert details.count('<th scope="row" data-v=') == 2 * NUM_PRICES  # what a chart shows is a table too


def test_a_wrong_field_comes_back_with_its_error_and_what_was_typed(client: Visitor) -> None:
    typed = {"num_images": "2.5", "description": "33", "actual_price": "-3", "technology": "7"}
    asked = (("/", "save"), ("/", "pin"), ("/details", "save"))
    answers = [client.send(path, **DEFAULTS | typed, action=action) for path, action in asked]
    assert ["Not saved yet." in answer.text for answer in answers] == [True, False, False]
    for answer in answers:
        assert answer.status_code == 422
        assert dict(re.findall(r'id="(\w+)-error">([^<]+)<', answer.text)) == {
            "num_images": "Must be a whole number.",
            "actual_price": "Must be more than 0.",
            "technology": "Choose one of the two.",
        }
    for text in ('value="2.5"', 'value="33"', "Correct the marked field to see the forecast."):
        assert text in answers[0].text


def test_what_lies_outside_is_said_at_the_field_and_beside_the_number(client: Visitor) -> None:
    said = client.words("/", num_images=30, actual_price=170, recommended_price=60)
    assert "Outside what the model has seen: your price, photos." in said
    assert "The model has seen 0 to 5." in said
    assert "The model has seen no such price beside this market price." in said
    assert "if a booking is one day" not in said  # no income of a price that nobody asked
    assert "Outside" not in client.words("/")


def test_the_address_holds_two_cars_beside_the_form_and_leaves_out_what_it_cannot_read(
    client: Visitor,
) -> None:
    location = "/?pin=actual_price%3Dnone&pin="
    for price in ("51", "52", "53", "53"):
        pins = [unescape(pin) for pin in re.findall(r'name="pin" value="([^"]+)"', client.get(location).text)]
        location = client.send("/", **DEFAULTS | {"actual_price": price}, action="pin", pin=pins).location
    said = client.words(location)
    assert "This car Pinned 1 Pinned 2" in said
    assert "Your price 53 52 53" in said
    assert client.get("/?actual_price=none").status_code == 422


def test_numbers_are_those_of_a_year_whatever_the_model_counts(
    client: Visitor, services: Services, models: Models
) -> None:
    models.crown(models.register(4.0, snapshot=snapshot_ref(Watch(73, date(2023, 12, 30))), segments=()))
    services.listener.refresh()
    said = client.words("/", actual_price=50, recommended_price=50, booking_days=2)
    for text in (
        "20.0 bookings a year, 1.7 a month",
        "Expect 15 to 25 bookings a year; about 8 in 10 similar cars do.",
        "From the bookings in the 73 days of 2023-10-19 to 2023-12-30.",
        "About 2,000 a year, 1,500 to 2,500, if a booking is 2 days.",
        "The average car gets 20.0. Your car differs by:",
    ):
        assert text in said
