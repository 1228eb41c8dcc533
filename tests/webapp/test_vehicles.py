"""Vehicles over the JSON API, with either database: saved, listed, described and deleted."""

from collections.abc import Iterator
from datetime import UTC, datetime
from uuid import uuid4

import psycopg
import pytest
from flask.testing import FlaskClient

from tests.factories import VEHICLE
from tests.webapp.conftest import Models, Promote, answer, save
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


def test_a_key_saves_one_vehicle_until_it_is_deleted(client: FlaskClient, operator: dict[str, str]) -> None:
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
    assert client.delete(f"/vehicles/{first.json['vehicle_id']}", headers=operator).status_code == 204
    again = client.post("/vehicles", json=VEHICLE, headers=key)
    described = client.get("/openapi.json").json["paths"]["/vehicles"]["post"]["responses"]
    assert (again.status_code, str(again.status_code) in described) == (404, True)
    refused = client.post("/vehicles", json=VEHICLE, headers={"idempotency-key": "x" * 201})
    assert (refused.status_code, refused.json["errors"][0]["field"]) == (422, "Idempotency-Key")


def test_features_are_sent_again_only_when_they_changed(client: FlaskClient, services: Services) -> None:
    vehicle_id = save(client)
    path = f"/vehicles/{vehicle_id}/features"
    etag = client.get(path).headers["ETag"]
    unchanged = client.get(path, headers={"If-None-Match": etag})
    assert (unchanged.status_code, unchanged.data) == (304, b"")
    services.redis.flushdb()
    vehicle = services.source.get_vehicle(vehicle_id)
    assert vehicle is not None
    services.online.put([online_row(vehicle, materialized_at=datetime(2026, 1, 1, tzinfo=UTC))])
    made_again = client.get(path, headers={"If-None-Match": etag})
    assert (made_again.status_code, made_again.json["source"]) == (200, "online_store")
    assert made_again.headers["ETag"] != etag


@pytest.mark.parametrize("path", ["/vehicles?sort=actual_price", "/vehicles/features", "/model"])
def test_lists_and_model_have_etags(client: FlaskClient, path: str, models: Models, promote: Promote) -> None:
    first = client.get(path)
    known = {"If-None-Match": first.headers["ETag"]}
    unchanged = client.get(path, headers=known)
    assert (unchanged.status_code, unchanged.data) == (304, b"")
    save(client)
    if path == "/model":
        version = models.register(6.0)
        promote(version)
        wait_until(lambda: answer(client)[1] == version)
    changed = client.get(path, headers=known)
    assert changed.status_code == 200
    assert changed.json != first.json
