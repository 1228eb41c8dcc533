"""The source database: an acknowledged save is in it, once."""

import sqlite3
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from contextlib import closing
from datetime import UTC, datetime, timedelta, timezone
from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from tests.factories import make_vehicle
from tests.vroom_features.files import booking_lines, vehicle_line, write_csvs
from tests.vroom_features.stores import on_both
from vroom_features.database.queries import VehicleFilter
from vroom_features.database.vehicles import SourceStore
from vroom_features.errors import (
    IdempotencyConflictError,
    NotDeletableError,
    SourceStoreError,
    VehicleNotFoundError,
)
from vroom_features.features import has_outcome, observed_count
from vroom_features.ingest.seed import seed
from vroom_features.offline.partition import HIGHEST, LOWEST, fleet_rows, read_partition
from vroom_features.vehicle import UI_VEHICLE_ID_START

NOW = datetime(2024, 5, 1, 12, 30, 15, 123456, tzinfo=UTC)


def save(source: SourceStore, **changes: object) -> int:
    return source.save_vehicle(make_vehicle(**changes), saved_at=NOW).vehicle.vehicle_id


def book(source: SourceStore, vehicle_id: int) -> None:
    with source.engine.begin() as connection:
        connection.exec_driver_sql(
            f"INSERT INTO reservations (vehicle_id, created_at) VALUES ({vehicle_id}, {0})"
            if source.engine.dialect.name == "sqlite"
            else f"INSERT INTO reservations (vehicle_id, created_at) VALUES ({vehicle_id}, now())"
        )


@on_both
def test_a_saved_vehicle_comes_back_as_it_went_in_with_its_time_in_utc(source: SourceStore) -> None:
    paris = NOW.astimezone(timezone(timedelta(hours=2)))
    saved = source.save_vehicle(make_vehicle(actual_price=45.1), saved_at=paris)
    assert saved.created
    assert saved.vehicle.vehicle_id == UI_VEHICLE_ID_START
    assert source.get_vehicle(saved.vehicle.vehicle_id) == saved.vehicle
    assert saved.vehicle.is_new_arrival
    assert saved.vehicle.saved_at == NOW
    assert source.get_vehicle(10**30) is None
    assert make_vehicle(actual_price=45.1).model_dump().items() <= saved.vehicle.model_dump().items()


def test_a_time_without_a_zone_is_refused_and_nothing_is_saved(source: SourceStore) -> None:
    with pytest.raises(SourceStoreError, match="zone"):
        source.save_vehicle(make_vehicle(), saved_at=NOW.replace(tzinfo=None))
    assert source.list_vehicles().total == 0


def test_a_key_saves_one_vehicle_and_no_other(source: SourceStore) -> None:
    first = source.save_vehicle(make_vehicle(), saved_at=NOW, idempotency_key="k")
    second = source.save_vehicle(make_vehicle(), saved_at=NOW + timedelta(hours=1), idempotency_key="k")
    assert (first.created, second.created) == (True, False)
    assert first.vehicle == second.vehicle
    with pytest.raises(IdempotencyConflictError):
        source.save_vehicle(make_vehicle(num_images=1), saved_at=NOW, idempotency_key="k")
    assert source.list_vehicles().total == 1
    source.delete_vehicle(first.vehicle.vehicle_id)
    with pytest.raises(VehicleNotFoundError):
        source.save_vehicle(make_vehicle(), saved_at=NOW, idempotency_key="k")


@on_both
def test_many_saves_at_once_with_one_key_make_one_row(source: SourceStore) -> None:
    with ThreadPoolExecutor(8) as pool:
        jobs = [
            pool.submit(source.save_vehicle, make_vehicle(), saved_at=NOW, idempotency_key="k")
            for _ in range(24)
        ]
        results = [job.result() for job in jobs]
    assert sum(result.created for result in results) == 1
    assert len({result.vehicle.vehicle_id for result in results}) == 1


