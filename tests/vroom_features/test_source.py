"""The source database: an acknowledged save is in it, once."""

import signal
import sqlite3
import subprocess
import sys
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from contextlib import closing
from datetime import timedelta, timezone
from itertools import product
from operator import attrgetter
from pathlib import Path

import pytest

from tests.factories import make_vehicle
from tests.vroom_features.stores import NOW, arrive, on_both
from tests.vroom_features.watched import FIRST, seed_days
from vroom_features.database.engine import promotion_lock
from vroom_features.database.queries import SavedVehicle, VehicleFilter
from vroom_features.database.vehicles import SourceStore
from vroom_features.errors import (
    IdempotencyConflictError,
    LockTimeoutError,
    SourceStoreError,
    VehicleNotFoundError,
)
from vroom_features.vehicle import UI_VEHICLE_ID_START


@on_both
def test_a_saved_vehicle_comes_back_as_it_went_in_with_its_time_in_utc(source: SourceStore) -> None:
    now = NOW + timedelta(microseconds=123456)
    in_paris = now.astimezone(timezone(timedelta(hours=2)))
    saved = source.save_vehicle(make_vehicle(actual_price=45.1), saved_at=in_paris)
    assert saved.created
    assert saved.vehicle.is_new_arrival
    assert (saved.vehicle.vehicle_id, saved.vehicle.saved_at) == (UI_VEHICLE_ID_START, now)
    assert source.get_vehicle(saved.vehicle.vehicle_id) == saved.vehicle
    assert source.get_vehicle(10**30) is None
    assert make_vehicle(actual_price=45.1).model_dump().items() <= saved.vehicle.model_dump().items()
    with pytest.raises(SourceStoreError, match="zone"):
        source.save_vehicle(make_vehicle(), saved_at=NOW.replace(tzinfo=None))
    assert source.list_vehicles().total == 1


@on_both
def test_a_key_saves_one_vehicle_however_often_and_no_other(source: SourceStore) -> None:
    def save_with_key(hour: int = 0, **changes: object) -> SavedVehicle:
        saved_at = NOW + timedelta(hours=hour)
        return source.save_vehicle(make_vehicle(**changes), saved_at=saved_at, idempotency_key="k")

    with ThreadPoolExecutor(8) as pool:
        results = list(pool.map(save_with_key, range(24)))
    assert sum(result.created for result in results) == 1
    assert all(result.vehicle == results[0].vehicle for result in results)
    with pytest.raises(IdempotencyConflictError):
        save_with_key(num_images=1)
    assert source.list_vehicles().total == 1
    source.delete_vehicle(results[0].vehicle.vehicle_id)
    with pytest.raises(VehicleNotFoundError):
        save_with_key()


@on_both
def test_changes_since_returns_what_was_saved_and_deleted_and_no_id_comes_back(
    source: SourceStore, tmp_path: Path
) -> None:
    seed_days(source, tmp_path, [1, 2], FIRST)
    start = source.changes_since(0).change_number
    first, second = arrive(source), arrive(source)
    seed_days(source, tmp_path, [1], FIRST, allow_removals=True)  # vehicles of a CSV are none of the form
    gone_at = source.delete_vehicle(second)
    changes = source.changes_since(start)
    assert [v.vehicle_id for v in changes.vehicles] == [first]
    assert changes.deleted == (second,)
    assert (changes.change_number, changes.complete) == (gone_at, True)
    assert source.changes_since(gone_at).vehicles == ()
    assert arrive(source) == second + 1


@on_both
def test_pages_together_hold_every_row_once_in_order(source: SourceStore) -> None:
    for n in range(7):
        arrive(source, num_images=n % 3, actual_price=40.0 + n % 2)
    keys: dict[str, Callable[..., float]] = {
        name: attrgetter(name) for name in ("vehicle_id", "saved_at", "actual_price")
    }
    keys["price_diff"] = lambda row: row.actual_price - row.recommended_price
    keys["num_reservations"] = lambda row: row.num_reservations or 0
    for (sort, key), descending in product(keys.items(), (False, True)):
        pages = [
            source.list_vehicles(sort=sort, descending=descending, page=page, page_size=3)
            for page in (1, 2, 3, 4)
        ]
        rows = [row for page in pages for row in page.items]
        assert [(len(page.items), page.total) for page in pages] == [(3, 7), (3, 7), (1, 7), (0, 7)]
        assert len({row.vehicle_id for row in rows}) == 7
        assert [key(row) for row in rows] == sorted(map(key, rows), reverse=descending), sort
        ids = source.list_vehicle_ids(
            kind=None, search="", where=VehicleFilter(), sort=sort, descending=descending, limit=6
        )
        assert source.get_vehicles(ids) == tuple(rows[:6])
        with pytest.raises(ValueError, match="sort"):
            source.list_vehicles(sort=f"{sort}; DROP TABLE vehicles")


