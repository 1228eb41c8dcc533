"""The web app on real services: MLflow behind a proxy that can fail, Redis, SQLite."""

import uuid
from collections.abc import Iterator
from pathlib import Path

import pytest
import redis as redis_py
from flask import Flask
from flask.testing import FlaskClient
from mlflow import MlflowClient

from tests.ports import free_port
from tests.webapp.faults import FaultyProxy
from tests.webapp.registry import Models, Uploads
from vroom_features.settings import Settings
from vroom_model.messages import ModelPromoted
from webapp.app import create_app
from webapp.services import Services

PASSWORD = "the operator of the tests"


@pytest.fixture(scope="session")
def uploads(mlflow_server: str) -> Uploads:
    """Return what the tests have uploaded so far."""
    return {}


@pytest.fixture
def models(mlflow_server: str, uploads: Uploads, tmp_path: Path) -> Models:
    """Return a registered model of its own for the test, without versions."""
    client = MlflowClient(mlflow_server)
    name = f"vroom-{uuid.uuid4().hex[:8]}"
    client.create_registered_model(name)
    return Models(mlflow_server, name, tmp_path / "bundles", client, uploads)


@pytest.fixture
def proxy(mlflow_server: str) -> Iterator[FaultyProxy]:
    """Return what stands between the app and MLflow."""
    between = FaultyProxy(mlflow_server)
    yield between
    between.close()


@pytest.fixture
def database_url(request: pytest.FixtureRequest) -> str:
    """Return where the source database is; empty: the app's own SQLite file.

    A test runs on both by ``@on_both_databases``.
    """
    kind = getattr(request, "param", "sqlite")
    return "" if kind == "sqlite" else str(request.getfixturevalue("postgres_url"))


on_both_databases = pytest.mark.parametrize("database_url", ["sqlite", "postgresql"], indirect=True)


@pytest.fixture
def settings(
    tmp_path: Path, database_url: str, redis_url: str, models: Models, proxy: FaultyProxy
) -> Settings:
    """Return settings of an app that looks at the registry often."""
    return Settings(
        _env_file=None,
        home=tmp_path / "home",
        database_url=database_url,
        redis_url=redis_url,
        mlflow_uri=proxy.url,
        model_name=models.name,
        web_poll_seconds=0.2,
        operator_password=PASSWORD,
        prefect_url=f"http://127.0.0.1:{free_port()}",
    )


@pytest.fixture
def app(settings: Settings) -> Iterator[Flask]:
    """Return an app; without a champion unless the test crowned one before it asked for the app."""
    made = create_app(settings)
    yield made
    made.extensions["vroom"].close()


@pytest.fixture
def services(app: Flask) -> Services:
    """Return the app's services."""
    found: Services = app.extensions["vroom"]
    return found


@pytest.fixture
def client(app: Flask) -> FlaskClient:
    """Return a client of the app."""
    return app.test_client()


@pytest.fixture
def champion(models: Models) -> int:
    """Crown a model that answers 5.0."""
    version = models.register(5.0)
    models.crown(version)
    return version


@pytest.fixture
def promote(models: Models, redis: redis_py.Redis) -> "Promote":
    """Return a way to promote: move the alias and tell everybody."""
    return Promote(models, redis)


class Promote:
    """Move the champion alias and publish the message."""

    def __init__(self, models: Models, redis: redis_py.Redis) -> None:
        self._models = models
        self._redis = redis

    def __call__(self, version: int) -> None:
        """Promote a version."""
        self._models.crown(version)
        message = ModelPromoted(model_name=self._models.name, version=version)
        self._redis.publish(message.channel, message.encode())


@pytest.fixture
def operator() -> dict[str, str]:
    """Return the headers of a program that acts for the operator."""
    return {"Authorization": f"Bearer {PASSWORD}"}
