"""Snapshots: for other programs, of the past, and what was current then."""

from datetime import UTC, date, datetime, timedelta, timezone
from pathlib import Path

import duckdb
import pandas as pd
import pytest

from tests.factories import make_vehicle
from tests.vroom_features.files import write_csvs
from tests.vroom_features.stores import BOOKED, CHANGED, FLEET, on_both, run
from tests.vroom_features.watched import FIRST, L, at, counts_in, save, seed_days
from vroom_features.database.history import change_vehicle
from vroom_features.database.vehicles import SourceStore
from vroom_features.errors import OfflineStoreError, UnreadableSnapshotError
from vroom_features.ingest.seed import seed
from vroom_features.offline.snapshots import OfflineStore, Snapshot
from vroom_features.watch import Watch


def check_readers(offline: OfflineStore, folder: Path) -> None:
    expected = offline.current().read()
    for frame in (
        pd.read_parquet(folder),
        pd.read_parquet(offline.current().paths()),
        duckdb.read_parquet(f"{folder}/*.parquet").df(),
        duckdb.read_parquet(offline.current().paths()).df(),
    ):
        frame = frame.sort_values("vehicle_id", ignore_index=True)
        assert frame["vehicle_id"].tolist() == expected["vehicle_id"].tolist()
        assert frame["price_diff"].tolist() == expected["price_diff"].tolist()


def test_pandas_and_duckdb_read_the_current_snapshot_and_nothing_else(
    seeded: SourceStore, offline: OfflineStore, tmp_path: Path
) -> None:
    folder = tmp_path / "offline" / "current"
    run(seeded, offline, partition_vehicles=15)
    check_readers(offline, folder)
    first, held = offline.current(), folder.resolve()
    seed(seeded, write_csvs(tmp_path / "csv", CHANGED, BOOKED))
    run(seeded, offline, partition_vehicles=15)
    check_readers(offline, folder)
    assert pd.read_parquet(folder)["price_diff"].sum() > first.read()["price_diff"].sum()
    for kept in (first.paths(), held):  # of one who reads while others write
        assert pd.read_parquet(kept)["price_diff"].sum() == first.read()["price_diff"].sum()
    offline.sweep(keep=1)
    assert not held.exists()
    check_readers(offline, folder)


def test_a_folder_of_somebody_else_stays_and_a_past_state_is_not_current(
    seeded: SourceStore, offline: OfflineStore, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    folder = tmp_path / "offline" / "current"
    folder.mkdir(parents=True)
    (folder / "mine").touch()
    run(seeded, offline)
    assert "no folder current" in caplog.text
    assert (folder / "mine").exists()
    assert len(pd.read_parquet(offline.current().paths())) == len(FLEET)


def test_rows_in_memory_have_no_paths(seeded: SourceStore, offline: OfflineStore) -> None:
    run(seeded, offline)
    current = offline.current()
    copied = Snapshot.of_frame(current.read(), created_at=current.created_at)
    pd.testing.assert_frame_equal(copied.read(), current.read())
    with pytest.raises(OfflineStoreError, match="in memory alone"):
        copied.paths()


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
    for hours in (0, -5):  # another zone is the same moment
        elsewhere = at(13, hour=0).astimezone(timezone(timedelta(hours=hours)))
        assert run(source, offline, as_of=elsewhere).snapshot_id == report.snapshot_id
    with pytest.raises(OfflineStoreError, match="a moment that is past"):
        run(source, offline, as_of=datetime(2030, 1, 1, tzinfo=UTC))


@pytest.mark.parametrize("content", [None, "{"], ids=["missing", "unreadable"])
def test_a_past_snapshot_deletes_no_other_while_none_is_current(
    source: SourceStore, offline: OfflineStore, tmp_path: Path, content: str | None
) -> None:
    seed_days(source, tmp_path, [1], FIRST)
    published = run(source, offline).snapshot_id
    pointer = tmp_path / "offline" / "current.json"
    pointer.unlink() if content is None else pointer.write_text(content)
    past = run(source, offline, as_of=at(6)).snapshot_id
    assert {each.id for each in offline.snapshots()} == {published, past}


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