def test_a_filter_selects_vehicles(source: SourceStore) -> None:
    own = arrive(source, technology=1, street_parked=0, actual_price=51.0, recommended_price=50.0)
    old = arrive(source, technology=0, street_parked=0, actual_price=51.0, recommended_price=50.0)
    fair = arrive(source, technology=1, street_parked=1, actual_price=50.0, recommended_price=50.0)
    for where, expected in (
        (VehicleFilter(), {own, old, fair}),
        (VehicleFilter(technology=0), {old}),
        (VehicleFilter(street_parked=1), {fair}),
        (VehicleFilter(is_overpriced=True), {own, old}),
        (VehicleFilter(is_overpriced=False), {fair}),
        (VehicleFilter(technology=1, is_overpriced=True), {own}),
        (VehicleFilter(technology=0, street_parked=1), set()),
    ):
        found = source.list_vehicles(where=where)
        assert ({row.vehicle_id for row in found.items}, found.total) == (expected, len(expected)), where


@on_both
def test_search_finds_ids_by_their_first_digits(source: SourceStore) -> None:
    arrive(source)
    arrive(source)
    expected = {"1": 2, "1000000001": 1, "2": 0, "x": 0, "%": 0, "٣": 0, "9" * 40: 0, " 10 ": 2}
    assert {search: source.list_vehicles(search=search).total for search in expected} == expected


@pytest.mark.parametrize(
    ("url", "message"),
    [
        ("", "it is no address of a database; expected sqlite"),
        ("mysql://x/y", "database mysql://x/y: mysql is no database that is known here"),
        ("sqlite:////proc/nowhere/vroom.db", "database sqlite:////proc/nowhere/vroom.db: .*No such file"),
    ],
)
def test_what_is_no_database_is_a_clear_error(url: str, message: str) -> None:
    with pytest.raises(SourceStoreError, match=message):
        SourceStore.open(url)


def test_a_save_does_not_wait_for_readers(tmp_path: Path) -> None:
    path = tmp_path / "vroom.db"
    with (
        closing(SourceStore.open(f"sqlite:///{path}")) as store,
        closing(sqlite3.connect(path, isolation_level=None)) as reader,
    ):
        reader.execute("BEGIN")
        count = "SELECT COUNT(*) FROM vehicles"
        assert reader.execute(count).fetchone() == (0,)
        arrive(store)
        assert reader.execute(count).fetchone() == (0,)  # it goes on seeing the moment that it began with
        reader.execute("COMMIT")
        assert reader.execute(count).fetchone() == (1,)


def test_opening_many_times_at_once_makes_one_schema(tmp_path: Path) -> None:
    url = f"sqlite:///{tmp_path / 'new.db'}"
    with ThreadPoolExecutor(6) as pool:
        stores = list(pool.map(lambda _: SourceStore.open(url), range(6)))
    assert [arrive(store) for store in stores] == [UI_VEHICLE_ID_START + n for n in range(6)]
    for store in stores:
        store.close()


HOLD = """
import signal, sys
from vroom_features.database.engine import promotion_lock
from vroom_features.database.vehicles import SourceStore
source = SourceStore.open(sys.argv[1])
with promotion_lock(source.engine, source.address):
    print("held", flush=True)
    signal.pause()
"""


@on_both
def test_a_promotion_keeps_others_out_also_while_it_is_stopped_until_it_ends(source: SourceStore) -> None:
    words = [sys.executable, "-c", HOLD, source.address.url]
    with subprocess.Popen(words, stdout=subprocess.PIPE, text=True) as holder:
        assert holder.stdout is not None
        assert holder.stdout.readline() == "held\n"
        holder.send_signal(signal.SIGSTOP)
        with pytest.raises(LockTimeoutError, match="another promotion or rollback"):
            promotion_lock(source.engine, source.address, timeout_s=0.2).__enter__()
        holder.kill()
    for _ in range(2):
        with promotion_lock(source.engine, source.address):
            pass
