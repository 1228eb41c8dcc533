"""What the files in data/ must satisfy, and that the generator makes these very files."""

import subprocess
import sys
from contextlib import closing
from datetime import datetime
from pathlib import Path

import numpy as np
import pandas as pd
import pytest

from flows.materialize import is_sample_over_fleet
from tests.snapshots import read_fleet
from tests.vroom_features.files import write_csvs
from vroom_features.database.vehicles import SourceStore
from vroom_features.ingest.seed import seed

DATA = Path(__file__).parents[2] / "data"
NAMES = ("vehicles.csv", "reservations.csv")


@pytest.fixture(scope="module")
def sample() -> tuple[pd.DataFrame, pd.DataFrame]:
    vehicles, reservations = (pd.read_csv(DATA / name) for name in NAMES)
    return vehicles, reservations


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
        seed(source, DATA, allow_removals=True)
        assert not is_sample_over_fleet(source, DATA)  # it is there already


def test_keys_are_unique_and_every_booking_is_of_a_vehicle(
    sample: tuple[pd.DataFrame, pd.DataFrame],
) -> None:
    vehicles, reservations = sample
    assert len(vehicles) == 1_000
    assert vehicles["vehicle_id"].is_unique
    assert set(reservations["vehicle_id"]) <= set(vehicles["vehicle_id"])


def test_values_are_in_range(sample: tuple[pd.DataFrame, pd.DataFrame]) -> None:
    vehicles, reservations = sample
    assert not vehicles.isna().any(axis=None)
    for flag in ("technology", "street_parked"):
        assert set(vehicles[flag]) == {0, 1}
    assert set(vehicles["num_images"]) == {1, 2, 3, 4, 5}
    assert vehicles["description"].between(1, 250).all()
    assert vehicles["recommended_price"].between(35, 90).all()
    assert (vehicles["actual_price"] / vehicles["recommended_price"]).between(0.79, 2.01).all()
    days = pd.to_datetime(reservations["created_at"], format="%Y-%m-%d %H:%M:%S")
    assert days.between(datetime(2023, 1, 1), datetime(2023, 12, 31)).all()


def test_the_sample_is_like_the_fleet_it_was_fitted_to() -> None:
    frame = read_fleet().frame
    booked = frame["num_reservations"].astype(float)
    assert booked.mean() == pytest.approx(6.38, abs=0.5)
    assert booked.std() == pytest.approx(4.86, abs=0.4)
    assert (booked == 0).mean() == pytest.approx(0.085, abs=0.025)
    ratio = frame["actual_price"] / frame["recommended_price"]
    for column, expected in ((frame["price_diff"], -0.37), (ratio, -0.40), (frame["num_images"], 0.22)):
        assert np.corrcoef(column, booked)[0, 1] == pytest.approx(expected, abs=0.1)


def test_the_data_contract_takes_every_row_of_it(tmp_path: Path) -> None:
    source = SourceStore.open(f"sqlite:///{tmp_path / 'vroom.db'}")
    report = seed(source, DATA)
    source.close()
    assert (report.vehicles_added, report.vehicles_quarantined, report.reservations_quarantined) == (
        1_000,
        0,
        0,
    )
