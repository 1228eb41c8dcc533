"""The offline store: snapshots that equal the pure functions on the database, whatever the partitions."""

import json
from collections.abc import Iterable, Sequence
from contextlib import closing
from datetime import timedelta
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from sqlalchemy import text

from tests.vroom_features.files import vehicle_line, write_csvs
from tests.vroom_features.stores import BOOKED, CHANGED, FLEET, NOW, arrive, book, on_both, run
from vroom_features import num_reservations
from vroom_features.database.vehicles import SourceStore
from vroom_features.errors import NoSnapshotError, OfflineStoreError, SkewError
from vroom_features.ingest.seed import seed
from vroom_features.materialize import make_ranges, materialize
from vroom_features.offline.files import Part
from vroom_features.offline.partition import check_skew
from vroom_features.offline.snapshots import OfflineStore
from vroom_features.view import VEHICLE_VIEW


@on_both
def test_rows_are_what_the_functions_make(seeded: SourceStore, offline: OfflineStore, tmp_path: Path) -> None:
    arrive(seeded)
    book(seeded, tmp_path, arrive(seeded))
    report = run(seeded, offline)
    snapshot = offline.current()
    frame = snapshot.read()
    with seeded.engine.begin() as connection:
        vehicles = pd.read_sql(text("SELECT * FROM vehicles ORDER BY vehicle_id"), connection)
        bookings = pd.read_sql(text("SELECT vehicle_id FROM reservations"), connection)
    label = num_reservations(vehicles, bookings)
    fleet = vehicles.assign(**{VEHICLE_VIEW.count: label})[label.notna()].reset_index(drop=True)
    expected = fleet.assign(**VEHICLE_VIEW.compute(fleet))
    assert report.num_fleet == snapshot.num_rows == len(frame) == 41
    assert snapshot.columns == VEHICLE_VIEW.columns
    names = ["vehicle_id", *VEHICLE_VIEW.columns, *VEHICLE_VIEW.attributes, VEHICLE_VIEW.count]
    assert list(frame)[: len(names)] == names
    pd.testing.assert_frame_equal(frame[names], expected[names], check_dtype=False)
    newest_booking = frame.set_index("vehicle_id")["event_timestamp"]
    assert newest_booking[3] == pd.Timestamp("2023-01-03", tz="UTC")
    assert pd.isna(newest_booking[4])


