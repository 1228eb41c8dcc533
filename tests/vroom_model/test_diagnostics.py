import numpy as np
import pytest

from tests.snapshots import FrameSnapshot
from vroom_features.view import VEHICLE_VIEW
from vroom_model.dataset import load_dataset
from vroom_model.evaluation.diagnostics import diagnostics
from vroom_model.serving.predictor import Forecasts


def test_residuals_and_coverage_are_those_of_each_group_of_vehicles(fleet: FrameSnapshot) -> None:
    dataset = load_dataset(fleet, inputs=VEHICLE_VIEW.inputs, num_folds=5)
    photos = dataset.features[:, dataset.inputs.index("num_images")]
    forecast = dataset.labels + np.where(photos == 3, 2.0, -1.0)
    ranged = Forecasts(forecast, forecast - 1.5, forecast + 1.5, 0.8)
    found = diagnostics(ranged, dataset)
    bins = found.residuals["num_images"]
    assert [bin.value for bin in bins] == [1, 2, 3, 4, 5]
    assert [bin.residual for bin in bins] == pytest.approx([-1, -1, 2, -1, -1])
    assert [bin.coverage for bin in bins] == [1, 1, 0, 1, 1]
    assert all(sum(bin.num_rows for bin in each) == len(dataset) for each in found.residuals.values())
    assert sum(found.errors.counts) == len(dataset)
    assert len(found.errors.counts) == len(found.errors.edges) + 1
