"""A worker follows the champion, and whatever goes wrong with a new one, the old one serves."""

import json
from collections.abc import Iterator
from functools import partial

import pytest
import redis as redis_py
from flask import Flask
from prometheus_client import REGISTRY

from tests.factories import VEHICLE
from tests.faults import Fault, FaultyProxy
from tests.promises.system import wait_until
from tests.webapp.conftest import CHAMPION, Models, Promote, Visitor, add_record, running_app, wait_for_redis
from vroom_features.addresses import ServiceAddress
from vroom_features.settings import Settings
from vroom_features.view import VEHICLE_VIEW
from vroom_model.manifest import SERVING_NAME
from vroom_model.messages import ModelPromoted
from vroom_model.registry.model_cache import LAST_GOOD

PROBE = {"features": dict.fromkeys(VEHICLE_VIEW.columns, 0.0), "forecast": 8, "low": 7, "high": 9}


@pytest.fixture
def champion(app: Flask, models: Models, promote: Promote, proxy: FaultyProxy) -> Iterator[int]:
    version = models.register(CHAMPION)
    promote(version)
    client = app.test_client()
    wait_until(lambda: client.is_ok() and client.answer() == (CHAMPION, version))
    yield version
    proxy.heal()


def test_a_worker_that_starts_while_mlflow_is_empty_serves_the_last_model(
    settings: Settings, champion: int
) -> None:
    with running_app(settings, home=settings.home / "kept") as client:
        assert client.answer() == (CHAMPION, champion)
    with running_app(settings, home=settings.home / "kept", model_name="lost") as client:
        assert client.answer() == (CHAMPION, champion)
        assert client.has_reason("the registry has no champion")


def test_without_a_champion_it_says_so_until_there_is_one(settings: Settings, models: Models) -> None:
    models.dethrone()
    with running_app(settings, home=settings.home / "new", redis_prefix="new") as client:
        assert client.health()["status"] == "no_model"
        (settings.home / "new" / "starting").write_text("Starting <MLflow>")
        assert "Starting &lt;MLflow&gt; …" in client.get("/").text
        refused = client.post("/predict", json=VEHICLE)
        assert (refused.status_code, refused.json["title"]) == (503, "No model yet")
        refused = client.post(f"/v2/models/{models.name}/infer", json={})
        assert (refused.status_code, list(refused.json)) == (503, ["error"])
        assert client.get("/v2/health/live").json["live"]
        assert not client.get("/v2/health/ready").json["ready"]
        assert client.post("/v2/repository/index").json == []
        version = models.register(3.0)
        models.crown(version)
        wait_until(lambda: client.is_ok())
        assert client.answer() == (3.0, version)
        assert "Starting" not in client.get("/").text


def test_endless_messages_hide_no_promotion(champion: int, settings: Settings, models: Models) -> None:
    with running_app(settings) as client, redis_py.Redis.from_url(settings.redis.url) as redis:
        wait_for_redis(client.services)
        version = models.register(6.0)
        message = ModelPromoted(model_name=models.name, version=champion)
        many = "for _ = 1, 200000 do redis.call('PUBLISH', ARGV[1], ARGV[2]) end"  # half a minute to read
        redis.eval(many, 0, message.channel, message.encode())
        models.crown(version)
        wait_until(lambda: client.answer() == (6.0, version), timeout_s=20)


@pytest.mark.parametrize(
    ("forecast", "changes", "reason"),
    [
        (8.0, {"view": {"name": "other", "version": 1, "columns": ["mileage"]}}, "it takes mileage v1"),
        (float("nan"), {"probes": [PROBE]}, r"probe row 0 gives \(nan"),
        (8.0, {"probes": []}, "probe rows"),
    ],
)
def test_a_model_that_does_not_fit_is_refused_with_the_reason_and_the_next_sound_one_serves(
    champion: int,
    client: Visitor,
    models: Models,
    promote: Promote,
    forecast: float,
    changes: dict[str, object],
    reason: str,
) -> None:
    promote(models.register(forecast, **changes))
    wait_until(lambda: client.has_reason(reason))
    assert client.answer() == (CHAMPION, champion)
    sound = models.register(9.0)
    promote(sound)
    wait_until(lambda: client.answer() == (9.0, sound) and client.is_ok())


