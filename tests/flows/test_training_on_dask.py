"""A fleet large enough for Dask, from the flow's first line to a promoted model."""

import importlib.util

import pytest

from flows.promotion import vroom_forecast_promotion
from flows.tasks.promotions import open_promotions
from flows.training import vroom_forecast_training
from tests.flows.conftest import run
from tests.large_fleet import write_fleet
from vroom_features.offline.snapshots import OfflineStore
from vroom_features.settings import Settings

pytestmark = [
    pytest.mark.usefixtures("prefect_server"),
    pytest.mark.filterwarnings("ignore"),  # Dask's and XGBoost's own, of one another
    pytest.mark.skipif(
        not importlib.util.find_spec("prefect_dask"), reason="the extra dask is not installed"
    ),
]


def test_a_model_trained_on_dask_is_registered_judged_and_loads(
    flow_settings: Settings, monkeypatch: pytest.MonkeyPatch
) -> None:
    write_fleet(flow_settings.offline_store, 5_000)
    snapshot = OfflineStore(flow_settings.offline_store).current()
    monkeypatch.setenv("VROOM_DASK_ADDRESS", "local:2")
    monkeypatch.setenv("VROOM_DASK_ABOVE_VEHICLES", "4999")
    assert "registered version 1" in str(run(vroom_forecast_training).message)
    assert "unchanged inputs, so still version 1" in str(run(vroom_forecast_training).message)
    assert "version 1 is better than the median" in str(run(vroom_forecast_promotion).message)
    with open_promotions(flow_settings) as promotions:
        manifest = promotions.load(promotions.registry.version(1)).manifest
    assert manifest.snapshot.digest == snapshot.digest
    assert sum(fold.num_rows for fold in manifest.folds) == snapshot.num_rows
