"""The fleet's forecasts for charts and ranks: made again when the model or a vehicle changed, only then."""

from pathlib import Path

import pytest
from flask import Flask

from tests.factories import make_vehicle
from tests.webapp.registry import Models
from vroom_features.ingest import seed
from webapp.clock import now
from webapp.fleet_overview import FleetOverview
from webapp.model_slot import Served
from webapp.services import Services

DATA = Path(__file__).resolve().parent.parent.parent / "data"


@pytest.fixture
def served(champion: int, app: Flask, services: Services, tmp_path: Path) -> Served:
    """Return the model that serves, beside the sample fleet."""
    seed(services.source, DATA, quarantine_dir=tmp_path / "quarantine")
    found = services.slot.current
    assert found is not None
    return found


def test_forecasts_are_kept_until_a_vehicle_changes(served: Served, services: Services) -> None:
    overview = FleetOverview(services.source, look_again_s=0)
    first = overview.forecasted(served)
    assert len(first.forecast) == 1_000
    assert overview.forecasted(served) is first
    services.source.save_vehicle(make_vehicle(), saved_at=now())
    assert overview.forecasted(served) is not first


def test_vehicles_that_keep_changing_do_not_make_them_anew_each_time(
    served: Served, services: Services
) -> None:
    overview = FleetOverview(services.source, look_again_s=1_000)
    first = overview.forecasted(served)
    services.source.save_vehicle(make_vehicle(), saved_at=now())
    assert overview.forecasted(served) is first


def test_another_model_makes_them_anew_at_once(served: Served, services: Services, models: Models) -> None:
    overview = FleetOverview(services.source, look_again_s=1_000)
    assert set(overview.forecasted(served).forecast) == {5.0}
    models.crown(models.register(7.0))
    services.listener.refresh()
    other = services.slot.current
    assert other is not None
    assert set(overview.forecasted(other).forecast) == {7.0}
