"""The offline store: snapshots that equal the pure functions on the database, whatever the partitions."""

import json
from collections.abc import Iterable, Sequence
from contextlib import closing
from datetime import datetime, timedelta
from pathlib import Path

import numpy as np
import pandas as pd
import pyarrow.parquet as pq
import pytest
from sqlalchemy import text

from tests.vroom_features.files import vehicle_line, write_csvs
from tests.vroom_features.stores import BOOKED, FLEET, NOW, arrive, on_both, run
from vroom_features import num_reservations, price_diff
from vroom_features.database.vehicles import SourceStore
from vroom_features.errors import (
    NoSnapshotError,
    OfflineStoreError,
    SkewError,
)
from vroom_features.ingest.seed import seed
from vroom_features.materialize import WrittenPart, make_ranges, materialize
from vroom_features.offline.partition import check_skew
from vroom_features.offline.snapshots import OfflineStore
from vroom_features.online.store import OnlineStore
from vroom_features.view import VEHICLE_VIEW


@on_both
def test_the_offline_store_holds_what_the_pure_functions_make(
    seeded: SourceStore, offline: OfflineStore
) -> None:
    arrive(seeded)
    report = run(seeded, offline)
    frame = offline.current().read()
    with seeded.engine.begin() as connection:
        vehicles = pd.DataFrame(
            connection.execute(text("SELECT * FROM vehicles ORDER BY vehicle_id")).mappings()
        )
        bookings = pd.DataFrame(connection.execute(text("SELECT * FROM reservations")).mappings())
    label = num_reservations(vehicles, bookings)
    fleet = vehicles[label.notna()]
    assert report.num_fleet == len(frame) == 40
    assert frame["vehicle_id"].tolist() == fleet["vehicle_id"].tolist()
    assert frame["num_reservations"].tolist() == label.dropna().tolist()
    assert (
        frame["price_diff"].tolist() == price_diff(fleet["actual_price"], fleet["recommended_price"]).tolist()
    )
    assert tuple(frame.columns) == (
        "vehicle_id",
        *VEHICLE_VIEW.columns,
        *VEHICLE_VIEW.attributes,
        "num_reservations",
        "event_timestamp",
    )


def test_the_event_timestamp_is_the_newest_booking_and_missing_without_one(
    seeded: SourceStore, offline: OfflineStore
) -> None:
    run(seeded, offline)
    stamps = offline.current().read().set_index("vehicle_id")["event_timestamp"]
    assert stamps[3] == pd.Timestamp("2023-01-03", tz="UTC")
    assert pd.isna(stamps[4])


def test_both_databases_give_the_same_files(
    seeded: SourceStore, offline: OfflineStore, tmp_path: Path, postgres_url: str
) -> None:
    on_sqlite = run(seeded, offline)
    with closing(SourceStore.open(postgres_url)) as source:
        seed(source, tmp_path / "csv")
        other = OfflineStore(str(tmp_path / "other"))
        assert run(source, other).digest == on_sqlite.digest
    assert other.current().table() == offline.current().table()


