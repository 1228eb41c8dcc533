"""A worker follows the champion, and whatever goes wrong with a new one, the old one serves."""

import json
from collections.abc import Callable
from pathlib import Path

import pytest
import redis as redis_py
from flask.testing import FlaskClient

from tests.factories import VEHICLE
from tests.webapp.conftest import Promote
from tests.webapp.faults import FaultyProxy
from tests.webapp.registry import Models, Spoil
from tests.webapp.waiting import wait_until
from vroom_features.settings import Settings
from vroom_features.view import VEHICLE_VIEW
from vroom_model.manifest import MANIFEST_NAME, SERVING_NAME, Probe, ViewRef
from vroom_model.messages import ModelPromoted
from vroom_model.registry.model_cache import LAST_GOOD
from webapp.app import create_app
from webapp.services import Services


def answer(client: FlaskClient) -> tuple[float, int]:
    """Return what is forecast, and by which version it says it is."""
    response = client.post("/predict", json=VEHICLE)
    assert response.status_code == 200, response.text
    return response.json["predicted_reservations"], response.json["model_version"]


def test_without_a_champion_it_says_so_and_works_as_soon_as_there_is_one(
    client: FlaskClient, models: Models, promote: Promote
) -> None:
    assert client.get("/health").json["status"] == "no_model"
    refused = client.post("/predict", json=VEHICLE)
    assert (refused.status_code, refused.json["title"]) == (503, "No model yet")
    version = models.register(3.0)
    promote(version)
    wait_until(lambda: client.get("/health").json["status"] == "ok")
    assert answer(client) == (3.0, version)


def test_a_champion_serves_from_the_first_request_on(champion: int, client: FlaskClient) -> None:
    assert answer(client) == (5.0, champion)


def test_a_promotion_is_followed_while_there_is_more_and_more_to_hear(
    champion: int, client: FlaskClient, services: Services, models: Models, redis: redis_py.Redis
) -> None:
    wait_until(lambda: services.listener.is_subscribed)
    version = models.register(6.0)
    message = ModelPromoted(model_name=models.name, version=champion)
    many = "for _ = 1, 200000 do redis.call('PUBLISH', ARGV[1], ARGV[2]) end"  # half a minute to hear
    redis.eval(many, 0, message.channel, message.encode())
    models.crown(version)
    wait_until(lambda: answer(client) == (6.0, version), timeout_s=4)


