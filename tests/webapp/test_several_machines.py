"""Two machines serve one fleet: what is done on one is seen on the other; neither keeps anything alone."""

from collections.abc import Iterator
from pathlib import Path

import pytest
from flask.testing import FlaskClient
from pydantic import SecretStr

from tests.factories import VEHICLE
from tests.webapp.conftest import Promote
from tests.webapp.registry import Models
from tests.webapp.conftest import sign_in
from tests.webapp.waiting import wait_until
from vroom_features.settings import Settings
from webapp.app import create_app


@pytest.fixture
def machines(settings: Settings, champion: int, tmp_path: Path) -> Iterator[tuple[FlaskClient, FlaskClient]]:
    """Return clients of two apps that share a database, Redis, MLflow and secrets, and no folder."""
    shared = {
        "database_url": f"sqlite:///{tmp_path / 'shared.db'}",
        "secret_key": SecretStr("a key of the tests"),
        "web_poll_seconds": 60.0,
    }
    apps = [
        create_app(settings.model_copy(update={**shared, "home": tmp_path / name})) for name in ("a", "b")
    ]
    for app in apps:
        services = app.extensions["vroom"]
        wait_until(lambda: services.listener.is_subscribed and services.heartbeat.is_redis_up)  # noqa: B023
    yield apps[0].test_client(), apps[1].test_client()
    for app in apps:
        app.extensions["vroom"].close()


def test_a_save_on_one_machine_is_forecast_listed_repeated_and_deleted_on_the_other(
    machines: tuple[FlaskClient, FlaskClient], operator: dict[str, str]
) -> None:
    here, there = machines
    key = {"Idempotency-Key": "once"}
    saved = here.post("/vehicles", json=VEHICLE, headers=key).json
    again = there.post("/vehicles", json=VEHICLE, headers=key)
    assert (again.json, again.headers["Idempotency-Replayed"]) == (saved, "true")
    etag = here.get("/vehicles").headers["ETag"]
    assert there.get("/vehicles", headers={"If-None-Match": etag}).status_code == 304
    answer = there.post("/predict/id", json={"vehicle_id": saved["vehicle_id"]}).json
    assert answer["source"] == "online_store"
    assert there.delete(f"/vehicles/{saved['vehicle_id']}", headers=operator).status_code == 204
    assert here.post("/predict/id", json={"vehicle_id": saved["vehicle_id"]}).status_code == 404
    assert here.get("/vehicles", headers={"If-None-Match": etag}).json["total"] == 0


def test_a_model_that_one_machine_described_is_known_to_the_other(
    machines: tuple[FlaskClient, FlaskClient],
) -> None:
    here, there = machines
    first = here.get("/model")
    assert there.get("/model").json["since"] != first.json["since"]
    assert there.get("/model", headers={"If-None-Match": first.headers["ETag"]}).status_code == 304


def test_a_promotion_reaches_both_by_one_message(
    machines: tuple[FlaskClient, FlaskClient], models: Models, promote: Promote
) -> None:
    version = models.register(6.0)
    promote(version)
    for client in machines:
        wait_until(
            lambda: client.post("/predict", json=VEHICLE).json["model_version"] == version  # noqa: B023
        )


def test_who_signed_in_on_one_machine_is_signed_in_on_the_other(
    machines: tuple[FlaskClient, FlaskClient],
) -> None:
    here, there = machines
    assert "Sign out" not in there.get("/").text
    sign_in(here)
    cookie = here.get_cookie("vroom")
    assert cookie is not None
    there.set_cookie("vroom", cookie.value)
    assert "Sign out" in there.get("/").text
