"""One running system for all tests of this folder, and the fleets that they seed."""

import csv
import shutil
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.promises.system import MODEL_NAME, ROOT, System, running

HERE = Path(__file__).parent
SCHEDULED = "vroom_forecast_monitor"
FILES = ("vehicles.csv", "reservations.csv")


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Give each test the time that a system takes to start on a busy machine."""
    for item in items:
        if item.path.is_relative_to(HERE):
            item.add_marker(pytest.mark.timeout(500))


@pytest.fixture(scope="session")
def system(tmp_path_factory: pytest.TempPathFactory) -> Iterator[System]:
    """Run everything on a copy of the sample."""
    data_dir = copy_fleet(tmp_path_factory.mktemp("csv"))
    with running(tmp_path_factory.mktemp("home") / "var", data_dir) as started:
        started.add_schedule(SCHEDULED)  # for a test much later: Prefect's scheduler looks once a minute
        yield started


@pytest.fixture(scope="session")
def challenger(system: System) -> int:
    """Train a version beside the champion of the start, which it is not better than."""
    system.run("vroom_forecast_training", seed=31)
    return int(system.registry.get_model_version_by_alias(MODEL_NAME, "candidate").version)


def copy_fleet(folder: Path) -> Path:
    """Copy the sample's two CSVs into a folder."""
    folder.mkdir(exist_ok=True)
    for name in FILES:
        shutil.copy(ROOT / "data" / name, folder)
    return folder


def read_rows(path: Path) -> list[dict[str, str]]:
    with path.open(newline="") as file:
        return list(csv.DictReader(file))


def write_rows(path: Path, rows: list[dict[str, str]]) -> None:
    with path.open("w", newline="") as file:
        writer = csv.DictWriter(file, rows[0].keys())
        writer.writeheader()
        writer.writerows(rows)
