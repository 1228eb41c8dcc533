"""Fleets in a database and an offline store, where the settings of a home look for them."""

from collections.abc import Callable
from contextlib import closing
from pathlib import Path

from tests.snapshots import SAMPLE
from tests.vroom_model.champions import AS_OF
from vroom_features.database.vehicles import SourceStore
from vroom_features.ingest.seed import seed
from vroom_features.materialize import materialize
from vroom_features.offline.snapshots import OfflineStore, Snapshot


def seed_sample(source: SourceStore) -> None:
    seed(source, SAMPLE)


def store_fleet(
    home: Path, fill: Callable[[SourceStore], None] = seed_sample, *, partition_vehicles: int = 300
) -> Snapshot:
    offline = OfflineStore(str(home / "offline"))
    home.mkdir(exist_ok=True)
    with closing(SourceStore.open(f"sqlite:///{home / 'vroom.db'}")) as source:
        fill(source)
        materialize(source, offline, None, now=AS_OF, partition_vehicles=partition_vehicles)
    return offline.current()
