"""Faults of the database, disks and clocks; many at once; and each step of each flow killed anywhere."""

import errno
import shutil
import sqlite3
import time
from collections.abc import Iterator
from concurrent.futures import ProcessPoolExecutor, ThreadPoolExecutor
from contextlib import closing, contextmanager, suppress
from datetime import UTC, datetime, timedelta
from functools import partial
from multiprocessing import get_context
from pathlib import Path
from typing import Any

import httpx

from tests import operations
from tests.drill import promises, victim
from tests.drill.case import CASES, KillPoints, fault
from tests.drill.services import WEB
from tests.drill.system import System, kill, now, write_fleet
from tests.drill.traffic import Traffic
from tests.factories import VEHICLE
from tests.promises.system import wait_until
from vroom_features.database.backup import back_up, restore
from vroom_features.errors import VroomFeaturesError

PAGE_BYTES = 16_384
SAVE_WAITS_S = 10
NUM_DELETED = 10
PROMOTION_TIMEOUT_S = 240  # each starts a Python of its own, which takes long on a busy machine


@contextmanager
def write_lock(system: System) -> Iterator[None]:
    """Hold the database's write lock, from a moment when its write-ahead log is empty."""
    log = _write_ahead_log(system)
    with closing(sqlite3.connect(system.database, isolation_level=None, timeout=10)) as connection:
        while True:
            connection.execute("PRAGMA wal_checkpoint(TRUNCATE)")
            connection.execute("BEGIN IMMEDIATE")
            if not log.exists() or log.stat().st_size == 0:
                break
            connection.execute("ROLLBACK")
        yield


def _write_ahead_log(system: System) -> Path:
    return system.database.with_name(f"{system.database.name}-wal")


@fault("database", "database locked for 13 s", refuses="save", how={"seconds": 13})
@fault("database", "database locked for 3 s", how={"seconds": 3})
def locked(system: System, traffic: Traffic, *, seconds: float) -> None:
    with write_lock(system):
        traffic.go_on(saves=0)
        time.sleep(seconds)
    assert seconds < SAVE_WAITS_S or traffic.refused["save: 503"], "no save was put off"


@fault("database", "database's WAL cut in a frame, web workers killed", refuses=WEB)
def log_cut(system: System, _: Traffic) -> None:
    """Half a frame at the log's end is what a crash leaves of a transaction that was never acknowledged."""
    with closing(sqlite3.connect(system.database, isolation_level=None)) as reader:
        reader.execute("SELECT COUNT(*) FROM vehicles").fetchone()  # keeps the log from being removed
        with write_lock(system):
            for worker in system.web_workers():
                kill(worker)
            with _write_ahead_log(system).open("ab") as file:
                file.write(b"\x00\x00\x01" + b"\x5a" * 5_000)


@fault("database", "database damaged, backup restored", refuses=WEB)
def damaged(system: System, _: Traffic) -> None:
    backup = system.settings.home / "backup.db"
    backup.unlink(missing_ok=True)
    with write_lock(system):  # so that no save is acknowledged between the backup and the damage
        back_up(system.settings.source_database, backup)
        with system.database.open("r+b") as file:
            for place in range(0, system.database.stat().st_size, PAGE_BYTES):
                file.seek(place)
                file.write(b"\xa5" * 4096)
    try:
        for path, expected in (("/vehicles", 503), ("/predict", 200)):
            status = httpx.post(f"{system.web.url}{path}", json=VEHICLE, timeout=30).status_code
            assert status == expected, f"{path} of a damaged database answers {status}"
        materialization_fails(system)
    finally:
        restore(system.settings.source_database, backup, force=True)


def materialization_fails(system: System) -> None:
    before = system.offline.current().id
    with suppress(VroomFeaturesError):
        system.materialize()
        raise AssertionError("a run succeeded that could not")
    assert system.offline.current().id == before, "the current snapshot changed"


@contextmanager
def full_disk(system: System, name: str) -> Iterator[None]:
    ballast = system.settings.home / name / "ballast"
    try:
        with suppress(OSError), ballast.open("wb", buffering=0) as file:
            while True:
                file.write(bytes(4096))
        yield
    finally:
        ballast.unlink()


def needs_small_disks(system: System) -> str:
    return "" if (system.settings.home / "db").is_mount() else "only root can mount small disks"


@fault("disk", "disk full under the database", refuses="save predict/id", skip=needs_small_disks)
def no_room_for_saves(system: System, traffic: Traffic) -> None:
    """Forecasts of stored vehicles are put off too: who opens SQLite first has to write its log's index."""
    before = traffic.num_forecasts
    with full_disk(system, "db"):
        traffic.go_on(saves=0)
        assert traffic.num_forecasts >= before + 10, "forecasts stopped"
        wait_until(lambda: traffic.refused["save: 503"])


