"""Vehicles over the JSON API, with either database: saved, listed, described and deleted."""

from collections.abc import Iterator
from datetime import UTC, datetime
from uuid import uuid4

import psycopg
import pytest
from flask.testing import FlaskClient

from tests.factories import VEHICLE
from tests.webapp.conftest import Promote
from tests.webapp.registry import Models
from tests.webapp.waiting import wait_until
from vroom_features.online.rows import online_row
from webapp.services import Services

pytestmark = [pytest.mark.shared_app, pytest.mark.usefixtures("shared_database_url")]


@pytest.fixture(scope="module", params=["sqlite", "postgresql"])
def shared_database_url(request: pytest.FixtureRequest) -> Iterator[str]:
    if request.param == "sqlite":
        yield ""
        return
    postgres, name = request.getfixturevalue("postgres"), f"t{uuid4().hex}"
    with psycopg.connect(postgres, autocommit=True) as connection:
        connection.execute(f"CREATE DATABASE {name}")
        yield postgres.replace("/postgres?", f"/{name}?")
        connection.execute(f"DROP DATABASE {name} WITH (FORCE)")


@pytest.fixture
def key() -> dict[str, str]:
    return {"Idempotency-Key": uuid4().hex}


def save(client: FlaskClient) -> int:
    return int(client.post("/vehicles", json=VEHICLE).json["vehicle_id"])


def test_a_save_is_kept_forecast_and_listed(client: FlaskClient) -> None:
    response = client.post("/vehicles", json=VEHICLE)
    saved = response.json
    assert (response.status_code, saved["status"], saved["source"]) == (201, "new_arrival", "ui")
    assert saved in client.get("/vehicles?kind=new").json["vehicles"]
    features = client.get(f"/vehicles/{saved['vehicle_id']}/features").json
    assert features["features"]["price_diff"] == VEHICLE["actual_price"] - VEHICLE["recommended_price"]
    listed = client.get("/vehicles/features").json["features"]
    assert features["features"] in [each["features"] for each in listed]


def test_the_same_key_saves_once_and_another_body_is_a_conflict(
    client: FlaskClient, key: dict[str, str]
) -> None:
    total = client.get("/vehicles").json["total"]
    first = client.post("/vehicles", json=VEHICLE, headers=key)
    again = client.post("/vehicles", json=VEHICLE, headers=key)
    assert (first.status_code, again.status_code) == (201, 201)
    assert "Idempotency-Replayed" not in first.headers
    assert again.headers["Idempotency-Replayed"] == "true"
    assert first.headers["Location"] == again.headers["Location"]
    assert first.json == again.json
    other = client.post("/vehicles", json=VEHICLE | {"num_images": 9}, headers=key)
    assert (other.status_code, other.json["title"]) == (409, "Idempotency key already used")
    assert client.get("/vehicles").json["total"] == total + 1
    refused = client.post("/vehicles", json=VEHICLE, headers={"idempotency-key": "x" * 201})
    assert (refused.status_code, refused.json["errors"][0]["field"]) == (422, "Idempotency-Key")


def test_features_are_sent_again_only_when_they_changed(client: FlaskClient, services: Services) -> None:
    vehicle_id = save(client)
    path = f"/vehicles/{vehicle_id}/features"
    etag = client.get(path).headers["ETag"]
    unchanged = client.get(path, headers={"If-None-Match": etag})
    assert (unchanged.status_code, unchanged.data) == (304, b"")
    assert client.get(path, headers={"If-None-Match": '"other"'}).status_code == 200
    services.redis.flushdb()
    vehicle = services.source.get_vehicle(vehicle_id)
    assert vehicle is not None
    services.online.put([online_row(vehicle, materialized_at=datetime(2026, 1, 1, tzinfo=UTC))])
    made_again = client.get(path, headers={"If-None-Match": etag})
    assert (made_again.status_code, made_again.json["source"]) == (200, "online_store")
    assert made_again.headers["ETag"] != etag


@pytest.mark.parametrize("path", ["/vehicles?sort=actual_price", "/vehicles/features", "/model"])
def test_lists_and_the_model_are_sent_again_only_when_something_changed(
    client: FlaskClient, path: str, models: Models, promote: Promote
) -> None:
    save(client)
    first = client.get(path)
    known = {"If-None-Match": first.headers["ETag"]}
    unchanged = client.get(path, headers=known)
    assert (unchanged.status_code, unchanged.data) == (304, b"")
    if path == "/model":
        version = models.register(6.0)
        promote(version)
        wait_until(lambda: client.get("/health").json["model_version"] == version)
    else:
        save(client)
    changed = client.get(path, headers=known)
    assert changed.status_code == 200
    assert changed.json != first.json


def test_only_vehicles_typed_in_can_be_deleted_and_only_by_the_operator(
    client: FlaskClient, operator: dict[str, str]
) -> None:
    vehicle_id = save(client)
    path = f"/vehicles/{vehicle_id}"
    assert client.delete(path).status_code == 401
    assert client.delete(path, headers=operator).status_code == 204
    assert client.delete(path, headers=operator).status_code == 404
    assert client.post("/predict/id", json={"vehicle_id": vehicle_id}).status_code == 404


def test_a_save_is_not_repeated_once_its_vehicle_was_deleted(
    client: FlaskClient, operator: dict[str, str], key: dict[str, str]
) -> None:
    vehicle_id = client.post("/vehicles", json=VEHICLE, headers=key).json["vehicle_id"]
    assert client.delete(f"/vehicles/{vehicle_id}", headers=operator).status_code == 204
    again = client.post("/vehicles", json=VEHICLE, headers=key)
    described = client.get("/openapi.json").json["paths"]["/vehicles"]["post"]["responses"]
    assert (again.status_code, str(again.status_code) in described) == (404, True)
