"""A model takes the features that its manifest names, whatever the view gives to the next training."""

import json
import shutil
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from tests.factories import VEHICLE
from tests.snapshots import FrameSnapshot
from tests.vroom_model.champions import AS_OF, MIDDLING, trained_model
from vroom_features.view import VEHICLE_VIEW
from vroom_model.evaluation.drift import monitor
from vroom_model.evaluation.gate import decide
from vroom_model.evaluation.metrics import score
from vroom_model.manifest import MANIFEST_NAME, ViewRef
from vroom_model.serving.explain import Explainer
from vroom_model.serving.predictor import Predictor
from vroom_model.serving.what_if import what_if
from vroom_model.training.train import TrainedModel

FEWER = ("price_diff", "num_images", "technology")
"""Fewer than the view's, in another order."""


@pytest.fixture(scope="module")
def lean(fleet: FrameSnapshot) -> TrainedModel:
    return trained_model(fleet, MIDDLING, inputs=FEWER)


@pytest.fixture(scope="module")
def lean_predictor(lean: TrainedModel) -> Predictor:
    return Predictor.load(lean.directory, version=2, manifest_sha256=lean.manifest_sha256)


def test_the_next_training_leaves_retired_features_out_and_the_stores_keep_them() -> None:
    retired = replace(VEHICLE_VIEW, retired=("description",))
    assert retired.inputs == tuple(name for name in VEHICLE_VIEW.columns if name != "description")
    assert retired.compute(VEHICLE) == VEHICLE_VIEW.compute(VEHICLE)
    assert "description" in retired.select(VEHICLE_VIEW.columns).inputs  # of a model that takes it


def test_a_model_of_fewer_inputs_forecasts_explains_and_is_monitored_by_them_alone(
    fleet: FrameSnapshot, lean: TrainedModel, lean_predictor: Predictor
) -> None:
    assert lean_predictor.manifest.view.features == ("price_diff v1", "num_images v1", "technology v1")
    needed = {name: VEHICLE[name] for name in lean_predictor.view.sources}
    assert set(needed) == {"actual_price", "recommended_price", "num_images", "technology"}
    forecast = lean_predictor.predict_one(needed)
    assert forecast == lean_predictor.predict_one(VEHICLE)
    assert forecast == lean_predictor.predict_features(VEHICLE_VIEW.compute(VEHICLE))
    many = lean_predictor.predict_many({name: np.array([value]) for name, value in needed.items()})
    assert many.predicted_reservations[0] == forecast.predicted_reservations
    curve = what_if(lean_predictor, VEHICLE).forecast
    assert list(curve) == sorted(curve, reverse=True)

    explanation = Explainer.load(lean.directory).explain(VEHICLE)
    assert {reason.feature for reason in explanation.reasons} == set(FEWER)
    parts = explanation.base + sum(reason.contribution for reason in explanation.reasons)
    assert parts == pytest.approx(forecast.predicted_reservations, abs=1e-4)

    arrivals = {name: fleet.frame[name].to_numpy(np.float64) for name in VEHICLE_VIEW.columns}
    report = monitor(lean_predictor, fleet, arrivals, as_of=AS_OF)
    assert [found.feature for found in report.features] == list(FEWER)
    assert report.drifted == ()


def test_models_of_different_inputs_are_compared_on_the_same_vehicles(
    fleet: FrameSnapshot, predictor: Predictor, lean: TrainedModel, lean_predictor: Predictor
) -> None:
    full, fewer = score(predictor, fleet), score(lean_predictor, fleet)
    np.testing.assert_array_equal(full.labels, fewer.labels)
    np.testing.assert_array_equal(full.segments, fewer.segments)
    assert fewer.errors.mean() == pytest.approx(lean.manifest.metrics["mae"], abs=1e-6)
    for candidate, champion in ((full, fewer), (fewer, full)):
        decision = decide(candidate, champion)
        assert decision.gain == pytest.approx(1 - candidate.errors.mean() / champion.errors.mean())
        assert decision.num_vehicles == len(fleet.frame)


def test_a_model_of_an_earlier_release_is_served(
    trained: TrainedModel, predictor: Predictor, tmp_path: Path
) -> None:
    """Its manifest names no feature versions, and a view of another version."""
    manifest = json.loads((trained.directory / MANIFEST_NAME).read_bytes())
    assert manifest["view"].pop("feature_versions") == dict.fromkeys(VEHICLE_VIEW.columns, 1)
    manifest["view"]["version"] = 0
    shutil.copytree(trained.directory, tmp_path, dirs_exist_ok=True)
    (tmp_path / MANIFEST_NAME).write_text(json.dumps(manifest))
    earlier = Predictor.load(tmp_path, version=1)
    assert earlier.manifest.view.features == ViewRef.of(VEHICLE_VIEW).features
    assert earlier.predict_one(VEHICLE) == predictor.predict_one(VEHICLE)
