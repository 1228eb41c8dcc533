"""The source database locked, damaged, its WAL cut; and disks that are full."""

import resource
import shutil
import sqlite3
from collections.abc import Iterator
from contextlib import contextmanager

import httpx
import psutil

from tests.drill import promises
from tests.drill.case import Case, Fault
from tests.drill.cases_redis import other_champion
from tests.drill.clock import now
from tests.drill.fleet import change_fleet
from tests.drill.system import System, kill
from tests.drill.traffic import Traffic
from vroom_features.database.backup import back_up, restore
from vroom_features.errors import VroomFeaturesError
from vroom_features.ingest.seed import seed
from vroom_features.materialize import materialize

LOCKED_S = 3.0
LOCKED_LONG_S = 13.0
BOTH = frozenset({"save", "predict"})
NO_ROOM_BYTES = 4096
PAGE_BYTES = 16_384


@contextmanager
def locked(system: System) -> Iterator[None]:
    """Hold the write lock, as a backup or a long seed does."""
    connection = sqlite3.connect(system.database, isolation_level=None)
    connection.execute("BEGIN IMMEDIATE")
    try:
        yield
    finally:
        connection.execute("ROLLBACK")
        connection.close()


def for_a_while(system: System, traffic: Traffic) -> None:
    """Forecasts go on; a save waits for the lock."""
    traffic.wait_for(forecasts=10)
    traffic.wait_for(saves=10**9, timeout_s=LOCKED_S)


def for_too_long(system: System, traffic: Traffic) -> None:
    """Forecasts go on; a save gives up and is told to come again."""
    traffic.wait_for(saves=10**9, timeout_s=LOCKED_LONG_S)
    promises.hold(traffic.heard.refused["save: 503"] > 0, "no save was told to come again")


@contextmanager
def damaged(system: System) -> Iterator[None]:
    """Damage the database under the running system, and restore a backup: it cannot heal itself.

    The write lock is held from the backup to the damage, so that no save is acknowledged in between.
    """
    backup = system.settings.home / "backup.db"
    backup.unlink(missing_ok=True)
    lock = _locked_with_an_empty_wal(system)
    back_up(system.settings.source_database, backup)
    with system.database.open("r+b") as file:
        for place in range(0, system.database.stat().st_size, PAGE_BYTES):
            file.seek(place)
            file.write(b"\xa5" * NO_ROOM_BYTES)
    lock.close()
    before = system.offline.current().id
    try:
        yield
        promises.hold(system.offline.current().id == before, "a snapshot was made of a damaged database")
    finally:
        restore(system.settings.source_database, backup, force=True)


def _locked_with_an_empty_wal(system: System) -> sqlite3.Connection:
    """Take the write lock at a moment when everything stands in the main file."""
    connection = sqlite3.connect(system.database, isolation_level=None, timeout=10)
    wal = system.database.with_name(f"{system.database.name}-wal")
    while True:
        connection.execute("PRAGMA wal_checkpoint(TRUNCATE)")
        connection.execute("BEGIN IMMEDIATE")
        if not wal.exists() or wal.stat().st_size == 0:
            return connection
        connection.execute("ROLLBACK")


def refuses_clearly(system: System, _: Traffic) -> None:
    """A save is refused, not acknowledged; a run fails with a clear error; a forecast is still given."""
    answer = httpx.post(f"{system.url}/vehicles", json=promises.VEHICLE, timeout=30)
    promises.hold(answer.status_code == 503, f"a save into a damaged database: {answer.status_code}")
    forecast = httpx.post(f"{system.url}/predict", json=promises.VEHICLE, timeout=30)
    promises.hold(
        forecast.status_code == 200, f"a forecast beside a damaged database: {forecast.status_code}"
    )
    fails_clearly(system)


def fails_clearly(system: System) -> None:
    """Seed and materialize fail with an error of ours."""
    try:
        seed(system.source, system.settings.data_dir)
        materialize(system.source, system.offline, system.online, as_of=now())
    except VroomFeaturesError:
        return
    raise promises.BrokenPromiseError("a run succeeded that could not")


