"""A count is a label only when the watch is over; and whether the last bookings were lost."""

from contextlib import closing
from datetime import UTC, date, datetime, timedelta
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tests.factories import make_vehicle
from tests.vroom_features.files import vehicle_line, write_csvs
from tests.vroom_features.stores import audited, ids_in, on_both, rows, run
from tests.vroom_features.watched import FIRST, L, at, counts_in, rows_of, save, seed_days
from vroom_features.database.history import change_vehicle, withdraw_vehicle
from vroom_features.database.queries import VehicleFilter
from vroom_features.database.vehicles import SourceStore
from vroom_features.errors import (
    NotChangeableError,
    NotDeletableError,
    VehicleNotFoundError,
)
from vroom_features.features import num_reservations, training_label
from vroom_features.ingest.seed import seed
from vroom_features.materialize import make_ranges
from vroom_features.offline.snapshots import OfflineStore
from vroom_features.online.store import OnlineStore
from vroom_features.watch import RecentBookings, Watch, midnight


def test_a_bad_row_of_a_vehicle_makes_no_watch_shorter(source: SourceStore, tmp_path: Path) -> None:
    lines = [vehicle_line(1), vehicle_line(2, actual_price="")]
    booked = [f"1,{at(4)}", f"2,{at(1)}", f"2,{at(9)}"]
    report = seed(source, write_csvs(tmp_path, lines, booked), max_bad_share=0.5)
    assert (report.reservations_set_aside, report.watch_days, report.complete_through) == (2, 9, "2023-01-09")


@on_both
def test_a_vehicles_life_is_that_of_the_table_in_the_docs(
    source: SourceStore, offline: OfflineStore, online: OnlineStore, tmp_path: Path
) -> None:
    seed_days(source, tmp_path, [1, 2], FIRST)
    arrival, under_watch = save(source, 12), save(source, 12)
    booked, never_booked = save(source, 3), save(source, 3)
    later = [(1, 15), (3, 14), (under_watch, 13), (booked, 4), (booked, 14)]
    report = seed_days(source, tmp_path, [1, 2, 3], [*FIRST, *later])
    assert (report.watch_days, report.complete_through, report.vehicles_matured) == (L, "2023-01-15", 2)
    run(source, offline, online)
    assert rows_of(offline) == {
        1: (11, 6),  # csv, watch over: the ten days that end on the 15th
        2: (0, 0),
        3: (1, None),  # csv, joined later, watch under way
        under_watch: (1, None),
        booked: (2, 1),  # the booking of the 14th is after its watch
        never_booked: (None, 0),
    }
    assert ids_in(online) == [arrival]
    assert [v.vehicle_id for v in source.list_vehicles(kind="new").items] == [arrival]
    counts = source.count_vehicles()
    assert (counts.fleet, counts.new_arrivals, counts.reservations) == (6, 1, 15)
    with pytest.raises(NotDeletableError, match="it was booked"):
        source.delete_vehicle(booked)
    with pytest.raises(VehicleNotFoundError):
        source.delete_vehicle(9)
    watch = source.watch()
    assert watch is not None
    asked = [1, 2, 3, arrival, under_watch, booked, never_booked]
    assert source.count_in_watch(watch, asked) == {1: 6, 3: 1, under_watch: 1, booked: 1}
    where = VehicleFilter(is_watch_over=False)
    listed = source.list_vehicles(kind="fleet", where=where, sort="watch_start").items
    assert [v.vehicle_id for v in listed if v.is_under_watch] == [3, under_watch]


@on_both
def test_bookings_after_the_last_complete_day_are_not_of_a_watch(
    source: SourceStore, offline: OfflineStore, online: OnlineStore, tmp_path: Path
) -> None:
    seed_days(source, tmp_path, [1], [*FIRST, (1, 12)], watch_days=L, complete_through=at(10).date())
    run(source, offline, online)
    assert rows_of(offline) == {1: (11, 10)}
    watch = source.watch()
    assert watch is not None
    assert source.count_in_watch(watch, [1]) == {1: 10}


