import subprocess
import sys
from collections.abc import Callable
from dataclasses import replace
from datetime import timedelta, timezone
from pathlib import Path

import numpy as np
import pandas as pd
import pytest

from tests.snapshots import FrameSnapshot
from tests.vroom_model.champions import AS_OF, WEAK, Champions, trained_model
from vroom_features.view import VEHICLE_VIEW
from vroom_model.dataset import load_dataset
from vroom_model.errors import TrainingDataError
from vroom_model.evaluation.diagnostics import diagnostics
from vroom_model.evaluation.metrics import score
from vroom_model.manifest import MANIFEST_NAME, ModelManifest
from vroom_model.serving.predictor import Forecasts, Predictor
from vroom_model.training.boosting import TrainingParams, stream_folds
from vroom_model.training.model_card import CALIBRATION_NAME, CARD_NAME, SEGMENTS_NAME, card_text, write_card
from vroom_model.training.register import register_candidate
from vroom_model.training.train import Fit, TrainedModel, train

LATER = AS_OF + timedelta(days=1)
LABEL = VEHICLE_VIEW.label


def files(directory: Path) -> dict[str, bytes]:
    return {path.name: path.read_bytes() for path in directory.iterdir()}


def test_neither_another_process_nor_time_nor_row_order_changes_a_byte_and_the_seed_does(
    fleet: FrameSnapshot, tmp_path: Path
) -> None:
    model = trained_model(fleet, WEAK)
    program = (
        "import sys; from pathlib import Path; from tests.snapshots import read_fleet;"
        "from tests.vroom_model.test_training import LATER, WEAK, train;"
        "train(read_fleet(), directory=Path(sys.argv[1]), as_of=LATER, params=WEAK)"
    )
    command = [sys.executable, "-c", program, str(tmp_path)]
    subprocess.run(command, check=True, cwd=Path(__file__).parents[2])
    theirs, ours = files(tmp_path), files(model.directory)
    assert {name for name in ours if ours[name] != theirs[name]} == {MANIFEST_NAME}
    manifest = ModelManifest.read(tmp_path)
    assert manifest.model_copy(update={"trained_at": AS_OF}) == model.manifest
    shuffled = fleet.changed(lambda frame: frame.sample(frac=1, random_state=0))
    assert trained_model(shuffled, WEAK).manifest.files == manifest.files
    assert trained_model(fleet, WEAK, seed=1).manifest.files != manifest.files


def test_a_fold_booster_knows_nothing_of_its_fold(fleet: FrameSnapshot) -> None:
    dataset = load_dataset(fleet)
    labels = np.where(dataset.folds == 2, 99, dataset.labels)
    other = fleet.changed(lambda frame: frame.sort_values("vehicle_id").assign(training_label=labels))
    ours, theirs = (trained_model(each, WEAK).manifest.files for each in (fleet, other))
    assert {name for name in ours if ours[name] == theirs[name]} == {"fold-2.json"}


@pytest.mark.parametrize("num_folds", [3, 5])
def test_models_are_scored_by_the_boosters_that_never_saw_each_vehicle_on_a_newer_fleet_too(
    fleet: FrameSnapshot, num_folds: int
) -> None:
    model = trained_model(fleet, TrainingParams(num_folds=num_folds, num_rounds=8))
    predictor = Predictor.load(model.directory, version=1)
    newer = fleet.changed(lambda frame: frame.assign(vehicle_id=frame["vehicle_id"] + 700))
    for snapshot in (fleet, newer):
        dataset = load_dataset(snapshot, num_folds=num_folds)
        by_fold = predictor.predict_by_fold(dataset.features)
        expected = np.maximum(by_fold[np.arange(len(dataset)), dataset.folds], 0)
        np.testing.assert_array_equal(score(predictor, snapshot).forecast, expected)
    evaluation = score(predictor, fleet)
    assert model.manifest.metrics["mae"] == pytest.approx(evaluation.errors.mean(), abs=1e-6)
    seen = predictor.predict_matrix(load_dataset(fleet).features).predicted_reservations
    assert np.abs(seen - evaluation.labels).mean() < model.manifest.metrics["mae"]


def test_manifest_and_card_describe_snapshot_view_files_and_metrics(
    fleet: FrameSnapshot, trained: TrainedModel, tmp_path: Path
) -> None:
    manifest = ModelManifest.read(trained.directory, sha256=trained.manifest_sha256)
    assert manifest == trained.manifest
    assert manifest.snapshot.digest == fleet.digest
    assert manifest.view.columns == VEHICLE_VIEW.columns
    for parts in (manifest.folds, manifest.segments, manifest.calibration):
        assert sum(part.num_rows for part in parts) == manifest.snapshot.num_rows == len(fleet.frame)
    assert set(files(trained.directory)) == {MANIFEST_NAME, *manifest.files}

    text = write_card(manifest, tmp_path)
    card = (tmp_path / CARD_NAME).read_text()
    assert card.startswith(text)
    for plot in (CALIBRATION_NAME, SEGMENTS_NAME):
        assert f"]({plot})" in card
        assert (tmp_path / plot).read_bytes().startswith(b"\x89PNG")
    expected = [f"**{manifest.metrics['mae']:.3f}**", manifest.snapshot.id, *VEHICLE_VIEW.columns]
    expected += [*manifest.files, *manifest.files.values()]
    expected += [f"| {each.segment} | {each.num_rows:,} | {each.mae:.2f} |" for each in manifest.segments]
    assert [words for words in expected if words not in text] == []
    assert "(1,000 vehicles), feature view" in text
    assert "the reservations of a watch of 365 days" in text
    snapshot = manifest.snapshot.model_copy(update={"num_left_out": 25, "watch_days": None})
    trained_at = AS_OF.astimezone(timezone(timedelta(hours=5)))
    other = card_text(manifest.model_copy(update={"snapshot": snapshot, "trained_at": trained_at}))
    assert "(1,000 vehicles; 25 under watch left out), feature view" in other
    assert f"Trained {AS_OF:%Y-%m-%d %H:%M} UTC" in other
    assert "the reservations of a watch;" in other


