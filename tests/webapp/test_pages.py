"""Pages without a browser: what their addresses show, and how numbers are written."""

import re

from flask.testing import FlaskClient

from tests.factories import make_vehicle
from tests.webapp.test_auth import csrf_token, sign_in
from webapp.clock import now
from webapp.listing import PAGE_SIZE
from webapp.services import Services


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