def test_rows_and_digest_are_the_same_on_any_database_and_day_in_any_size(
    seeded: SourceStore, offline: OfflineStore, tmp_path: Path, postgres_url: str
) -> None:
    expected = run(seeded, offline)
    with closing(SourceStore.open(postgres_url)) as postgres:
        seed(postgres, tmp_path / "csv")
        for source, size in ((seeded, 1), (seeded, 1000), (postgres, 7)):
            other = OfflineStore(str(tmp_path / f"{source.engine.dialect.name}-{size}"))
            report = materialize(source, other, None, now=NOW + timedelta(days=9), partition_vehicles=size)
            assert (report.digest, report.num_parts) == (expected.digest, -(-40 // size))
            assert other.current().table() == offline.current().table()
            assert sum(batch.num_rows for batch in other.current().batches(["price_diff"])) == 40


def test_a_change_touches_its_part_alone(seeded: SourceStore, offline: OfflineStore, tmp_path: Path) -> None:
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


def test_old_snapshots_and_files_are_gone(seeded: SourceStore, offline: OfflineStore, tmp_path: Path) -> None:
    for number in range(4):
        lines = [vehicle_line(1, actual_price=60 + number), *FLEET[1:]]
        seed(seeded, write_csvs(tmp_path / str(number), lines, BOOKED))
        materialize(seeded, offline, None, now=NOW + timedelta(hours=number), keep_snapshots=2)
    kept = offline.snapshots()
    assert [snapshot.created_at.hour for snapshot in kept] == [2, 3]
    assert kept[-1] == offline.current()
    assert set(offline.files.names("data")) == {Path(p.file).name for s in kept for p in s.parts}
    assert all(len(snapshot.read()) == 40 for snapshot in kept)


def test_a_snapshot_that_is_missing_is_a_clear_error(seeded: SourceStore, offline: OfflineStore) -> None:
    with pytest.raises(NoSnapshotError, match="run materialize"):
        offline.current()
    run(seeded, offline)
    for snapshot_id, problem in {"20000101T000000-abc": "swept", "../../etc/passwd": "id"}.items():
        with pytest.raises(OfflineStoreError, match=problem):
            offline.snapshot(snapshot_id)


@pytest.mark.parametrize(
    ("content", "problem"), [(None, "cannot be read"), (b"PAR1", "not what was written")]
)
def test_a_part_that_was_lost_or_damaged_is_a_clear_error_and_the_only_one_made_anew(
    seeded: SourceStore, offline: OfflineStore, tmp_path: Path, content: bytes | None, problem: str
) -> None:
    run(seeded, offline, partition_vehicles=10)
    whole = offline.current().table()
    path = tmp_path / "offline" / offline.current().parts[1].file
    path.unlink() if content is None else path.write_bytes(content)
    with pytest.raises(OfflineStoreError, match=problem):
        offline.current().read()
    assert run(seeded, offline, partition_vehicles=10).num_parts_written == 1
    assert offline.current().table() == whole
    assert run(seeded, offline, partition_vehicles=10).is_unchanged


@pytest.mark.parametrize("url", ["memory://vroom-test", "file://{folder}/files"])
def test_any_fsspec_url_is_a_store(
    seeded: SourceStore, offline: OfflineStore, tmp_path: Path, url: str
) -> None:
    remote = OfflineStore(url.format(folder=tmp_path))
    assert run(seeded, remote).digest == run(seeded, offline).digest
    assert run(seeded, remote).is_unchanged
    seed(seeded, write_csvs(tmp_path / "new", CHANGED, BOOKED))
    assert run(seeded, remote, keep_snapshots=1).digest == run(seeded, offline).digest
    assert len(remote.snapshots()) == len(remote.files.names("data")) == 1  # the old one was swept
    assert remote.current().table() == offline.current().table()
    read = pd.concat(map(pd.read_parquet, remote.current().paths()))
    assert read["price_diff"].tolist() == offline.current().read()["price_diff"].tolist()


@pytest.mark.parametrize(
    "change",
    [
        {"format": 0},
        {"unknown": 1},
        {"parts": [{"file": "data/a.parquet"}]},
        {"created_at": "2024-05-01T00:00:00"},
        {"id": "another"},
        None,
    ],
    ids=str,
)
def test_an_unreadable_manifest_is_refused_and_made_anew(
    seeded: SourceStore, offline: OfflineStore, change: dict[str, object] | None
) -> None:
    digest = run(seeded, offline).digest
    (path,) = Path(offline.root.url).glob("snapshots/*.json")
    manifest = json.loads(path.read_text()) | (change or {})
    path.write_text(json.dumps(manifest))
    if change is None:
        path.unlink()
    with pytest.raises(OfflineStoreError, match="materialize again"):
        offline.current()
    assert offline.snapshots() == []
    assert run(seeded, offline).digest == offline.current().digest == digest


def test_a_pointer_that_names_no_snapshot_is_made_anew(seeded: SourceStore, offline: OfflineStore) -> None:
    digest = run(seeded, offline).digest
    for content in ("", "[1]", "null", '{"snapshot": 5}', '{"snapshot": "../x"}'):
        (Path(offline.root.url) / "current.json").write_text(content)
        with pytest.raises(OfflineStoreError, match=r"current\.json does not name it.*materialize again"):
            offline.current()
        assert run(seeded, offline).digest == offline.current().digest == digest


def test_a_failing_lock_is_a_clear_error(seeded: SourceStore, offline: OfflineStore, tmp_path: Path) -> None:
    (tmp_path / "offline").touch()
    with pytest.raises(OfflineStoreError, match=r"offline store .*offline: "):
        run(seeded, offline)


def shuffled(url: str, root: str, ranges: Sequence[tuple[int, int]]) -> Iterable[Part]:
    """Make parts elsewhere and out of order."""
    for span in sorted(ranges, key=lambda span: -span[0] % 7):
        yield from make_ranges(url, root, [span])


def test_parts_from_elsewhere_are_equal(seeded: SourceStore, offline: OfflineStore, tmp_path: Path) -> None:
    def then_changed(url: str, root: str, ranges: Sequence[tuple[int, int]]) -> Iterable[Part]:
        parts = list(shuffled(url, root, ranges))
        seed(seeded, write_csvs(tmp_path / "new", CHANGED, BOOKED))
        return parts

    run(seeded, offline, partition_vehicles=6)
    other, third = OfflineStore(str(tmp_path / "other")), OfflineStore(str(tmp_path / "third"))
    assert run(seeded, other, partition_vehicles=6, map_ranges=shuffled).num_parts_written == 7
    assert [part.sha256 for part in other.current().parts] == [p.sha256 for p in offline.current().parts]
    run(seeded, third, partition_vehicles=6, map_ranges=then_changed)
    assert third.current().read()["actual_price"][0] == 99


def test_a_skew_between_batch_and_request_stops_the_run() -> None:
    raw = pd.DataFrame({name: [1.0, 2.0] for name in VEHICLE_VIEW.sources} | {"vehicle_id": [1, 2]})
    features = VEHICLE_VIEW.compute(raw)
    check_skew(raw, features)
    with pytest.raises(SkewError, match="vehicle 2: price_diff"):
        check_skew(raw, features | {"price_diff": pd.Series([0.0, np.nextafter(0, 1)])})
