"""The web app on real services: MLflow behind a proxy that can fail, Redis, SQLite."""

import socket
import subprocess
import sys
import uuid
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path

import httpx
import pytest
import redis as redis_py
from flask import Flask
from flask.testing import FlaskClient
from mlflow import MlflowClient

from tests.webapp.faults import FaultyProxy
from tests.webapp.registry import Models
from tests.webapp.waiting import wait_until
from vroom_features.settings import Settings
from vroom_model.messages import ModelPromoted
from webapp.app import create_app
from webapp.services import Services

PASSWORD = "the operator of the tests"  # noqa: S105


def free_port() -> int:
    """Return a port that nobody listens on now."""
    with closing(socket.socket()) as sock:
        sock.bind(("127.0.0.1", 0))
        return int(sock.getsockname()[1])


@pytest.fixture(scope="session")
def mlflow_url(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    """Start a real MLflow server for the whole run."""
    folder = tmp_path_factory.mktemp("mlflow")
    url = f"http://127.0.0.1:{(port := free_port())}"
    command = [sys.executable, "-m", "mlflow", "server", "--host", "127.0.0.1", "--port", str(port)]
    command += ["--workers", "1", "--backend-store-uri", f"sqlite:///{folder / 'mlflow.db'}"]
    command += ["--artifacts-destination", str(folder / "artifacts")]
    environment = {"MLFLOW_SERVER_ENABLE_JOB_EXECUTION": "false", "MLFLOW_DISABLE_TELEMETRY": "true"}
    environment["PATH"] = str(Path(sys.executable).parent)
    with (
        (folder / "log").open("w") as log,
        subprocess.Popen(command, env=environment, stdout=log, stderr=subprocess.STDOUT) as server,
    ):

        def is_up() -> bool:
            try:
                return httpx.get(f"{url}/health", timeout=1).is_success
            except httpx.HTTPError:
                return False

        try:
            wait_until(is_up, timeout_s=60)
            yield url
        finally:
            server.terminate()


@pytest.fixture
def models(mlflow_url: str, tmp_path: Path) -> Models:
    """Return a registered model of its own for the test, without versions."""
    client = MlflowClient(mlflow_url)
    name = f"vroom-{uuid.uuid4().hex[:8]}"
    client.create_registered_model(name)
    return Models(mlflow_url, name, tmp_path / "bundles", client)


@pytest.fixture
def proxy(mlflow_url: str) -> Iterator[FaultyProxy]:
    """Return what stands between the app and MLflow."""
    between = FaultyProxy(mlflow_url)
    yield between
    between.close()


@pytest.fixture
def settings(tmp_path: Path, redis_url: str, models: Models, proxy: FaultyProxy) -> Settings:
    """Return settings of an app that looks at the registry often."""
    return Settings(
        _env_file=None,
        home=tmp_path / "home",
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
