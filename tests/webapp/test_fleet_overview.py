"""The fleet's forecasts: for charts and ranks made again after a change, only then; and whole as a file."""

import csv
from pathlib import Path

import pytest
from flask import Flask
from flask.testing import FlaskClient

from tests.factories import make_vehicle
from tests.vroom_features.files import booking_lines, vehicle_line, write_csvs
from tests.webapp.conftest import on_both_databases
from tests.webapp.registry import Models
from vroom_features.ingest.seed import seed
from webapp.services import Services, now
from webapp.serving.current_model import LoadedModel
from webapp.serving.fleet_overview import FleetOverview

DATA = Path(__file__).resolve().parent.parent.parent / "data"


@pytest.fixture
def served(champion: int, app: Flask, services: Services, tmp_path: Path) -> LoadedModel:
    """Return the model that serves, beside the sample fleet."""
    seed(services.source, DATA, quarantine_dir=tmp_path / "quarantine")
    found = services.slot.current
    assert found is not None
    return found


def test_forecasts_are_kept_until_a_vehicle_changes(served: LoadedModel, services: Services) -> None:
    overview = FleetOverview(services.source, refresh_interval_s=0)
    first = overview.predictions(served)
    assert len(first.forecast) == 1_000
    assert overview.predictions(served) is first
    services.source.save_vehicle(make_vehicle(), saved_at=now())
    assert overview.predictions(served) is not first


def test_vehicles_that_keep_changing_do_not_make_them_anew_each_time(
    served: LoadedModel, services: Services
) -> None:
    overview = FleetOverview(services.source, refresh_interval_s=1_000)
    first = overview.predictions(served)
    services.source.save_vehicle(make_vehicle(), saved_at=now())
    assert overview.predictions(served) is first


def test_another_model_makes_them_new_at_once(
    served: LoadedModel, services: Services, models: Models
) -> None:
    overview = FleetOverview(services.source, refresh_interval_s=1_000)
    assert set(overview.predictions(served).forecast) == {5.0}
    models.crown(models.register(7.0))
    services.listener.refresh()
    other = services.slot.current
    assert other is not None
    assert set(overview.predictions(other).forecast) == {7.0}


@on_both_databases
@pytest.mark.parametrize(
    ("query", "newest_first"), [("", False), ("sort=vehicle_id&order=desc", True), ("sort=num_images", False)]
)
def test_the_file_holds_each_vehicle_once_although_others_go_meanwhile(
    champion: int, client: FlaskClient, services: Services, tmp_path: Path, query: str, newest_first: bool
) -> None:
    fleet = [vehicle_line(number) for number in range(1, 2_501)]
    booked = booking_lines([(1_500, 1)])
    seed(services.source, write_csvs(tmp_path / "before", fleet, booked))
    parts = client.get(f"/fleet.csv?{query}").iter_encoded()
    begin = [next(parts), next(parts)]  # the header, and the first vehicles
    gone = range(2_401, 2_501) if newest_first else range(1, 101)
    left = [line for number, line in enumerate(fleet, 1) if number not in gone]
    seed(services.source, write_csvs(tmp_path / "after", left, booked))
    rows = csv.DictReader(b"".join([*begin, *parts]).decode().splitlines())
    numbers = [int(row["vehicle_id"]) for row in rows]
    assert numbers == sorted(range(1, 2_501), reverse=newest_first)


def test_a_vehicle_that_goes_before_its_turn_is_left_out_of_the_file(
    champion: int, client: FlaskClient, services: Services, tmp_path: Path
) -> None:
    fleet = [vehicle_line(number) for number in range(1, 1_101)]
    booked = booking_lines([(1, 1)])
    seed(services.source, write_csvs(tmp_path / "before", fleet, booked))
    parts = client.get("/fleet.csv").iter_encoded()
    begin = [next(parts), next(parts)]
    seed(services.source, write_csvs(tmp_path / "after", fleet[:-10], booked))
    rows = csv.DictReader(b"".join([*begin, *parts]).decode().splitlines())
    assert [int(row["vehicle_id"]) for row in rows] == list(range(1, 1_091))
