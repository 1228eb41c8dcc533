"""Snapshots of the past hold what was known then, and the store finds what was current then."""

from datetime import UTC, date, datetime
from pathlib import Path

import pandas as pd
import pytest

from tests.factories import make_vehicle
from tests.vroom_features.stores import on_both, run
from tests.vroom_features.watched import FIRST, L, at, counts_in, save, seed_days
from vroom_features.database.history import change_vehicle
from vroom_features.database.vehicles import SourceStore
from vroom_features.errors import OfflineStoreError, UnreadableSnapshotError
from vroom_features.offline.snapshots import OfflineStore
from vroom_features.watch import Watch


@on_both
def test_a_past_snapshot_holds_what_was_known_then_and_leaves_the_current_one(
    source: SourceStore, offline: OfflineStore, tmp_path: Path
) -> None:
    seed_days(source, tmp_path, [1], FIRST)
    early, late = save(source, 2, actual_price=40.0), save(source, 20)
    bookings = [*FIRST, (early, 3), (early, 13), (late, 21), (1, 30)]
    seed_days(source, tmp_path, [1], bookings)
    change_vehicle(source, early, make_vehicle(actual_price=99.0), changed_at=at(14))
    run(source, offline)
    current = offline.current()
    report = run(source, offline, as_of=at(13, hour=0))
    past = offline.snapshot(report.snapshot_id)
    assert (past.watch, past.as_of) == (Watch(L, date(2023, 1, 12)), at(13, hour=0))
    frame = past.read().set_index("vehicle_id")
    assert counts_in(past.read()) == {1: (10, 8), early: (1, 1)}
    assert frame.loc[early, "actual_price"] == 40.0
    assert offline.current() == current
    assert run(source, offline, as_of=at(13, hour=0)).snapshot_id == report.snapshot_id
    with pytest.raises(OfflineStoreError, match="a moment that is past"):
        run(source, offline, as_of=datetime(2030, 1, 1, tzinfo=UTC))


def test_a_join_on_the_event_timestamp_leaks_nothing_with_a_past_snapshot(
    source: SourceStore, offline: OfflineStore, tmp_path: Path
) -> None:
    """Features of a moment are those of the snapshot as of it: a row of today knows bookings of later."""
    seed_days(source, tmp_path, [1, 2], [*FIRST, (2, 5)])
    run(source, offline)
    asked = pd.DataFrame({"vehicle_id": [1, 2], "event_timestamp": pd.to_datetime([at(6)] * 2, utc=True)})
    naive = asked.merge(offline.current().read(), on="vehicle_id")
    assert (naive["event_timestamp_y"] > naive["event_timestamp_x"]).tolist() == [True, False]
    past = offline.snapshot(run(source, offline, as_of=at(6)).snapshot_id).read()
    ours = asked.merge(past, on="vehicle_id")
    assert (ours["event_timestamp_y"] <= ours["event_timestamp_x"]).all()
    assert ours["num_reservations"].tolist() == [5, 1]
    assert naive["num_reservations"].tolist() == [10, 1]


def test_the_store_opens_what_was_current_then(
    source: SourceStore, offline: OfflineStore, tmp_path: Path
) -> None:
    ids = []
    for number in range(3):
        seed_days(source, tmp_path, [1], [*FIRST, *[(1, 11 + each) for each in range(number)]])
        ids.append(run(source, offline, now=at(number), keep_snapshots=2).snapshot_id)
    run(source, offline, now=at(9), as_of=at(5))
    assert offline.as_of(at(1)).id == ids[1]
    assert offline.as_of(at(8)).id == ids[2]
    with pytest.raises(UnreadableSnapshotError, match=f"oldest is {ids[1]}"):
        offline.as_of(at(0))