@settings(max_examples=8, deadline=None)
@given(data=st.data())
def test_the_batch_makes_the_labels_of_the_pure_function(
    tmp_path_factory: pytest.TempPathFactory, data: st.DataObject
) -> None:
    folder = tmp_path_factory.mktemp("labels")
    offline, days = OfflineStore(str(folder / "offline")), st.integers(1, 40)
    with closing(SourceStore.open(f"sqlite:///{folder / 'vroom.db'}")) as source:
        arrivals = [save(source, day) for day in data.draw(st.lists(days, max_size=4), label="saved")]
        for ids in ([1, 2, 3], [1, 2, 3, 4]):  # the second time, from the same store, with what changed
            bookings = data.draw(st.lists(st.tuples(st.sampled_from([*ids, *arrivals]), days), max_size=25))
            told = {"watch_days": data.draw(st.sampled_from([None, 5])), "allow_removals": True}
            seed_days(source, folder, ids, bookings, **told)
            run(source, offline)
        watch, everyone = source.watch(), source.list_vehicles(page_size=100).items
    vehicles = pd.DataFrame([vehicle.model_dump() for vehicle in everyone])
    made = pd.DataFrame(bookings, columns=["vehicle_id", "day"])
    made["created_at"] = pd.to_datetime([at(day) for day in made.pop("day")], utc=True)
    count = num_reservations(vehicles, made)
    label = count.where(count < 0).rename("training_label")
    if watch:
        vehicles["watch_start"] = pd.to_datetime(vehicles["watch_start"], utc=True)
        through = watch.complete_through
        label = training_label(vehicles, made, watch_days=watch.days, complete_through=through)
    is_fleet = count.notna() | label.notna()
    both = pd.concat([vehicles["vehicle_id"], count, label], axis=1)[is_fleet]
    assert rows_of(offline) == counts_in(both)
    assert {v.vehicle_id for v in everyone if v.is_fleet} == set(both["vehicle_id"])
    if watch:
        known = {int(i): n for i, n in zip(vehicles["vehicle_id"], label, strict=True) if n is not pd.NA}
        with closing(SourceStore.open(f"sqlite:///{folder / 'vroom.db'}")) as source:
            counted = source.count_in_watch(watch, list(known))
        assert {vehicle_id: counted.get(vehicle_id, 0) for vehicle_id in known} == known


@st.composite
def marketplaces(draw: st.DrawFn) -> tuple[pd.DataFrame, pd.DataFrame]:
    """Draw vehicles of both kinds and bookings of two months."""
    moments = st.datetimes(datetime(2023, 1, 1), datetime(2023, 2, 28), timezones=st.just(UTC))
    starts = draw(st.lists(st.tuples(st.sampled_from(["csv", "ui"]), moments), min_size=1, max_size=6))
    vehicles = pd.DataFrame(starts, columns=["source", "watch_start"]).assign(vehicle_id=range(len(starts)))
    is_csv = vehicles["source"] == "csv"
    vehicles["watch_start"] = vehicles["watch_start"].where(~is_csv, vehicles["watch_start"].dt.normalize())
    booked = draw(st.lists(st.tuples(st.integers(0, len(starts) - 1), moments), max_size=30))
    bookings = pd.DataFrame(booked, columns=["vehicle_id", "created_at"])
    return vehicles, bookings.astype({"created_at": "datetime64[us, UTC]", "vehicle_id": "int64"})


DAYS = st.dates(date(2023, 1, 1), date(2023, 3, 15))


@settings(max_examples=40, deadline=None)
@given(marketplaces(), st.integers(1, 40), DAYS, st.integers(0, 30))
def test_a_label_is_never_known_early_and_stays_what_it_is(
    marketplace: tuple[pd.DataFrame, pd.DataFrame], days: int, through: date, later: int
) -> None:
    vehicles, bookings = marketplace
    label = training_label(vehicles, bookings, watch_days=days, complete_through=through)
    watched = [(through - start.date()).days for start in vehicles["watch_start"]]
    assert label.notna().tolist() == [each >= days for each in watched]
    known_by_then = bookings[bookings["created_at"] < midnight(through) + timedelta(days=1)]
    same = training_label(vehicles, known_by_then, watch_days=days, complete_through=through)
    assert same.tolist() == label.tolist()  # what is booked after D changes nothing
    after = training_label(
        vehicles, bookings, watch_days=days, complete_through=through + timedelta(days=later)
    )
    is_settled = label.notna() & (vehicles["source"] == "ui")
    assert after[is_settled].tolist() == label[is_settled].tolist()