def test_a_feature_of_noise_is_masked_and_the_price_matters_most(trained: TrainedModel) -> None:
    importances = trained.manifest.feature_importances
    assert importances[0].feature == "price_diff"
    assert importances[0].mae_increase > 5 * importances[0].spread
    noise = [i for i in importances if i.feature in {"description", "street_parked"}]
    assert all(abs(i.mae_increase) < 0.05 for i in noise)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda f: f.head(20), "at least 30 vehicles"),
        (lambda f: f.assign(training_label=3), "every vehicle has 3 reservations"),
        (lambda f: f.assign(actual_price=1.2 * f["recommended_price"]), "120% of its market price"),
        (lambda f: f.drop(columns="num_images"), "lacks columns.*num_images"),
        (lambda f: f.assign(price_diff=np.inf), "price_diff"),
        (
            lambda f: f.assign(recommended_price=f.recommended_price.mask(f.vehicle_id == 7, 1e-310)),
            "vehicle 7 of .* too small to compare.*recommended_price",
        ),
        (lambda f: f.assign(description=f.description.mask(f.vehicle_id == 1)), "description"),
        (lambda f: f.assign(vehicle_id=1), "repeat"),
    ],
)
def test_a_snapshot_that_cannot_be_learned_from_is_refused(
    fleet: FrameSnapshot, tmp_path: Path, change: Callable[[pd.DataFrame], pd.DataFrame], message: str
) -> None:
    with pytest.raises(TrainingDataError, match=message):
        train(fleet.changed(change), directory=tmp_path, as_of=AS_OF, params=WEAK)


def test_a_snapshot_of_another_view_is_refused(fleet: FrameSnapshot, tmp_path: Path) -> None:
    with pytest.raises(TrainingDataError, match="vehicle_forecast:99"):
        train(replace(fleet, view_version=99), directory=tmp_path, as_of=AS_OF)


def mostly_unbooked(frame: pd.DataFrame) -> pd.DataFrame:
    """Leave bookings to half of the cheapest tenth."""
    is_cheap = (frame["actual_price"] / frame["recommended_price"]).rank(pct=True) < 0.1
    is_booked = is_cheap & (np.random.default_rng(0).random(len(frame)) < 0.5)
    return frame.assign(**{LABEL: frame[LABEL].where(is_booked, 0)})


def one_car_of_5000(frame: pd.DataFrame) -> pd.DataFrame:
    return frame.assign(**{LABEL: frame[LABEL].where(frame["vehicle_id"] != 7, 5_000)})


def thirty_cars(frame: pd.DataFrame) -> pd.DataFrame:
    ratio = frame["actual_price"] / frame["recommended_price"]
    return frame.assign(**{LABEL: (25 - 10 * ratio).astype(int)}).head(30)


@pytest.mark.parametrize(
    ("change", "has_lower_mae"),
    [
        (mostly_unbooked, False),
        (one_car_of_5000, True),
        (thirty_cars, True),
    ],
)
def test_a_right_model_of_a_skewed_fleet_is_registered_and_promoted(
    champions: Champions, change: Callable[[pd.DataFrame], pd.DataFrame], has_lower_mae: bool
) -> None:
    champions.fleet = champions.fleet.changed(change)
    model = trained_model(champions.fleet)
    metrics = model.manifest.metrics
    assert (metrics["mae"] < metrics["baseline_mae"]) == has_lower_mae
    assert metrics["deviance"] < metrics["baseline_deviance"]
    assert register_candidate(champions.registry, model).is_new
    outcome = champions.promote()
    assert outcome.promoted, outcome.decision.reason
    assert "the mean" in outcome.decision.reason


@pytest.mark.parametrize("fit", [None, stream_folds])
def test_one_extreme_car_moves_no_forecast_of_the_others(fleet: FrameSnapshot, fit: Fit | None) -> None:
    model, plain = (trained_model(each, fit=fit) for each in (fleet.changed(one_car_of_5000), fleet))
    assert model.manifest.metrics["num_limited"] == 1
    assert "1 with extremely many reservations" in card_text(model.manifest)
    features = load_dataset(fleet).features
    forecasts, expected = (
        Predictor.load(each.directory, version=1).predict_matrix(features).predicted_reservations
        for each in (model, plain)
    )
    assert np.abs(forecasts - expected).max() < 5  # without a limit, 150


def test_residuals_and_coverage_are_those_of_each_group_of_vehicles(fleet: FrameSnapshot) -> None:
    dataset = load_dataset(fleet)
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