@contextmanager
def wal_cut(system: System) -> Iterator[None]:
    """Kill the web workers, and leave half a frame at the end of the write-ahead log.

    That is what a crash of the machine leaves of a transaction that was never acknowledged.
    """
    reader = sqlite3.connect(system.database, isolation_level=None)
    reader.execute("SELECT COUNT(*) FROM vehicles").fetchone()  # keeps the log from being removed
    lock = sqlite3.connect(system.database, isolation_level=None, timeout=10)
    lock.execute("BEGIN IMMEDIATE")
    for worker in system.web_workers():
        kill(worker)
    wal = system.database.with_name(f"{system.database.name}-wal")
    with wal.open("ab") as file:
        file.write(b"\x00\x00\x01" + b"\x5a" * 5_000)
    lock.close()
    reader.close()
    yield


@contextmanager
def full_disk(system: System, name: str) -> Iterator[None]:
    """Fill the disk that a folder is on; where it is no disk of its own, forbid files to grow."""
    disk = system.disks[name]
    if disk.is_small:
        with disk.full():
            yield
        return
    web = system.program("web")
    processes = [psutil.Process(), web, *web.children()]
    for process in processes:
        process.rlimit(resource.RLIMIT_FSIZE, (NO_ROOM_BYTES, resource.RLIM_INFINITY))
    try:
        yield
    finally:
        for process in processes:
            process.rlimit(resource.RLIMIT_FSIZE, (resource.RLIM_INFINITY, resource.RLIM_INFINITY))


def without_room(_: System, traffic: Traffic) -> None:
    """Forecasts of what is typed in go on; saves are told to come again, and so may stored vehicles be.

    SQLite's write-ahead log has an index in a file, which who opens the database first has to make: on a full
    disk nobody can, so not even reading is possible.
    """
    before = traffic.heard.num_forecasts
    traffic.wait_for(forecasts=10)
    traffic.wait_for(saves=10**9, timeout_s=LOCKED_S)
    promises.hold(traffic.heard.num_forecasts >= before + 10, "forecasts stopped")
    promises.hold(traffic.heard.refused["save: 503"] > 0, "no save was told to come again")


def materializes_in_vain(system: System, traffic: Traffic) -> None:
    """Materialize a changed fleet: it fails with a clear error, and the old snapshot stays."""
    before = system.offline.current().id
    change_fleet(system.settings.data_dir, 4)
    fails_clearly(system)
    promises.hold(system.offline.current().id == before, "the current snapshot changed")
    promises.snapshots_are_whole(system)
    traffic.wait_for(saves=3, forecasts=5)


def promotes_in_vain(system: System, traffic: Traffic) -> None:
    """Promote a model that no worker has room for: the old one goes on."""
    for folder in (system.settings.home / "models").glob("*-*"):
        if folder.is_dir() and not folder.name.startswith("."):
            shutil.rmtree(folder)
    other_champion(system)
    traffic.wait_for(saves=3, forecasts=20)


def cases() -> Iterator[Case]:
    """Give the faults of the database and of disks."""
    save = frozenset({"save"})
    yield Fault("database locked for 3 s", "database", locked, for_a_while)
    yield Fault("database locked for 13 s", "database", locked, for_too_long, refuses=save)
    yield Fault("database's WAL cut in a frame, web workers killed", "database", wal_cut, refuses=BOTH)
    yield Fault("database damaged, backup restored", "database", damaged, refuses_clearly, refuses=BOTH)
    yield Fault(
        "disk full under the database",
        "disk",
        lambda s: full_disk(s, "db"),
        without_room,
        refuses=save | {"predict/id"},
    )
    yield Fault("disk full under Parquet", "disk", lambda s: full_disk(s, "offline"), materializes_in_vain)
    yield Fault("disk full under the model cache", "disk", lambda s: full_disk(s, "models"), promotes_in_vain)
