"""Services that fail during a seed or a run: the error is clear, and the next run continues."""

import subprocess
import sys
from collections.abc import Callable
from contextlib import closing
from pathlib import Path
from sqlite3 import connect
from threading import Timer

import pytest

from tests.vroom_features.files import write_csvs
from tests.vroom_features.stores import BOOKED, CHANGED, FLEET, arrive, audited, ids_in, run
from vroom_features.database.vehicles import SourceStore
from vroom_features.errors import NoSnapshotError, OnlineStoreError, SourceStoreError
from vroom_features.ingest.seed import seed
from vroom_features.offline.snapshots import OfflineStore
from vroom_features.online.store import OnlineStore


def test_a_locked_database_is_waited_for_and_a_clear_error_when_it_stays_locked(
    monkeypatch: pytest.MonkeyPatch, seeded: SourceStore, offline: OfflineStore, tmp_path: Path
) -> None:
    files = write_csvs(tmp_path / "new", CHANGED, BOOKED)
    monkeypatch.setattr("vroom_features.database.engine.LOCK_TIMEOUT_S", 0.2)
    with (
        closing(SourceStore.open(seeded.address)) as impatient,
        closing(connect(tmp_path / "vroom.db", isolation_level=None, check_same_thread=False)) as other,
    ):
        other.execute("BEGIN IMMEDIATE")
        assert run(seeded, offline).num_fleet == 40  # a run only reads
        with pytest.raises(SourceStoreError, match="locked"):
            seed(impatient, files)
        assert run(seeded, offline).is_unchanged
        Timer(0.3, other.execute, ["ROLLBACK"]).start()
        assert seed(seeded, files).vehicles_updated == 1
    assert run(seeded, offline).num_parts_written == 1


def cut_off(path: Path) -> None:
    SourceStore.open(f"sqlite:///{path}").close()
    path.write_bytes(path.read_bytes()[:40_000])


def of_another_program(path: Path) -> None:
    with closing(connect(path)) as other:
        other.execute("CREATE TABLE experiments (name TEXT)")


@pytest.mark.parametrize(
    ("make", "hint"),
    [
        (lambda path: path.mkdir(), "it must be a file, in a folder that this user may write to"),
        (
            lambda path: path.write_text("vehicle_id,technology\n" * 99),
            "is the path in VROOM_DATABASE_URL right",
        ),
        (cut_off, "the file is damaged or cut off; restore a backup"),
        (of_another_program, "it holds tables of another program; name a database of its own"),
    ],
)
def test_a_file_that_is_no_database_of_ours_is_named_and_left_alone(
    tmp_path: Path, make: Callable[[Path], object], hint: str
) -> None:
    path = tmp_path / "vroom.db"
    make(path)
    before = path.is_dir() or path.read_bytes()[100:]  # after the header, which has the journal's mode
    with pytest.raises(SourceStoreError, match=hint):
        SourceStore.open(f"sqlite:///{path}")
    assert (path.is_dir() or path.read_bytes()[100:]) == before


@pytest.mark.parametrize(
    ("command", "kilobytes"), [("seed", 40), ("materialize --redis-url= --offline var/offline", 1)]
)
def test_a_full_disk_is_a_clear_error_and_made_good(tmp_path: Path, command: str, kilobytes: int) -> None:
    """No file can grow larger than a limit, which a shell sets."""
    write_csvs(tmp_path / "data", FLEET, BOOKED)
    offline = OfflineStore(str(tmp_path / "var" / "offline"))
    with closing(SourceStore.open(f"sqlite:///{tmp_path / 'var' / 'vroom.db'}")) as source:
        if command != "seed":
            seed(source, tmp_path / "data")
        limited = f"ulimit -f {kilobytes}; exec {sys.executable} -m vroom_features {command}"
        done = subprocess.run(
            ["bash", "-c", limited], cwd=tmp_path, capture_output=True, text=True, check=False
        )
        assert (done.returncode, done.stderr.count("\n")) == (1, 1), done.stderr
        assert done.stderr.startswith("error: ")
        assert not list(tmp_path.rglob("*.tmp"))
        assert source.count_vehicles().fleet == (0 if command == "seed" else 40)
        with pytest.raises(NoSnapshotError):
            offline.current()
        seed(source, tmp_path / "data")
        assert run(source, offline).num_fleet == len(offline.current().read()) == 40


def test_a_redis_out_of_memory_is_made_good(
    seeded: SourceStore, offline: OfflineStore, online: OnlineStore
) -> None:
    ids = [arrive(seeded) for _ in range(5)]
    online.client.config_set("maxmemory", 1)
    try:
        with pytest.raises(OnlineStoreError, match="Redis is full; raise its maxmemory"):
            run(seeded, offline, online)
    finally:
        online.client.config_set("maxmemory", 0)
    assert offline.current().num_rows == 40
    assert audited(seeded, online).missing == 5
    run(seeded, offline, online)
    assert (ids_in(online), audited(seeded, online).is_clean) == (ids, True)


def test_what_redis_drops_is_not_reported_as_there(
    seeded: SourceStore, offline: OfflineStore, online: OnlineStore
) -> None:
    for _ in range(150):
        arrive(seeded)
    assert run(seeded, offline, online).online_warning == ""
    full = online.client.info("memory")["used_memory"]
    online.clear()
    online.client.config_set("maxmemory-policy", "allkeys-lru")
    online.client.config_set("maxmemory", full - 20_000)
    try:
        report = run(seeded, offline, online)
        assert report.num_online == 150 - report.num_online_missing < 150
    finally:
        online.client.config_set("maxmemory", 0)
        online.client.config_set("maxmemory-policy", "noeviction")
    assert report.online_warning.startswith("Redis drops keys when it is full (maxmemory-policy allkeys-lru)")
    assert run(seeded, offline, online).num_online == 150
