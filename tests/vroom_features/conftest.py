"""Stores for the tests of this library."""

from pathlib import Path

import pytest
import redis as redis_py

from tests.vroom_features.files import write_csvs
from tests.vroom_features.stores import BOOKED, FLEET
from vroom_features.database.vehicles import SourceStore
from vroom_features.ingest.seed import seed
from vroom_features.offline.snapshots import OfflineStore
from vroom_features.online.store import OnlineStore


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