def flip_a_bit(directory: Path) -> None:
    content = bytearray((directory / SERVING_NAME).read_bytes())
    content[len(content) // 2] ^= 1
    (directory / SERVING_NAME).write_bytes(content)


def change_the_manifest(directory: Path) -> None:
    manifest = json.loads((directory / MANIFEST_NAME).read_bytes())
    manifest["probes"][0]["forecast"] += 1
    (directory / MANIFEST_NAME).write_text(json.dumps(manifest))


def delete_the_manifest(directory: Path) -> None:
    (directory / MANIFEST_NAME).unlink()


@pytest.mark.parametrize(
    "spoil",
    [flip_a_bit, change_the_manifest, delete_the_manifest],
)
def test_a_spoiled_model_leaves_the_old_one_and_the_next_sound_one_serves(
    champion: int, client: FlaskClient, models: Models, promote: Promote, spoil: Spoil
) -> None:
    promote(models.register(8.0, spoil=spoil))
    wait_until(lambda: client.get("/health").json["status"] == "degraded")
    assert client.get("/health").json["reasons"] != []
    assert answer(client) == (5.0, champion)
    sound = models.register(9.0)
    promote(sound)
    wait_until(lambda: answer(client) == (9.0, sound))
    assert client.get("/health").json["status"] == "ok"


@pytest.mark.parametrize(
    ("changes", "reason"),
    [
        ({"view": ViewRef(name="other_view", version=1, columns=("mileage",))}, "it takes mileage v1"),
        (
            {
                "probes": (
                    Probe(features=dict.fromkeys(VEHICLE_VIEW.columns, 0.0), forecast=1, low=0, high=2),
                )
            },
            "probe row",
        ),
        ({"probes": ()}, "probe rows"),
        ({"files": {"../fold-0.json": "0" * 64}}, "leaves the directory"),
        ({"files": {SERVING_NAME: "0" * 64}}, "checksum"),
    ],
    ids=["unknown feature", "wrong probe", "no probes", "path outside", "wrong checksum"],
)
def test_a_model_that_does_not_fit_is_refused_and_the_reason_told(
    champion: int,
    client: FlaskClient,
    models: Models,
    promote: Promote,
    changes: dict[str, object],
    reason: str,
) -> None:
    promote(models.register(8.0, **changes))
    wait_until(lambda: any(reason in text for text in client.get("/health").json["reasons"]))
    assert answer(client) == (5.0, champion)


def test_a_model_of_fewer_inputs_answers_wherever_forecasts_are_asked_for(
    client: FlaskClient, models: Models, promote: Promote
) -> None:
    inputs = ("price_diff", "num_images")
    version = models.register(4.0, columns=inputs)
    promote(version)
    wait_until(lambda: client.get("/health").json["model_version"] == version)
    assert client.get("/model").json["features"] == list(inputs)
    assert answer(client) == (4.0, version)
    (found,) = client.post("/predict/batch", json=[VEHICLE]).json["predictions"]
    assert found["predicted_reservations"] == 4.0
    saved = client.post("/vehicles", json=VEHICLE).json["vehicle_id"]
    stored = client.post("/predict/id", json={"vehicle_id": saved}).json
    assert (stored["predicted_reservations"], stored["source"]) == (4.0, "online_store")
    page = client.get(f"/?vehicle_id={saved}").text
    assert page.count('class="push"') == len(inputs)  # a bar for each reason
    assert client.get("/arrivals").status_code == 200


def test_a_model_that_answers_nan_is_refused(
    champion: int, client: FlaskClient, models: Models, promote: Promote
) -> None:
    promised = Probe(features=dict.fromkeys(VEHICLE_VIEW.columns, 0.0), forecast=8.0, low=7.0, high=9.0)
    promote(models.register(float("nan"), probes=(promised,)))
    wait_until(
        lambda: any("probe row 0 gives (nan" in text for text in client.get("/health").json["reasons"])
    )
    assert answer(client) == (5.0, champion)
    sound = models.register(9.0)
    promote(sound)
    wait_until(lambda: answer(client) == (9.0, sound))


def stop(proxy: FaultyProxy) -> None:
    proxy.status = 502


def fail(proxy: FaultyProxy) -> None:
    proxy.status = 500


def hang(proxy: FaultyProxy) -> None:
    proxy.is_hanging = True


def garble(proxy: FaultyProxy) -> None:
    proxy.change = lambda _path, _content: b"<html>not what you asked for</html>"


def flip_on_the_way(proxy: FaultyProxy) -> None:
    proxy.change = lambda path, content: content[:-1] + b"?" if "get-artifact" in path else content


@pytest.mark.parametrize("break_it", [stop, fail, hang, garble, flip_on_the_way])
def test_a_failing_registry_leaves_the_old_model_and_the_promotion_arrives_later(
    champion: int,
    client: FlaskClient,
    models: Models,
    promote: Promote,
    proxy: FaultyProxy,
    break_it: Callable[[FaultyProxy], None],
) -> None:
    version = models.register(6.0)
    break_it(proxy)
    promote(version)
    wait_until(lambda: client.get("/health").json["status"] == "degraded")
    assert answer(client) == (5.0, champion)
    proxy.heal()
    wait_until(lambda: answer(client) == (6.0, version))
    assert client.get("/health").json["reasons"] == []


def test_a_champion_alias_taken_away_leaves_its_model_serving(
    champion: int, client: FlaskClient, models: Models
) -> None:
    models.dethrone()
    wait_until(lambda: "no champion" in str(client.get("/health").json["reasons"]))
    assert answer(client) == (5.0, champion)
    models.crown(champion)
    wait_until(lambda: client.get("/health").json["status"] == "ok")


def test_a_cached_model_that_rotted_on_disk_is_fetched_again(
    settings: Settings, champion: int, client: FlaskClient, services: Services
) -> None:
    assert answer(client) == (5.0, champion)
    services.close()
    (graph,) = (settings.home / "models").glob(f"*/{SERVING_NAME}")
    graph.write_bytes(b"rotten")
    seldom = settings.model_copy(update={"web_poll_seconds": 60.0})  # so it must be fetched in the first look
    restarted = create_app(seldom)
    assert answer(restarted.test_client()) == (5.0, champion)
    restarted.extensions["vroom"].close()


def test_a_last_good_model_that_cannot_be_noted_is_noted_later(
    settings: Settings, champion: int, client: FlaskClient, models: Models, promote: Promote
) -> None:
    assert answer(client) == (5.0, champion)
    note = settings.home / "models" / LAST_GOOD
    wait_until(note.exists)
    note.unlink()
    note.mkdir()  # nothing can be moved into its place
    version = models.register(6.0)
    promote(version)
    wait_until(lambda: "cannot note" in str(client.get("/health").json["reasons"]))
    assert answer(client) == (6.0, version)
    note.rmdir()
    wait_until(lambda: client.get("/health").json["status"] == "ok")
    assert json.loads(note.read_bytes())["version"] == version