def test_the_first_seed_finds_the_watch_and_a_later_one_a_later_day_alone(
    source: SourceStore, tmp_path: Path
) -> None:
    save(source, 2)
    seed_days(source, tmp_path, [1], [])
    assert source.watch() is None
    assert seed_days(source, tmp_path, [1], FIRST).has_new_watch
    assert source.watch() == Watch(L, date(2023, 1, 10))
    arrival = save(source, 11)
    seed_days(source, tmp_path, [1], [*FIRST, (arrival, 400)])  # a lone late booking of a ui vehicle
    assert source.watch() == Watch(L, date(2023, 1, 10))
    seed_days(source, tmp_path, [1], FIRST[:-1], allow_removals=True)  # a booking less is no day less
    assert source.watch() == Watch(L, date(2023, 1, 10))
    told = {"watch_days": 5, "complete_through": date(2023, 1, 20)}
    report = seed_days(source, tmp_path, [1], FIRST[:-1], **told)
    assert (report.is_unchanged, source.watch()) == (False, Watch(5, date(2023, 1, 20)))
    assert seed_days(source, tmp_path, [1], FIRST[:-1], **told).is_unchanged


def test_another_fleet_has_a_watch_of_its_own(source: SourceStore, tmp_path: Path) -> None:
    seed_days(source, tmp_path, [1, 2], FIRST)
    seed_days(source, tmp_path, [1, 3], [(1, -30), (3, -3)], allow_removals=True)
    assert source.watch() == Watch(28, at(-3).date())
    assert {v.is_watch_over for v in source.list_vehicles().items} == {True}


def test_parts_made_elsewhere_before_the_watch_changed_are_made_again(
    source: SourceStore, offline: OfflineStore, tmp_path: Path
) -> None:
    def then_longer(database: str, root: str, ranges: Any) -> Any:
        parts = make_ranges(database, root, ranges)
        seed_days(source, tmp_path, [1, 2], FIRST, watch_days=2 * L)
        return parts

    seed_days(source, tmp_path, [1, 2], FIRST)
    run(source, offline, map_ranges=then_longer)
    assert rows_of(offline) == {1: (10, None), 2: (0, None)}


@on_both
def test_a_change_of_a_model_input_begins_a_new_watch(
    source: SourceStore, offline: OfflineStore, online: OnlineStore, tmp_path: Path
) -> None:
    seed_days(source, tmp_path, [1], FIRST)
    changed, kept = save(source, 2), save(source, 2)
    bookings = [*FIRST, (1, 15), (changed, 3), (changed, 4), (kept, 3)]
    seed_days(source, tmp_path, [1], bookings)
    price = make_vehicle()
    both_higher = price.model_copy(
        update={name: getattr(price, name) + 1 for name in ("actual_price", "recommended_price")}
    )
    assert change_vehicle(source, kept, both_higher, changed_at=at(14)).watch_start == at(2)
    again = change_vehicle(source, changed, make_vehicle(actual_price=99.0), changed_at=at(14))
    assert (again.watch_start, again.num_reservations, again.is_new_arrival) == (at(14), None, True)
    with pytest.raises(NotDeletableError):  # it has bookings, of the watch before
        source.delete_vehicle(changed)
    run(source, offline, online)
    assert rows_of(offline) == {1: (11, 6), kept: (1, 1)}
    assert ids_in(online) == [changed]
    seed_days(source, tmp_path, [1], [*bookings, (changed, 16), (1, 24)])
    run(source, offline, online)
    assert rows_of(offline)[changed] == (1, 1)  # of the new watch alone