@on_both
@pytest.mark.parametrize("size", [1, 7, 1000])
def test_rows_and_digest_are_the_same_for_any_partition_size_and_day(
    seeded: SourceStore, offline: OfflineStore, tmp_path: Path, size: int
) -> None:
    expected = run(seeded, offline)
    other = OfflineStore(str(tmp_path / "other"))
    report = materialize(seeded, other, None, as_of=NOW + timedelta(days=9), partition_vehicles=size)
    assert report.digest == expected.digest
    assert report.num_parts == -(-40 // size)
    pd.testing.assert_frame_equal(other.current().read(), offline.current().read())
    batches = sum(batch.num_rows for batch in other.current().batches(["price_diff"]))
    assert batches == 40


def test_an_unchanged_database_writes_nothing_and_says_so(
    seeded: SourceStore, offline: OfflineStore, online: OnlineStore
) -> None:
    arrive(seeded)
    first = run(seeded, offline, online)
    second = run(seeded, offline, online)
    assert not first.is_unchanged
    assert second.is_unchanged
    assert (second.snapshot_id, len(offline.snapshots())) == (first.snapshot_id, 1)


def test_a_change_touches_its_partition_alone(
    seeded: SourceStore, offline: OfflineStore, tmp_path: Path
) -> None:
    before = run(seeded, offline, partition_vehicles=10)
    old = offline.current()
    changed = [*FLEET[:14], vehicle_line(15, actual_price=77), *FLEET[15:], vehicle_line(41)]
    seed(seeded, write_csvs(tmp_path / "new", changed, BOOKED))
    after = run(seeded, offline, partition_vehicles=10)
    assert (before.num_parts, after.num_parts_written) == (4, 3)  # the last part grew and was split
    same = {part.file for part in old.parts} & {part.file for part in offline.current().parts}
    assert len(same) == 3
    clean = OfflineStore(str(tmp_path / "clean"))
    assert run(seeded, clean).digest == after.digest
    assert old.read()["actual_price"][14] != 77  # a reader of the old snapshot still sees it whole
    assert offline.current().read()["actual_price"][14] == 77


def test_a_fleet_that_is_empty_is_a_snapshot_without_rows(source: SourceStore, offline: OfflineStore) -> None:
    assert run(source, offline).num_fleet == 0
    assert offline.current().read().empty


def test_old_snapshots_are_swept_and_files_with_them(
    seeded: SourceStore, offline: OfflineStore, tmp_path: Path
) -> None:
    for number in range(4):
        lines = [vehicle_line(1, actual_price=60 + number), *FLEET[1:]]
        seed(seeded, write_csvs(tmp_path / str(number), lines, BOOKED))
        materialize(seeded, offline, None, as_of=NOW + timedelta(hours=number), keep_snapshots=2)
    kept = offline.snapshots()
    assert [snapshot.created_at.hour for snapshot in kept] == [2, 3]
    assert kept[-1] == offline.current()
    assert set(offline.files.names("data")) == {Path(p.file).name for s in kept for p in s.parts}
    assert all(len(snapshot.read()) == 40 for snapshot in kept)


def test_a_missing_a_swept_and_a_damaged_snapshot_are_clear_errors(
    seeded: SourceStore, offline: OfflineStore, tmp_path: Path
) -> None:
    with pytest.raises(NoSnapshotError, match="run materialize"):
        offline.current()
    run(seeded, offline)
    with pytest.raises(OfflineStoreError, match="swept"):
        offline.snapshot("20000101T000000-abc")
    with pytest.raises(OfflineStoreError, match="id"):
        offline.snapshot("../../etc/passwd")
    snapshot = offline.current()
    path = tmp_path / "offline" / snapshot.parts[0].file
    path.write_bytes(path.read_bytes()[:-1] + b"x")
    with pytest.raises(OfflineStoreError, match="not what was written"):
        snapshot.read()
    path.unlink()
    with pytest.raises(OfflineStoreError, match="cannot be read"):
        snapshot.read()


def test_the_manifest_says_what_the_snapshot_is_made_of(seeded: SourceStore, offline: OfflineStore) -> None:
    report = run(seeded, offline)
    manifest = json.loads((Path(offline.root.url) / f"snapshots/{report.snapshot_id}.json").read_text())
    assert (manifest["num_rows"], manifest["digest"]) == (40, report.digest)
    assert manifest["columns"] == list(VEHICLE_VIEW.columns)
    assert datetime.fromisoformat(manifest["created_at"]) == NOW
    assert sum(pq.read_metadata(Path(offline.root.url) / p["file"]).num_rows for p in manifest["parts"]) == 40


@pytest.mark.parametrize("url", ["memory://vroom-test", "file://{folder}/files"])
def test_the_offline_store_can_be_any_fsspec_url(
    seeded: SourceStore, offline: OfflineStore, tmp_path: Path, url: str
) -> None:
    remote = OfflineStore(url.format(folder=tmp_path))
    expected = run(seeded, offline)
    assert run(seeded, remote).digest == expected.digest
    assert run(seeded, remote).is_unchanged
    seed(seeded, write_csvs(tmp_path / "new", [vehicle_line(1, actual_price=99), *FLEET[1:]], BOOKED))
    assert run(seeded, remote, keep_snapshots=1).digest == run(seeded, offline).digest
    assert len(remote.snapshots()) == len(remote.files.names("data")) == 1  # the old one was swept
    pd.testing.assert_frame_equal(remote.current().read(), offline.current().read())


@pytest.mark.parametrize(
    "change",
    [
        {"format": 0},
        {"format": None},
        {"unknown": 1},
        {"parts": [{"file": "data/a.parquet"}]},
        {"created_at": "2024-05-01T00:00:00"},
        {"id": "another"},
        {"num_rows": "forty"},
        None,
    ],
    ids=str,
)
def test_a_manifest_that_is_lost_damaged_or_of_another_release_is_refused_and_made_anew(
    seeded: SourceStore, offline: OfflineStore, change: dict[str, object] | None
) -> None:
    report = run(seeded, offline)
    path = Path(offline.root.url) / f"snapshots/{report.snapshot_id}.json"
    manifest = json.loads(path.read_text()) | (change or {})
    path.write_text(json.dumps({name: value for name, value in manifest.items() if value is not None}))
    if change is None:
        path.unlink()
    with pytest.raises(OfflineStoreError, match="materialize again"):
        offline.current()
    assert offline.snapshots() == []
    assert run(seeded, offline).digest == offline.current().digest == report.digest


@pytest.mark.parametrize("content", ["", "[1]", "null", '{"snapshot": 5}', '{"snapshot": "../x"}'])
def test_a_pointer_that_names_no_snapshot_is_refused_and_made_anew(
    seeded: SourceStore, offline: OfflineStore, content: str
) -> None:
    report = run(seeded, offline)
    (Path(offline.root.url) / "current.json").write_text(content)
    with pytest.raises(OfflineStoreError, match=r"current\.json does not name it.*materialize again"):
        offline.current()
    assert run(seeded, offline).digest == offline.current().digest == report.digest


def test_a_store_that_cannot_be_locked_is_a_clear_error(
    seeded: SourceStore, offline: OfflineStore, tmp_path: Path
) -> None:
    (tmp_path / "offline").touch()
    with pytest.raises(OfflineStoreError, match=r"offline store .*offline: "):
        run(seeded, offline)


def shuffled(url: str, root: str, ranges: Sequence[tuple[int, int]]) -> Iterable[WrittenPart]:
    """Make parts elsewhere and out of order."""
    for span in sorted(ranges, key=lambda span: -span[0] % 7):
        yield from make_ranges(url, root, [span])


def test_parts_made_elsewhere_give_the_same_bytes(
    seeded: SourceStore, offline: OfflineStore, tmp_path: Path
) -> None:
    run(seeded, offline, partition_vehicles=6)
    other = OfflineStore(str(tmp_path / "other"))
    report = run(seeded, other, partition_vehicles=6, map_ranges=shuffled)
    assert report.num_parts_written == 7
    assert [part.sha256 for part in other.current().parts] == [
        part.sha256 for part in offline.current().parts
    ]


def test_a_part_that_changed_since_it_was_made_elsewhere_is_made_again(
    seeded: SourceStore, offline: OfflineStore, tmp_path: Path
) -> None:
    def then_changed(url: str, root: str, ranges: Sequence[tuple[int, int]]) -> Iterable[WrittenPart]:
        parts = list(shuffled(url, root, ranges))
        seed(seeded, write_csvs(tmp_path / "new", [vehicle_line(1, actual_price=99), *FLEET[1:]], BOOKED))
        return parts

    run(seeded, offline, partition_vehicles=6, map_ranges=then_changed)
    assert offline.current().read()["actual_price"][0] == 99


def test_a_skew_between_batch_and_request_stops_the_run() -> None:
    raw = pd.DataFrame({name: [1.0, 2.0] for name in VEHICLE_VIEW.sources} | {"vehicle_id": [1, 2]})
    features = VEHICLE_VIEW.compute(raw)
    check_skew(raw, features)
    with pytest.raises(SkewError, match="vehicle 2: price_diff"):
        check_skew(raw, features | {"price_diff": pd.Series([0.0, np.nextafter(0, 1)])})
