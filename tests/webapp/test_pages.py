"""Pages without a browser: what their addresses show, and how numbers are written."""

import re

import pytest
from flask.testing import FlaskClient
from hypothesis import example, given
from hypothesis import strategies as st

from tests.factories import make_vehicle
from tests.webapp.records import add_record
from tests.webapp.test_auth import csrf_token, sign_in
from tests.webapp.waiting import wait_until
from vroom_features.vehicle import PRICE_MAX
from webapp.rendering.formats import duration, size
from webapp.rendering.listing import PAGE_SIZE
from webapp.services import Services, now


def save(services: Services, **changes: object) -> int:
    """Save a vehicle and return its id."""
    return services.source.save_vehicle(make_vehicle(**changes), saved_at=now()).vehicle.vehicle_id


def test_a_page_beyond_the_end_of_a_list_is_its_last_one(client: FlaskClient, services: Services) -> None:
    first, *_ = [save(services) for _ in range(PAGE_SIZE + 1)]
    for address in ("/arrivals?page=2", "/arrivals?page=3", "/arrivals?page=99999999"):
        shown = client.get(address).text
        assert "page 2 of 2" in shown
        assert re.findall(r'id="vehicle-(\d+)"', shown) == [str(first)]


def test_deleting_the_only_car_of_the_last_page_leads_to_the_page_before(
    client: FlaskClient, services: Services
) -> None:
    first, *others = [save(services) for _ in range(PAGE_SIZE + 1)]
    address = f"/arrivals/{first}/delete?page=2"
    assert sign_in(client) == 302
    answer = client.post(address, data={"confirmed": "yes", "csrf_token": csrf_token(client)})
    assert answer.location == "/arrivals?page=2"
    shown = client.get(answer.location).text
    assert re.findall(r'id="vehicle-(\d+)"', shown) == [str(number) for number in reversed(others)]


@pytest.mark.parametrize("text", ["abc", "", "-1", "1.5", "9" * 30, "1000000999"])
def test_a_car_that_cannot_be_is_not_found_instead_of_the_example(client: FlaskClient, text: str) -> None:
    answer = client.get("/", query_string={"vehicle_id": text}, headers={"Accept": "text/html"})
    assert answer.status_code == 404
    assert "No such vehicle" in answer.text


@pytest.mark.parametrize("price", [45.125, 0.005, PRICE_MAX])
def test_the_form_of_a_stored_car_takes_its_own_price(
    client: FlaskClient, services: Services, price: float
) -> None:
    shown = client.get("/", query_string={"vehicle_id": save(services, actual_price=price)}).text
    field = re.search(r'<input id="actual_price".*?>', shown, re.DOTALL)
    assert field is not None
    limits = dict(re.findall(r'(min|max|step|value)="([^"]*)"', field[0]))
    assert float(limits["value"]) == price
    assert float(limits["min"]) < price <= float(limits["max"])
    assert limits["step"] == "any"


@pytest.mark.usefixtures("champion")
def test_workers_moments_are_written_for_people(client: FlaskClient, services: Services) -> None:
    wait_until(lambda: services.heartbeat.is_redis_up and any(services.heartbeat.workers()))
    roster = client.get("/models").text.partition('id="roster"')[2]
    written = re.findall(r"<time[^>]*>([^<]*)</time>", roster)
    assert len(written) >= 2
    assert all(text.endswith(" UTC") for text in written)


@pytest.mark.usefixtures("champion")
def test_a_rollback_is_withheld_until_there_is_an_earlier_champion(
    client: FlaskClient, services: Services
) -> None:
    reason = "There is no earlier champion to go back to."
    assert reason in client.get("/models").text
    for version in (2, 1):
        add_record(services, version=version)
    assert reason not in client.get("/models").text


@given(st.floats(0, 1e6))
@example(119.7)
@example(59.97)
@example(3599.8)
def test_a_duration_has_no_sixtieth_second_and_is_near(seconds: float) -> None:
    text = duration(seconds)
    minutes, rest = re.fullmatch(r"(?:(\d+) min )?([\d.]+) s", text).groups()  # type: ignore[union-attr]
    assert float(rest) < 60
    assert abs(60 * int(minutes or 0) + float(rest) - seconds) <= (0.5 if minutes else 0.0501)


@given(st.floats(0, 1e12))
@example(999_960)
@example(999.6)
def test_a_size_stays_below_a_thousand_of_its_unit_and_is_near(num_bytes: float) -> None:
    number, unit = size(num_bytes).split()
    assert float(number) < 1000 or unit == "GB"
    factor = {"B": 1, "kB": 1e3, "MB": 1e6, "GB": 1e9}[unit]
    assert abs(float(number) * factor - num_bytes) <= 0.0501 * factor + 0.5