@on_both
def test_an_id_is_never_used_again(source: SourceStore) -> None:
    first = save(source)
    source.delete_vehicle(first)
    assert save(source) == first + 1


@on_both
def test_a_booked_vehicle_counts_as_fleet_and_cannot_be_deleted(source: SourceStore) -> None:
    booked, other = save(source), save(source)
    book(source, booked)
    assert [v.vehicle_id for v in source.list_vehicles(kind="fleet").items] == [booked]
    assert [v.vehicle_id for v in source.list_vehicles(kind="new").items] == [other]
    with pytest.raises(NotDeletableError):
        source.delete_vehicle(booked)
    with pytest.raises(VehicleNotFoundError):
        source.delete_vehicle(1)
    counts = source.count_vehicles()
    assert (counts.fleet, counts.new_arrivals, counts.reservations) == (1, 1, 1)


@on_both
def test_changes_since_returns_what_was_saved_and_deleted(source: SourceStore) -> None:
    start = source.changes_since(0).change_number
    first, second = save(source), save(source)
    gone_at = source.delete_vehicle(second)
    changes = source.changes_since(start)
    assert [v.vehicle_id for v in changes.vehicles] == [first]
    assert changes.deleted == {second: gone_at}
    assert (changes.change_number, changes.complete) == (gone_at, True)
    assert source.changes_since(gone_at).vehicles == ()


@on_both
@pytest.mark.parametrize("sort", ["vehicle_id", "saved_at", "actual_price", "price_diff", "num_reservations"])
@pytest.mark.parametrize("descending", [False, True])
def test_pages_together_hold_every_row_once_in_order(
    source: SourceStore, sort: str, descending: bool
) -> None:
    for n in range(7):
        save(source, num_images=n % 3, actual_price=40.0 + n % 2)
    pages = [
        source.list_vehicles(sort=sort, descending=descending, page=page, page_size=3)
        for page in (1, 2, 3, 4)
    ]
    rows = [row for page in pages for row in page.items]
    assert [len(page.items) for page in pages] == [3, 3, 1, 0]
    assert {page.total for page in pages} == {7}
    assert len({row.vehicle_id for row in rows}) == 7
    ids = source.list_vehicle_ids(
        kind=None, search="", where=VehicleFilter(), sort=sort, descending=descending, limit=6
    )
    assert source.get_vehicles(ids) == tuple(rows[:6])
    key: Callable[..., float] = {
        "price_diff": lambda row: row.actual_price - row.recommended_price,
        "num_reservations": lambda row: row.num_reservations or 0,
    }.get(sort, lambda row: getattr(row, sort))
    assert [key(row) for row in rows] == sorted(map(key, rows), reverse=descending)
    with pytest.raises(ValueError, match="sort"):
        source.list_vehicles(sort=f"{sort}; DROP TABLE vehicles")


@pytest.mark.parametrize(
    ("where", "expected"),
    [
        (VehicleFilter(), {1, 2, 3}),
        (VehicleFilter(technology=0), {2}),
        (VehicleFilter(street_parked=1), {3}),
        (VehicleFilter(is_overpriced=True), {1, 2}),
        (VehicleFilter(is_overpriced=False), {3}),
        (VehicleFilter(technology=1, is_overpriced=True), {1}),
        (VehicleFilter(technology=0, street_parked=1), set()),
    ],
)
def test_a_filter_selects_vehicles(source: SourceStore, where: VehicleFilter, expected: set[int]) -> None:
    save(source, num_images=1, technology=1, street_parked=0, actual_price=51.0, recommended_price=50.0)
    save(source, num_images=2, technology=0, street_parked=0, actual_price=51.0, recommended_price=50.0)
    save(source, num_images=3, technology=1, street_parked=1, actual_price=50.0, recommended_price=50.0)
    found = source.list_vehicles(where=where)
    assert ({row.num_images for row in found.items}, found.total) == (expected, len(expected))


