"""The fleet's forecasts: cached for charts and ranks."""

from pathlib import Path

import pytest
from flask import Flask
from flask.testing import FlaskClient

from tests.factories import make_vehicle
from tests.webapp.conftest import Models
from vroom_features.ingest.seed import seed
from webapp.services import Services, now
from webapp.serving.current_model import LoadedModel
from webapp.serving.fleet_overview import FleetOverview

DATA = Path(__file__).parents[2] / "data"


@pytest.fixture
def served(champion: int, app: Flask, services: Services, tmp_path: Path) -> LoadedModel:
    seed(services.source, DATA, quarantine_dir=tmp_path / "quarantine")
    found = services.slot.current
    assert found is not None
    return found


def test_forecasts_are_cached_until_a_vehicle_or_the_model_changes(
    served: LoadedModel, services: Services, models: Models
) -> None:
    eager, patient = (FleetOverview(services.source, refresh_interval_s=each) for each in (0, 1_000))
    first, second = eager.predictions(served), patient.predictions(served)
    assert len(first.forecast) == 1_000
    assert eager.predictions(served) is first
    services.source.save_vehicle(make_vehicle(), saved_at=now())
    assert eager.predictions(served) is not first
    assert patient.predictions(served) is second
    assert set(second.forecast) == {5.0}
    models.crown(models.register(7.0))
    services.listener.refresh()
    other = services.slot.current
    assert other is not None
    assert set(patient.predictions(other).forecast) == {7.0}


@pytest.mark.usefixtures("champion")
def test_an_empty_fleet_has_no_forecasts(client: FlaskClient, services: Services) -> None:
    served = services.slot.current
    assert served is not None
    assert services.fleet.percentile(served, 5.0) is None
    assert services.fleet.groups(served) == []
    assert client.get("/fleet/points").json == {"forecast": [], "outcome": [], "vehicle_id": []}
    assert "The fleet is empty" in client.get("/fleet").text
