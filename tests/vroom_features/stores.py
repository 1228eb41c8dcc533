"""What the tests do to stores."""

import csv
import shutil
from collections.abc import Callable, Iterator
from contextlib import closing, contextmanager
from dataclasses import asdict
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pytest
import redis as redis_py
from sqlalchemy import text

from tests.factories import make_vehicle
from tests.snapshots import SAMPLE
from tests.vroom_features.files import booking_lines, vehicle_line, write_csvs
from vroom_features.database.vehicles import SourceStore
from vroom_features.errors import DataContractError
from vroom_features.ingest.seed import SeedReport, seed
from vroom_features.materialize import MaterializeReport, materialize
from vroom_features.offline.snapshots import OfflineStore, Snapshot
from vroom_features.online.store import NUM_BUCKETS, OnlineStore
from vroom_features.online.sync import AuditReport, audit
from vroom_features.vehicle import COLUMNS

on_both = pytest.mark.parametrize("source", ["sqlite", "postgresql"], indirect=True)
"""For tests of code that differs between the two databases."""
NOW = datetime(2024, 5, 1, tzinfo=UTC)
FLEET = [vehicle_line(i, actual_price=40 + i / 7) for i in range(1, 41)]
CHANGED = [vehicle_line(1, actual_price=99), *FLEET[1:]]
BOOKED = booking_lines([(i, day) for i in range(1, 41) for day in range(i % 4)])


@contextmanager
def fresh_stores(
    folder: Path, redis: redis_py.Redis
) -> Iterator[tuple[SourceStore, OfflineStore, OnlineStore]]:
    """Open a database and both stores, all empty: for a test that runs many times over."""
    redis.flushall()
    with closing(SourceStore.open(f"sqlite:///{folder / 'vroom.db'}")) as source:
        yield source, OfflineStore(str(folder / "offline")), OnlineStore(redis)


def arrive(source: SourceStore, **changes: object) -> int:
    return source.save_vehicle(make_vehicle(**changes), saved_at=NOW).vehicle.vehicle_id


def run(
    source: SourceStore, offline: OfflineStore, online: OnlineStore | None = None, **options: object
) -> MaterializeReport:
    return materialize(source, offline, online, **{"now": NOW} | options)  # type: ignore[arg-type]


def audited(source: SourceStore, online: OnlineStore) -> AuditReport:
    return audit(source, online, as_of=NOW)


def ids_in(online: OnlineStore) -> list[int]:
    fields = (field for number in range(NUM_BUCKETS) for field in online.bucket(number))
    return sorted(int(field) for field in fields if field.isdigit())


def book(source: SourceStore, tmp_path: Path, vehicle_id: int) -> None:
    seed(source, write_csvs(tmp_path / "booked", FLEET, [*BOOKED, f"{vehicle_id},2023-03-01"]))


def seed_with_booked_arrivals(source: SourceStore, folder: Path, num_arrivals: int = 300) -> None:
    """Seed the sample fleet, save vehicles like its own over the web form, and book each once or twice."""
    shutil.copytree(SAMPLE, folder)
    seed(source, folder)
    with (folder / "vehicles.csv").open() as file:
        like = [row for row, _ in zip(csv.DictReader(file), range(num_arrivals), strict=False)]
    arrivals = [
        arrive(source, **{name: float(value) for name, value in row.items() if name != "vehicle_id"})
        for row in like
    ]
    days = [(vehicle_id, 45 * visit) for vehicle_id in arrivals for visit in range(1 + vehicle_id % 2)]
    with (folder / "reservations.csv").open("a") as file:
        file.writelines(f"{line}\n" for line in booking_lines(days))
    seed(source, folder)


def seed_sample(source: SourceStore) -> None:
    seed(source, SAMPLE)


def store_fleet(
    home: Path, fill: Callable[[SourceStore], None] = seed_sample, *, partition_vehicles: int = 300
) -> Snapshot:
    """Fill a database and an offline store, where the settings of a home look for them."""
    offline = OfflineStore(str(home / "offline"))
    home.mkdir(exist_ok=True)
    with closing(SourceStore.open(f"sqlite:///{home / 'vroom.db'}")) as source:
        fill(source)
        run(source, offline, partition_vehicles=partition_vehicles)
    return offline.current()


def rows(source: SourceStore, query: str) -> list[Any]:
    with source.engine.begin() as connection:
        return [tuple(row) for row in connection.execute(text(query))]


def contents(source: SourceStore) -> tuple[list[Any], list[Any]]:
    """Everything a seed writes, without row versions."""
    vehicles = rows(source, f"SELECT vehicle_id, source, {', '.join(COLUMNS)} FROM vehicles ORDER BY 1")
    return vehicles, rows(source, "SELECT vehicle_id, created_at FROM reservations ORDER BY 1, 2")


def counts(report: SeedReport) -> dict[str, int]:
    """Return the counts of changed rows that are not zero."""
    found = {n: value for n, value in asdict(report).items() if n.startswith(("vehicles_", "reservations_"))}
    unchanged = ("vehicles_unchanged", "vehicles_matured", "reservations_unchanged")
    return {name: value for name, value in found.items() if value and name not in unchanged}


@contextmanager
def refused(source: SourceStore, problem: str) -> Iterator[None]:
    """Expect that a file is refused, and that the database stays as it is."""
    before = contents(source)
    with pytest.raises(DataContractError, match=problem):
        yield
    assert contents(source) == before
