"""What the files in data/ must satisfy, and that the generator makes these very files."""

import subprocess
import sys
from contextlib import closing
from pathlib import Path

import numpy as np
import pytest

from flows.materialize import is_sample_over_fleet
from tests.snapshots import read_fleet
from tests.vroom_features.files import write_csvs
from vroom_features.database.vehicles import SourceStore
from vroom_features.ingest.seed import seed

DATA = Path(__file__).parents[2] / "data"
NAMES = ("vehicles.csv", "reservations.csv")


def test_the_committed_files_are_what_the_generator_writes(tmp_path: Path) -> None:
    subprocess.run([sys.executable, str(DATA / "generate.py"), "--out", str(tmp_path)], check=True)
    for name in (*NAMES, "SHA256SUMS"):
        assert (tmp_path / name).read_bytes() == (DATA / name).read_bytes()


def test_the_sample_is_known_by_its_digest_and_replaces_no_other_fleet(tmp_path: Path) -> None:
    with closing(SourceStore.open(f"sqlite:///{tmp_path / 'vroom.db'}")) as source:
        assert not is_sample_over_fleet(source, DATA)  # there is no fleet
        seed(source, write_csvs(tmp_path))
        assert is_sample_over_fleet(source, DATA)
        assert not is_sample_over_fleet(source, tmp_path)
        report = seed(source, DATA, allow_removals=True)
        assert report.vehicles_added + report.vehicles_updated == 1_000  # its contract takes every row
        assert not report.vehicles_quarantined
        assert not report.reservations_quarantined
        assert not is_sample_over_fleet(source, DATA)  # it is there already


def test_the_sample_is_like_the_fleet_it_was_fitted_to() -> None:
    frame = read_fleet().frame
    booked = frame["num_reservations"].astype(float)
    assert booked.mean() == pytest.approx(6.38, abs=0.5)
    assert booked.std() == pytest.approx(4.86, abs=0.4)
    assert (booked == 0).mean() == pytest.approx(0.085, abs=0.025)
    ratio = frame["actual_price"] / frame["recommended_price"]
    for column, expected in ((frame["price_diff"], -0.37), (ratio, -0.40), (frame["num_images"], 0.22)):
        assert np.corrcoef(column, booked)[0, 1] == pytest.approx(expected, abs=0.1)
