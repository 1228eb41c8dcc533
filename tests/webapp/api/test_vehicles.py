"""Vehicles over the JSON API, with either database: saved, listed, exported and deleted."""

import csv
from collections.abc import Iterator
from datetime import UTC, datetime
from pathlib import Path
from uuid import uuid4

import pytest

from tests.conftest import new_database
from tests.factories import VEHICLE
from tests.promises.system import wait_until
from tests.vroom_features.files import booking_lines, vehicle_line, write_csvs
from tests.vroom_features.stores import arrive
from tests.webapp.conftest import OPERATOR, Models, Promote, Visitor
from vroom_features.ingest.seed import seed
from vroom_features.online.rows import online_row
from vroom_features.online.store import Synced
from vroom_features.vehicle import VehicleCreate
from webapp.services import Services, now
from webapp.serving.store_state import online_state


@pytest.fixture(scope="module", params=["sqlite", "postgresql"])
def own_settings(request: pytest.FixtureRequest) -> Iterator[dict[str, object]]:
    if request.param == "sqlite":
        yield {}
        return
    with new_database(request.getfixturevalue("postgres")) as url:
        yield {"database_url": url}


def test_a_key_saves_one_vehicle_until_it_is_deleted(client: Visitor) -> None:
    key = {"Idempotency-Key": uuid4().hex}
    first, again = (client.post("/vehicles", json=VEHICLE, headers=key) for _ in range(2))
    assert (first.status_code, again.status_code) == (201, 201)
    assert "Idempotency-Replayed" not in first.headers
    assert again.headers["Idempotency-Replayed"] == "true"
    assert first.headers["Location"] == again.headers["Location"]
    assert first.json == again.json
    assert client.get("/vehicles?kind=new").json["vehicles"] == [first.json]
    other = client.post("/vehicles", json=VEHICLE | {"num_images": 9}, headers=key)
    assert (other.status_code, other.json["title"]) == (409, "Idempotency key already used")
    assert client.delete(f"/vehicles/{first.json['vehicle_id']}", headers=OPERATOR).status_code == 204
    again = client.post("/vehicles", json=VEHICLE, headers=key)
    described = client.get("/openapi.json").json["paths"]["/vehicles"]["post"]["responses"]
    assert (again.status_code, str(again.status_code) in described) == (404, True)
    refused = client.post("/vehicles", json=VEHICLE, headers={"idempotency-key": "x" * 201})
    assert (refused.status_code, refused.json["errors"][0]["field"]) == (422, "Idempotency-Key")


def test_a_car_of_an_earlier_release_with_a_thousand_photos_is_still_read(
    client: Visitor, services: Services
) -> None:
    old = VehicleCreate.model_construct(**VEHICLE | {"num_images": 1_000, "actual_price": 9e6})
    vehicle_id = services.source.save_vehicle(old, saved_at=now()).vehicle.vehicle_id
    assert client.post("/predict/id", json={"vehicle_id": vehicle_id}).json["outside"] != []
    (listed,) = client.get(f"/vehicles?search={vehicle_id}").json["vehicles"]
    assert (listed["num_images"], listed["actual_price"]) == (1_000, 9e6)
    assert "Must be at most 100." in client.get(f"/?vehicle_id={vehicle_id}").text
    services.source.delete_vehicle(vehicle_id)


def test_features_are_sent_again_only_when_they_changed(client: Visitor, services: Services) -> None:
    vehicle_id = client.save()
    path = f"/vehicles/{vehicle_id}/features"
    etag = client.get(path).headers["ETag"]
    unchanged = client.get(path, headers={"If-None-Match": etag})
    assert (unchanged.status_code, unchanged.data) == (304, b"")
    services.redis.flushdb()
    vehicle = services.source.get_vehicle(vehicle_id)
    services.online.put([online_row(vehicle, materialized_at=datetime(2026, 1, 1, tzinfo=UTC))])
    made_again = client.get(path, headers={"If-None-Match": etag})
    assert (made_again.status_code, made_again.json["source"]) == (200, "online_store")
    assert made_again.headers["ETag"] != etag


@pytest.mark.parametrize("path", ["/vehicles?sort=actual_price", "/vehicles/features", "/model"])
def test_lists_and_model_have_etags(client: Visitor, path: str, models: Models, promote: Promote) -> None:
    first = client.get(path)
    known = {"If-None-Match": first.headers["ETag"]}
    unchanged = client.get(path, headers=known)
    assert (unchanged.status_code, unchanged.data) == (304, b"")
    client.save()
    if path == "/model":
        version = models.register(6.0)
        promote(version)
        wait_until(lambda: client.serves(version))
    changed = client.get(path, headers=known)
    assert changed.status_code == 200
    assert changed.json != first.json


def test_a_missing_row_and_those_of_another_database_are_written_by_the_next_beat(
    client: Visitor, services: Services
) -> None:
    client.save()
    wait_until(lambda: online_state(services).is_in_sync)
    num_rows = services.source.count_vehicles().new_arrivals
    state = online_state(services)
    assert (state.num_rows, state.num_checked, state.num_fresh) == (num_rows,) * 3
    arrive(services.source)
    assert online_state(services).num_missing == 1
    services.heartbeat.beat_soon()
    wait_until(lambda: online_state(services).is_in_sync)
    services.online.mark_synced(another := Synced("another", 1))
    services.heartbeat.beat_soon()
    wait_until(lambda: services.online.synced() != another)
    wait_until(lambda: online_state(services).is_in_sync)
    assert "in sync" in client.page("/feature-stores")


def test_the_file_has_each_vehicle_once(client: Visitor, services: Services, tmp_path: Path) -> None:
    fleet = [vehicle_line(number) for number in range(1, 2_501)]
    booked = booking_lines([(1_500, 1)])
    seed(services.source, write_csvs(tmp_path / "before", fleet, booked))
    parts = client.get("/fleet.csv?order=desc").iter_encoded()
    begin = [next(parts), next(parts)]  # the header, and the first vehicles
    sent, not_sent = {*range(2_401, 2_501)}, {*range(10, 20)}
    left = [line for number, line in enumerate(fleet, 1) if number not in sent | not_sent]
    seed(services.source, write_csvs(tmp_path / "after", left, booked))
    rows = csv.DictReader(b"".join([*begin, *parts]).decode().splitlines())
    numbers = [int(row["vehicle_id"]) for row in rows]
    assert numbers == sorted({*range(1, 2_501)} - not_sent, reverse=True)
