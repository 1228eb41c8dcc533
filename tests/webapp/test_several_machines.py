"""Two machines serve one fleet: what is done on one is seen on the other; neither keeps anything alone."""

from collections.abc import Iterator

import pytest
from flask import Flask
from pydantic import SecretStr

from tests.factories import VEHICLE
from tests.promises.system import wait_until
from tests.webapp.conftest import OPERATOR, copy_cookie, new_client, running_app, sign_in
from vroom_features.settings import Settings
from webapp.services import Services

Apps = tuple[Flask, Flask]


@pytest.fixture(scope="module")
def apps(settings: Settings, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Apps]:
    """Run two apps that share a database, Redis, MLflow and secrets, and no folder."""
    shared = {
        "database_url": f"sqlite:///{tmp_path_factory.mktemp('shared') / 'shared.db'}",
        "secret_key": SecretStr("a key of the tests"),
        "web_poll_seconds": 60.0,
    }
    one, other = tmp_path_factory.mktemp("one"), tmp_path_factory.mktemp("other")
    with (
        running_app(settings, home=one, **shared) as here,
        running_app(settings, home=other, **shared) as there,
    ):
        found: list[Services] = [app.extensions["vroom"] for app in (here, there)]
        wait_until(lambda: all(each.listener.is_subscribed and each.heartbeat.is_redis_up for each in found))
        yield here, there


def test_what_one_machine_saves_is_known_to_the_other(apps: Apps) -> None:
    here, there = map(new_client, apps)
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


def test_a_sign_in_counts_on_both_machines(apps: Apps) -> None:
    here, there = map(new_client, apps)
    assert there.get("/audit").status_code == 401
    sign_in(here)
    assert copy_cookie(here, apps[1]).get("/audit").status_code == 200