def test_a_withdrawn_vehicle_keeps_its_watch_and_leaves_the_online_store(
    source: SourceStore, offline: OfflineStore, online: OnlineStore, tmp_path: Path
) -> None:
    seed_days(source, tmp_path, [1], FIRST)
    gone = save(source, 2)
    run(source, offline, online)
    assert ids_in(online) == [gone]
    withdraw_vehicle(source, gone, withdrawn_at=at(5))
    run(source, offline, online)
    assert (ids_in(online), gone in rows_of(offline)) == ([], False)
    assert audited(source, online).is_clean
    assert source.list_vehicles(kind="new").total == source.count_vehicles().new_arrivals == 0
    with pytest.raises(NotChangeableError, match="withdrawn"):
        change_vehicle(source, gone, make_vehicle(num_images=1), changed_at=at(6))
    with pytest.raises(NotChangeableError, match="CSV"):
        withdraw_vehicle(source, 1, withdrawn_at=at(6))
    with pytest.raises(NotDeletableError, match="it came from a CSV file; remove it there"):
        source.delete_vehicle(1)
    seed_days(source, tmp_path, [1], [*FIRST, (1, 12)])
    run(source, offline, online)
    assert rows_of(offline)[gone] == (None, 0)
    source.delete_vehicle(gone)
    run(source, offline, online)
    assert gone not in rows_of(offline)


@on_both
def test_a_deletion_leaves_no_history(source: SourceStore) -> None:
    vehicle_id = save(source, 2)
    change_vehicle(source, vehicle_id, make_vehicle(actual_price=99.0), changed_at=at(3))
    with pytest.raises(NotChangeableError, match="its last change is of 2023-01-03"):
        change_vehicle(source, vehicle_id, make_vehicle(), changed_at=at(3))
    source.delete_vehicle(vehicle_id)
    assert rows(source, "SELECT * FROM vehicle_history") == []
    with pytest.raises(VehicleNotFoundError):
        withdraw_vehicle(source, vehicle_id, withdrawn_at=at(4))


@pytest.mark.parametrize(
    ("last", "before", "is_problem"),
    [
        (300, 600, True),
        (451, 600, False),  # 24.8 % less than before
        (449, 600, True),
        (900, 600, False),
        (13, 26, False),  # half of a month of 50 vehicles: it may be chance
        (27, 54, False),
        (29, 60, True),
        (0, 10, True),
        (0, 0, False),
    ],
)
def test_bookings_are_lost_if_more_are_missing_than_may_and_than_chance_takes(
    last: int, before: int, is_problem: bool
) -> None:
    problem = RecentBookings(last, before).problem(0.25)
    assert (problem is not None) == is_problem
    assert problem is None or f"booked {last} times" in problem


def test_chance_alone_is_hardly_ever_a_problem() -> None:
    rng = np.random.default_rng(0)
    for mean in (5, 26, 100, 400):
        counts = rng.poisson(mean, (4_000, 2)).tolist()
        assert sum(RecentBookings(*pair).problem(0.25) is not None for pair in counts) <= 12  # 0.3 %


@on_both
def test_a_month_of_which_half_is_lost_is_seen_and_a_fleet_that_grows_is_no_rise(
    source: SourceStore, offline: OfflineStore, online: OnlineStore, tmp_path: Path
) -> None:
    often = [(1, day) for day in range(1, 101) for _ in range(2)]  # twice a day, for 100 days
    seed_days(source, tmp_path, [1], often)
    run(source, offline, online)
    assert offline.current().recent == RecentBookings(60, 60)
    withdrawn = save(source, 1)
    grown = [(vehicle_id, day) for vehicle_id in (1, 2, withdrawn) for day in range(101, 131)]
    withdraw_vehicle(source, withdrawn, withdrawn_at=at(130))
    seed_days(source, tmp_path, [1, 2], [*often, *grown])
    run(source, offline, online)
    found = offline.current().recent
    assert found == RecentBookings(30, 60)  # of vehicle 1: the others were not there all the time
    past = run(source, offline, as_of=at(101, 0))
    assert offline.snapshot(past.snapshot_id).recent == RecentBookings(60, 60)
