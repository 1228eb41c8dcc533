"""The whole system on the sample, and on the real fleet where it is."""

import os
import shutil
from collections.abc import Iterator
from pathlib import Path

import pytest

from flows.up import ROOT
from tests.whole_system import WholeSystem, whole_system

REAL_FLEET = Path(os.environ.get("VROOM_REAL_DATA", ROOT.parent / "shared" / "data" / "fleet"))


@pytest.fixture(scope="module", params=["sample", "real fleet"])
def fleet(request: pytest.FixtureRequest) -> str:
    """Name the fleet that the system runs on."""
    return str(request.param)


@pytest.fixture(scope="module")
def data_dir(fleet: str, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Return a copy of the CSVs that a test may change: the sample, and the real fleet where it is."""
    origin = ROOT / "data" if fleet == "sample" else REAL_FLEET
    if not origin.is_dir():
        pytest.skip(f"the real fleet is not at {origin}; set VROOM_REAL_DATA to its folder")
    folder = tmp_path_factory.mktemp("csv")
    for name in ("vehicles.csv", "reservations.csv"):
        shutil.copy(origin / name, folder)
    return folder


@pytest.fixture(scope="module")
def system(data_dir: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[WholeSystem]:
    """Run the system on them."""
    with whole_system(tmp_path_factory.mktemp("vroom"), data_dir) as running:
        yield running