@fault("disk", "disk full under Parquet", skip=needs_small_disks)
def no_room_for_a_snapshot(system: System, traffic: Traffic) -> None:
    with full_disk(system, "offline"):
        write_fleet(system.settings.data_dir, 4)
        materialization_fails(system)
        promises.snapshots_are_whole(system)
        traffic.go_on()


@fault("disk", "disk full under the model cache", skip=needs_small_disks)
def no_room_for_a_model(system: System, traffic: Traffic) -> None:
    with full_disk(system, "models"):
        for folder in (system.settings.home / "models").glob("[!.]*-*/"):
            shutil.rmtree(folder)
        system.change_champion()
        traffic.go_on(forecasts=20)


@fault("races", "8 clients save at once", num_savers=8)
def many_saves(_: System, traffic: Traffic) -> None:
    traffic.go_on(saves=80)


@fault("races", "three promotions at once", tries=2)
def promotions_at_once(_: System, traffic: Traffic) -> None:
    """Of both versions, one of them twice, each in a process."""
    with ProcessPoolExecutor(3, mp_context=get_context("spawn")) as pool:
        runs = [pool.submit(victim.run_step, "promotion", now(), version=version) for version in (1, 2, 1)]
        traffic.go_on(forecasts=20)
        ends = [run.result(PROMOTION_TIMEOUT_S).how for run in runs]
    assert set(ends) == {"finished"}, f"promotions ended as {ends}"


@fault("races", "deletions race materializations")
def deletions_and_runs(system: System, _: Traffic) -> None:
    live = [i for i, _ in system.kept.saved.values() if i not in system.kept.deleted]
    with ThreadPoolExecutor(1) as pool:
        for number, vehicle_id in enumerate(live[-NUM_DELETED:]):
            write_fleet(system.settings.data_dir, number)
            system.kept.deleted.add(vehicle_id)
            deletion = pool.submit(system.web.delete, f"/vehicles/{vehicle_id}")
            system.materialize()
            assert deletion.result().status_code == 204, deletion.result().text


@fault(
    "clock", "clock in 1970 (at the process's edge)", how={"offset": datetime(1970, 2, 1, tzinfo=UTC) - now()}
)
@fault("clock", "clock ten years ahead (at the process's edge)", how={"offset": timedelta(days=3650)})
@fault("clock", "clock a day behind (at the process's edge)", how={"offset": timedelta(days=-1)})
def wrong_clock(system: System, _: Traffic, *, offset: timedelta) -> None:
    write_fleet(system.settings.data_dir, offset.days % 7)
    system.materialize(as_of=now() + offset)
    off = abs(system.offline.current().created_at - now())
    assert off > timedelta(hours=1), "the clock was not off"


def materialize(system: System, number: int, at: int, **stopped: Any) -> operations.Ended:
    write_fleet(system.settings.data_dir, number)
    return system.run_step("materialize", stop_at=at, **stopped)


def materialize_again(system: System, _: int) -> None:
    promises.runs_converge(system)
    promises.the_snapshot_is_that_of_the_files(system)


def register(system: System, number: int, at: int) -> operations.Ended:
    return system.run_step("training", stop_at=at, seed=7, model_name=f"drill-{number}")


def register_again(system: System, number: int) -> None:
    ended = register(system, number, 0)
    assert ended.how == "finished", f"run again it {ended.how}"
    promises.one_whole_candidate(system, f"drill-{number}")


def promote(system: System, _: int, at: int) -> operations.Ended:
    champion = system.registry.champion()
    version = 2 if champion is not None and champion.version == 1 else 1
    return system.run_step("promotion", stop_at=at, version=version)


def roll_back(system: System, number: int, at: int) -> operations.Ended:
    """Roll back, after a promotion that there is something to roll back to."""
    promote(system, number, 0)
    return system.run_step("rollback", stop_at=at)


def repair(system: System, _: int) -> None:
    """Read who is champion, as every flow does first, and finish what was cut off."""
    promises.runs_converge(system)
    promises.history_and_alias_agree(system)


def monitor(system: System, _: int, at: int) -> operations.Ended:
    return system.run_step("monitor", stop_at=at)


WITHOUT_DISK = partial(materialize, error=errno.ENOSPC, only=operations.FILLS_THE_DISK)
NO_DISK = "materialize without disk space from its n-th write on"
CASES.extend(
    [
        KillPoints("kill", "materialize killed at its n-th operation", materialize, materialize_again, 60),
        KillPoints("kill", "registration killed at its n-th operation", register, register_again, 24),
        KillPoints("kill", "promotion killed at its n-th operation", promote, repair, 30),
        KillPoints("kill", "rollback killed at its n-th operation", roll_back, repair, 12),
        KillPoints("kill", "monitor killed at its n-th operation", monitor, repair, 8),
        KillPoints("disk", NO_DISK, WITHOUT_DISK, materialize_again, 30, expected="failed"),
    ]
)
