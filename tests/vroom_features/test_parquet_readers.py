"""The offline store for other programs: paths, and a folder that is one snapshot."""

from pathlib import Path

import duckdb
import pandas as pd
import pytest

from tests.vroom_features.files import write_csvs
from tests.vroom_features.stores import BOOKED, CHANGED, FLEET, run
from vroom_features.database.vehicles import SourceStore
from vroom_features.errors import OfflineStoreError
from vroom_features.ingest.seed import seed
from vroom_features.offline.snapshots import OfflineStore, Snapshot


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


def test_a_store_of_an_earlier_release_gets_the_folder_though_nothing_changed(
    seeded: SourceStore, offline: OfflineStore, tmp_path: Path
) -> None:
    run(seeded, offline)
    folder = tmp_path / "offline" / "current"
    folder.unlink()
    assert run(seeded, offline).num_parts_written == 0
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
