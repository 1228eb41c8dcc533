"""The web app on a Redis Cluster: rows, messages and the roster of workers, wherever their keys are."""

import pytest
import redis as redis_py
from flask import Flask
from flask.testing import FlaskClient
from limits import parse

from flows.tasks.reports import publish
from tests.factories import VEHICLE
from tests.webapp.registry import Models
from tests.webapp.waiting import wait_until
from vroom_features.online.redis_client import connect_redis
from vroom_features.settings import Settings
from vroom_model.messages import ModelPromoted
from webapp.security.rate_limits import Counter
from webapp.services import Services
from webapp.serving.store_state import online_state


@pytest.fixture
def settings(settings: Settings, redis_cluster_url: str) -> Settings:
    """Point the app at the cluster; the registry is looked at seldom, so that messages matter."""
    return Settings(
        _env_file=None,
        **settings.model_dump(exclude={"redis_url", "web_poll_seconds"}),
        redis_url=redis_cluster_url,
        web_poll_seconds=60.0,
    )


@pytest.fixture
def services(champion: int, app: Flask) -> Services:
    """Return the services of an app that serves, hears messages and has caught up."""
    found: Services = app.extensions["vroom"]
    wait_until(lambda: found.listener.is_subscribed and found.heartbeat.is_redis_up, timeout_s=30)
    return found


def test_saves_reach_all_nodes_and_are_forecast_from_there(services: Services, client: FlaskClient) -> None:
    ids = [client.post("/vehicles", json=VEHICLE).json["vehicle_id"] for _ in range(12)]
    assert all(services.online.get(vehicle_id) is not None for vehicle_id in ids)
    assert client.post("/predict/id", json={"vehicle_id": ids[-1]}).status_code == 200
    state = online_state(services)
    assert state.problem == ""
    assert (state.num_rows, state.num_missing) == (services.source.count_vehicles().new_arrivals, 0)
    assert state.used_bytes


def test_the_roster_reads_workers_of_all_nodes(services: Services) -> None:
    beat = services.heartbeat._state()
    for number in range(12):
        other = beat.model_copy(update={"worker": f"other:{number}"})
        services.redis.set(f"vroom-forecast:worker:other:{number}", other.model_dump_json())
    assert len({state.worker for state in services.heartbeat.workers()}) == 13


def test_a_promotion_published_by_a_flow_is_heard(
    services: Services, settings: Settings, models: Models, client: FlaskClient
) -> None:
    version = models.register(7.0)
    models.crown(version)
    publish(settings, ModelPromoted(model_name=models.name, version=version))
    wait_until(lambda: services.slot.current and services.slot.current.version == version, timeout_s=30)
    assert client.post("/predict", json=VEHICLE).json["predicted_reservations"] == pytest.approx(7.0)


def test_limits_are_counted_for_all_workers_together(redis_cluster_url: str) -> None:
    one, other = Counter(redis_cluster_url), Counter(redis_cluster_url)
    limit = parse("3 per hour")
    assert [counter.hit(limit, "client") for counter in (one, one, other, other)] == [True, True, True, False]


def test_a_cluster_away_is_an_error_like_any_of_redis() -> None:
    with pytest.raises(redis_py.RedisError, match="cannot be connected"):
        connect_redis("redis+cluster://127.0.0.1:1")
