"""Two machines serve one fleet: what is done on one is seen on the other; neither keeps anything alone."""

from collections.abc import Iterator

import pytest

from tests.factories import VEHICLE
from tests.webapp.conftest import OPERATOR, Visitor, copy_cookie, running_app, wait_for_redis
from vroom_features.settings import Settings


@pytest.fixture(scope="module")
def own_settings(tmp_path_factory: pytest.TempPathFactory) -> dict[str, object]:
    database = f"sqlite:///{tmp_path_factory.mktemp('shared') / 'shared.db'}"
    return {"database_url": database, "secret_key": "a key of the tests", "web_poll_seconds": 60.0}


@pytest.fixture(scope="module")
def other(settings: Settings, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Visitor]:
    """Return a client of an app that shares all with the module's own but its folder."""
    with running_app(settings, home=tmp_path_factory.mktemp("other")) as client:
        wait_for_redis(client.services)
        yield client


def test_what_one_machine_saves_is_known_to_the_other(client: Visitor, other: Visitor) -> None:
    here, there = client, other
    key = {"Idempotency-Key": "once"}
    saved = here.post("/vehicles", json=VEHICLE, headers=key).json
    again = there.post("/vehicles", json=VEHICLE, headers=key)
    assert (again.json, again.headers["Idempotency-Replayed"]) == (saved, "true")
    model = {"If-None-Match": here.get("/model").headers["ETag"]}
    assert there.get("/model", headers=model).status_code == 304
    etag = here.get("/vehicles").headers["ETag"]
    assert there.get("/vehicles", headers={"If-None-Match": etag}).status_code == 304
    answer = there.post("/predict/id", json={"vehicle_id": saved["vehicle_id"]}).json
    assert answer["source"] == "online_store"
    assert there.delete(f"/vehicles/{saved['vehicle_id']}", headers=OPERATOR).status_code == 204
    assert here.post("/predict/id", json={"vehicle_id": saved["vehicle_id"]}).status_code == 404
    assert here.get("/vehicles", headers={"If-None-Match": etag}).json["total"] == 0


def test_a_sign_in_counts_on_both_machines(client: Visitor, other: Visitor) -> None:
    assert other.get("/audit").status_code == 401
    client.sign_in()
    assert copy_cookie(client, other.application).get("/audit").status_code == 200