@on_both
@pytest.mark.parametrize(
    ("search", "expected"),
    [("1", 2), ("1000000001", 1), ("2", 0), ("x", 0), ("%", 0), ("٣", 0), ("9" * 40, 0), (" 10 ", 2)],
)
def test_search_finds_ids_by_their_first_digits(source: SourceStore, search: str, expected: int) -> None:
    save(source)
    save(source)
    assert source.list_vehicles(search=search).total == expected


@pytest.mark.parametrize(
    "url", ["", "sqlite://", "mysql://x/y", "sqlite:////proc/nowhere/vroom.db", "not a url"]
)
def test_a_database_that_cannot_be_opened_is_a_clear_error(url: str) -> None:
    with pytest.raises(SourceStoreError, match=r"database|expected"):
        SourceStore.open(url)


def test_a_file_that_is_no_database_is_a_clear_error(tmp_path: Path) -> None:
    (tmp_path / "x.db").write_bytes(b"this is not a database, not at all" * 100)
    with pytest.raises(SourceStoreError, match="not a database"):
        SourceStore.open(f"sqlite:///{tmp_path / 'x.db'}")


def test_a_save_does_not_wait_for_readers(tmp_path: Path) -> None:
    path = tmp_path / "vroom.db"
    with (
        closing(SourceStore.open(f"sqlite:///{path}")) as store,
        closing(sqlite3.connect(path, isolation_level=None)) as reader,
    ):
        reader.execute("BEGIN")
        count = "SELECT COUNT(*) FROM vehicles"
        assert reader.execute(count).fetchone() == (0,)
        save(store)
        assert reader.execute(count).fetchone() == (0,)  # it goes on seeing the moment that it began with
        reader.execute("COMMIT")
        assert reader.execute(count).fetchone() == (1,)


def test_opening_many_times_at_once_makes_one_schema(tmp_path: Path) -> None:
    url = f"sqlite:///{tmp_path / 'new.db'}"
    with ThreadPoolExecutor(6) as pool:
        stores = list(pool.map(lambda _: SourceStore.open(url), range(6)))
    assert [save(store) for store in stores] == [UI_VEHICLE_ID_START + n for n in range(6)]
    for store in stores:
        store.close()


@on_both
@given(
    vehicles=st.lists(st.tuples(st.sampled_from(["csv", "ui"]), st.integers(0, 2)), min_size=1, max_size=8)
)
@settings(max_examples=15, suppress_health_check=[HealthCheck.function_scoped_fixture], deadline=None)
def test_who_is_a_new_arrival_is_one_rule_in_the_database_in_a_row_and_in_a_partition(
    source: SourceStore, tmp_path_factory: pytest.TempPathFactory, vehicles: list[tuple[str, int]]
) -> None:
    ids = {}
    for number, (kind, num_booked) in enumerate(vehicles, 1):
        ids[save(source) if kind == "ui" else number] = num_booked
    fleet = [vehicle_line(vehicle_id) for vehicle_id in ids if vehicle_id < UI_VEHICLE_ID_START]
    booked = booking_lines([(vehicle_id, day) for vehicle_id, num in ids.items() for day in range(num)])
    seed(source, write_csvs(tmp_path_factory.mktemp("csv"), fleet, booked), allow_removals=True)
    everyone = source.list_vehicles(page_size=1_000).items
    by_rule = {v.vehicle_id for v in everyone if not has_outcome(v.source == "csv", ids.get(v.vehicle_id, 0))}
    with source.reading() as connection:
        partition = read_partition(connection, LOWEST, HIGHEST)
    label = observed_count(partition["num_booked"], partition["source"])
    assert {v.vehicle_id for v in everyone if v.is_new_arrival} == by_rule
    assert {v.vehicle_id for v in source.list_vehicles(kind="new", page_size=1_000).items} == by_rule
    assert set(partition["vehicle_id"][label.isna()]) == by_rule
    assert set(partition["vehicle_id"]) - set(fleet_rows(partition)["vehicle_id"]) == by_rule
