"""Out of disk: the old state stays whole, and the next run ends as a clean one."""

import shutil
import sqlite3
from collections.abc import Iterator
from contextlib import closing, contextmanager
from itertools import count
from pathlib import Path
from typing import Any

import pandas as pd
import pytest
import redis as redis_py

from tests.vroom_features.files import booking_lines, vehicle_line, write_csvs
from tests.vroom_features.full_disk import (
    fails_past_byte,
    seed_files,
    write_stores,
)
from tests.vroom_features.stores import BOOKED, BOOKINGS, FLEET, VEHICLES, arrive, audited, run
from vroom_features.database.vehicles import SourceStore
from vroom_features.ingest.seed import seed
from vroom_features.offline.snapshots import OfflineStore
from vroom_features.online.store import OnlineStore
from vroom_features.online.sync import AuditReport

CHANGED = [vehicle_line(1, actual_price=99), *FLEET[1:38], vehicle_line(41), vehicle_line(42)]
CHANGED_BOOKED = booking_lines([(i, day) for i in (*range(1, 31), 41) for day in range((i + 1) % 4)])
PARTITION = 25
"""Vehicles a partition: so few that a run has two."""


class Yesterday:
    """A system as a run left it yesterday, to be put back as often as needed."""

    def __init__(self, folder: Path, redis_url: str) -> None:
        self.kept, self.now = folder / "kept", folder / "now"
        self.redis = redis_py.Redis.from_url(redis_url)
        self.url = f"sqlite:///{self.now / 'vroom.db'}"
        self.offline = OfflineStore(str(self.now / "offline"))
        self.online = OnlineStore(self.redis)
        self.today = write_csvs(folder / "today", CHANGED, CHANGED_BOOKED)
        self.now.mkdir()
        with closing(SourceStore.open(self.url)) as source:
            seed(source, write_csvs(folder / "yesterday", FLEET, BOOKED))
            self.arrivals = [arrive(source, num_images=n) for n in (1, 2, 3)]
            run(source, self.offline, self.online, partition_vehicles=PARTITION)
        self.frame = self.offline.current().read()
        self.keep()

    def keep(self) -> None:
        """Make what is there now what is put back, and note what a clean run makes of it."""
        shutil.rmtree(self.kept, ignore_errors=True)
        shutil.copytree(self.now, self.kept)
        clean = OfflineStore(str(self.now / "clean"))
        with closing(SourceStore.open(self.url)) as source:
            self.clean_digest = run(source, clean).digest
        self.clean = clean.current().read()
        self.keys = {key: self.redis.dump(key) for key in self.redis.scan_iter()}

    def put_back(self) -> None:
        """Make everything as it was kept."""
        shutil.rmtree(self.now)
        shutil.copytree(self.kept, self.now)
        self.redis.flushall()
        for key, value in self.keys.items():
            self.redis.restore(key, 0, value)  # type: ignore[arg-type]  # dump gave bytes, there is such a key

    def contents(self) -> tuple[list[Any], list[Any]]:
        """Return all that a seed writes, from a database that is whole."""
        with closing(sqlite3.connect(self.now / "vroom.db")) as connection:
            assert connection.execute("PRAGMA integrity_check").fetchall() == [("ok",)]
            return connection.execute(VEHICLES).fetchall(), connection.execute(BOOKINGS).fetchall()

    def materialize(self) -> None:
        """Run to the end, and hold the result against a clean run's."""
        with closing(SourceStore.open(self.url)) as source:
            report = run(source, self.offline, self.online, partition_vehicles=PARTITION)
            assert audited(source, self.online) == AuditReport(report.num_online or 0, 0, 0, 0, 0)
        assert report.digest == self.clean_digest
        pd.testing.assert_frame_equal(self.offline.current().read(), self.clean)

    def is_whole(self) -> bool:
        """Hold every snapshot to its checksums; say whether the current one is yesterday's."""
        for snapshot in self.offline.snapshots():
            assert len(snapshot.read()) == snapshot.num_rows
        frame = self.offline.current().read()
        is_old = frame.equals(self.frame)
        assert is_old or frame["actual_price"][0] == 99
        return is_old


@pytest.fixture
def yesterday(tmp_path: Path, redis_url: str) -> Iterator[Yesterday]:
    system = Yesterday(tmp_path, redis_url)
    yield system
    system.redis.close()


@pytest.fixture
def changed(yesterday: Yesterday, tmp_path: Path) -> Yesterday:
    """Return a system whose database changed since its last run."""
    booked = f"{yesterday.arrivals[0]},2023-03-01"
    with closing(SourceStore.open(yesterday.url)) as source:
        files = write_csvs(tmp_path / "today", CHANGED, [*CHANGED_BOOKED, booked])
        seed(source, files, allow_removals=True)
        source.delete_vehicle(yesterday.arrivals[1])
        arrive(source, num_images=9)
    yesterday.keep()
    return yesterday


def sizes(step: int) -> Iterator[int]:
    return count(step, step)


@contextmanager
def another_reader(system: Yesterday) -> Iterator[None]:
    """Keep SQLite's shared index in place, which a process that may write little cannot make."""
    with closing(sqlite3.connect(system.now / "vroom.db")) as connection:
        connection.execute("SELECT 1 FROM vehicles").fetchone()
        yield


def test_a_full_disk_leaves_the_old_snapshot_says_so_and_the_next_run_converges(
    changed: Yesterday, redis_url: str
) -> None:
    errors = []
    for size in sizes(700):
        changed.put_back()
        with another_reader(changed):
            work = (write_stores, changed.url, changed.offline.root, redis_url, PARTITION)
            error = fails_past_byte(size, *work)
        if error is None:
            break
        errors.append(error)
        assert changed.is_whole()
        assert not list(changed.now.rglob("*.tmp"))
        changed.materialize()
    assert len(errors) >= 5
    assert all("offline store" in error and "File too large" in error for error in errors)


def test_a_seed_on_a_full_disk_changes_nothing_and_says_so(yesterday: Yesterday) -> None:
    old, errors = yesterday.contents(), []
    for size in sizes(10_000):
        yesterday.put_back()
        error = fails_past_byte(size, seed_files, yesterday.url, str(yesterday.today))
        if error is None:
            break
        errors.append(error)
        assert yesterday.contents() == old
        seed_files(yesterday.url, str(yesterday.today))
        assert yesterday.contents() != old
    assert len(errors) >= 5
    assert all("database" in error for error in errors)