def test_a_model_of_few_inputs_serves_all(client: Visitor, models: Models, promote: Promote) -> None:
    inputs = ("price_diff", "num_images")
    version = models.register(4.0, columns=inputs)
    promote(version)
    wait_until(lambda: client.answer() == (4.0, version))
    assert client.get("/model").json["features"] == list(inputs)
    (found,) = client.post("/predict/batch", json=[VEHICLE]).json["predictions"]
    assert found["predicted_reservations"] == 4.0
    saved = client.save()
    stored = client.post("/predict/id", json={"vehicle_id": saved}).json
    assert (stored["predicted_reservations"], stored["source"]) == (4.0, "online_store")
    page = client.get(f"/?vehicle_id={saved}").text
    assert page.count('class="push"') == len(inputs)  # a bar for each reason
    assert client.get("/arrivals").status_code == 200


@pytest.mark.parametrize("fault", ["stop", "hang", "garble"])
def test_a_failing_registry_leaves_the_old_model_and_the_promotion_arrives_later(
    champion: int, client: Visitor, models: Models, promote: Promote, proxy: FaultyProxy, fault: Fault
) -> None:
    version = models.register(6.0)
    proxy.fault = fault
    promote(version)
    wait_until(lambda: client.health()["status"] == "degraded")
    assert client.answer() == (CHAMPION, champion)
    proxy.heal()
    wait_until(lambda: client.answer() == (6.0, version) and client.health()["reasons"] == [])


def test_a_deleted_alias_leaves_its_model_serving(champion: int, client: Visitor, models: Models) -> None:
    models.dethrone()
    wait_until(lambda: client.has_reason("no champion"))
    assert client.answer() == (CHAMPION, champion)
    models.crown(champion)
    wait_until(lambda: client.is_ok())


def test_a_cached_model_that_was_damaged_is_downloaded_again(settings: Settings, champion: int) -> None:
    (graph,) = (settings.home / "models").glob(f"{champion}-*/{SERVING_NAME}")
    graph.write_bytes(b"damaged")
    broken = partial(REGISTRY.get_sample_value, "vroom_swaps_total", {"outcome": "broken"})
    before = broken()
    with running_app(settings, web_poll_seconds=60.0) as client:  # so it must be downloaded at the first read
        assert client.answer() == (CHAMPION, champion)
    assert broken() == before  # the alert would say that the champion cannot be loaded


def test_a_last_good_model_that_cannot_be_noted_is_noted_later(
    settings: Settings, champion: int, client: Visitor, models: Models, promote: Promote
) -> None:
    note = settings.home / "models" / LAST_GOOD
    wait_until(lambda: json.loads(note.read_bytes())["version"] == champion)
    note.unlink()
    note.mkdir()  # nothing can be moved into its place
    version = models.register(6.0)
    promote(version)
    wait_until(lambda: client.has_reason("cannot note"))
    assert client.answer() == (6.0, version)
    note.rmdir()
    wait_until(lambda: client.is_ok() and note.is_file())  # it is noted a moment after all is well
    assert json.loads(note.read_bytes())["version"] == version


def test_a_promotion_that_was_cut_off_is_finished(champion: int, settings: Settings, models: Models) -> None:
    version = models.register(6.0)
    with running_app(settings, mlflow_uri=ServiceAddress(models.url)) as client:
        services = client.services
        add_record(services, version=champion)
        add_record(services, version=version, previous=champion, is_closed=False)
        services.heartbeat.beat_soon()
        wait_until(lambda: client.answer() == (6.0, version))
        wait_until(lambda: services.promotions.history(limit=1)[0].is_closed)
    assert models.champion() == version
