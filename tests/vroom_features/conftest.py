"""Stores for the tests of this library."""

from pathlib import Path

import pytest
import redis as redis_py

from tests.vroom_features.files import write_csvs
from tests.vroom_features.stores import BOOKED, FLEET
from vroom_features.ingest import seed
from vroom_features.stores.offline import OfflineStore
from vroom_features.stores.online import OnlineStore
from vroom_features.stores.source import SourceStore


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
