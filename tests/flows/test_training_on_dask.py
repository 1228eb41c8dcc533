"""A fleet large enough for Dask, from the flow's first line to a forecast of the web app."""

import importlib.util
from typing import Any

import pytest
from prefect import State

from flows.promotion import open_promotions, vroom_forecast_promotion
from flows.training import vroom_forecast_training
from tests.factories import VEHICLE
from tests.flows.conftest import run
from tests.large_fleet import write_fleet
from vroom_features.offline.snapshots import OfflineStore
from vroom_features.settings import Settings
from vroom_model.serving.predictor import Predictor
from webapp.app import create_app

pytestmark = [
    pytest.mark.usefixtures("prefect_server"),
    pytest.mark.filterwarnings("ignore"),  # Dask's and XGBoost's own, of one another
    pytest.mark.skipif(
        not importlib.util.find_spec("prefect_dask"), reason="the extra dask is not installed"
    ),
]


def completed(flow: Any, **parameters: Any) -> State[Any]:  # as ``run``
    """Run a flow to its good end."""
    state = run(flow, **parameters)
    assert state.is_completed(), state.message
    return state


def load(settings: Settings, version: int) -> Predictor:
    """Return a registered version, verified."""
    with open_promotions(settings) as promotions:
        return promotions.load(promotions.registry.version(version))


def test_a_model_trained_on_dask_is_registered_judged_and_serves(
    flow_settings: Settings, monkeypatch: pytest.MonkeyPatch
) -> None:
    write_fleet(flow_settings.offline_store, 5_000)
    snapshot = OfflineStore(flow_settings.offline_store).current()
    monkeypatch.setenv("VROOM_DASK_ADDRESS", "local:2")
    monkeypatch.setenv("VROOM_DASK_ABOVE_VEHICLES", "4999")
    assert "registered version 1" in str(completed(vroom_forecast_training).message)
    assert "unchanged inputs, so still version 1" in str(completed(vroom_forecast_training).message)
    assert "version 1 is better than the median" in str(completed(vroom_forecast_promotion).message)

    manifest = load(flow_settings, 1).manifest
    assert manifest.snapshot.digest == snapshot.digest
    assert sum(fold.num_rows for fold in manifest.folds) == snapshot.num_rows

    app = create_app(flow_settings)
    answer = app.test_client().post("/predict", json=VEHICLE).json
    app.extensions["vroom"].close()
    assert answer["model_version"] == 1
    assert answer["interval"]["low"] < answer["predicted_reservations"] < answer["interval"]["high"]
