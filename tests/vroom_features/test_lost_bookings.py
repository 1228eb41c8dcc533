"""Whether bookings were lost: those of the last 30 days beside those of the 30 days before."""

from pathlib import Path

import numpy as np
import pytest

from tests.vroom_features.stores import on_both, run
from tests.vroom_features.watched import at, save, seed_days
from vroom_features.database.history import withdraw_vehicle
from vroom_features.database.vehicles import SourceStore
from vroom_features.offline.snapshots import OfflineStore
from vroom_features.online.store import OnlineStore
from vroom_features.watch import RecentBookings


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
