"""The web app on a Redis Cluster: rows, messages and workers' keys, on whichever node they are."""

import pytest
from limits import parse

from flows.tasks.reports import publish
from tests.promises.system import wait_until
from tests.webapp.conftest import Models, Visitor
from vroom_features.online.redis_client import connect_redis
from vroom_features.settings import Settings
from vroom_model.messages import ModelPromoted
from webapp.security.rate_limits import Counter
from webapp.services import Services
from webapp.serving.store_state import online_state
from webapp.serving.worker_heartbeat import WorkerState


@pytest.fixture(scope="module")
def own_settings(redis_cluster: str) -> dict[str, object]:
    with connect_redis(redis_cluster) as client:
        client.flushall()
    return {"redis_url": redis_cluster, "web_poll_seconds": 60.0}  # seldom, so that messages matter


def test_saves_reach_all_nodes_and_are_forecast_from_there(services: Services, client: Visitor) -> None:
    ids = [client.save() for _ in range(12)]
    assert all(services.online.get(vehicle_id) is not None for vehicle_id in ids)
    assert client.post("/predict/id", json={"vehicle_id": ids[-1]}).json["source"] == "online_store"
    state = online_state(services)
    assert state.problem == ""
    assert (state.num_rows, state.num_missing) == (services.source.count_vehicles().new_arrivals, 0)
    assert state.used_bytes


def test_workers_are_read_from_all_nodes(services: Services) -> None:
    (own,) = services.heartbeat.workers() or []
    for number in range(12):
        other = WorkerState(**own.model_dump() | {"worker": f"other:{number}"})
        services.redis.set(f"vroom-forecast:worker:other:{number}", other.model_dump_json())
    assert len(services.heartbeat.workers() or []) == 13


def test_a_flows_promotion_is_received(settings: Settings, models: Models, client: Visitor) -> None:
    version = models.register(7.0)
    models.crown(version)
    publish(settings, ModelPromoted(model_name=models.name, version=version))
    wait_until(lambda: client.answer() == (7.0, version), timeout_s=30)


def test_limits_are_counted_for_all_workers_together(redis_cluster: str) -> None:
    one, other = Counter(redis_cluster), Counter(redis_cluster)
    limit = parse("3 per hour")
    assert [counter.hit(limit, "client") for counter in (one, one, other, other)] == [True, True, True, False]
