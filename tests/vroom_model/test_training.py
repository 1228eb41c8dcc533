import subprocess
import sys
from datetime import timedelta
from pathlib import Path

import numpy as np
import pandas as pd
import pytest

from tests.snapshots import FrameSnapshot
from tests.vroom_model.conftest import AS_OF
from vroom_features.view import VEHICLE_VIEW
from vroom_model.dataset import load_dataset
from vroom_model.errors import TrainingDataError
from vroom_model.evaluation.gate import decide
from vroom_model.evaluation.metrics import out_of_fold, score
from vroom_model.manifest import MANIFEST_NAME, ModelManifest
from vroom_model.serving.predictor import Predictor
from vroom_model.training.boosting import TrainingParams
from vroom_model.training.train import TrainedModel, train

FAST = TrainingParams(num_rounds=5)


def files(directory: Path) -> dict[str, bytes]:
    return {path.name: path.read_bytes() for path in directory.iterdir()}


def test_the_same_training_gives_the_same_bytes(
    fleet: FrameSnapshot, trained: TrainedModel, tmp_path: Path
) -> None:
    again = train(fleet, directory=tmp_path, as_of=AS_OF)
    assert files(again.directory) == files(trained.directory)
    assert again.manifest_sha256 == trained.manifest_sha256


def test_another_process_makes_the_same_bytes(trained: TrainedModel, tmp_path: Path) -> None:
    program = (
        "import sys; from pathlib import Path; from tests.snapshots import read_fleet;"
        "from tests.vroom_model.conftest import AS_OF; from vroom_model.training.train import train;"
        "train(read_fleet(), directory=Path(sys.argv[1]), as_of=AS_OF)"
    )
    command = [sys.executable, "-c", program, str(tmp_path)]
    subprocess.run(command, check=True, cwd=Path(__file__).parents[2])
    assert files(tmp_path) == files(trained.directory)


def test_the_moment_of_training_changes_nothing_but_its_own_record(
    fleet: FrameSnapshot, trained: TrainedModel, tmp_path: Path
) -> None:
    later = train(fleet, directory=tmp_path, as_of=AS_OF + timedelta(days=1))
    ours, theirs = files(later.directory), files(trained.directory)
    assert {name for name in ours if ours[name] != theirs[name]} == {MANIFEST_NAME}
    assert later.manifest.model_copy(update={"trained_at": AS_OF}) == trained.manifest


def test_row_order_changes_nothing(fleet: FrameSnapshot, trained: TrainedModel, tmp_path: Path) -> None:
    shuffled = fleet.changed(lambda frame: frame.sample(frac=1, random_state=0))
    again = train(shuffled, directory=tmp_path, as_of=AS_OF)
    assert again.manifest.files == trained.manifest.files


def test_another_seed_gives_another_model(
    fleet: FrameSnapshot, trained: TrainedModel, tmp_path: Path
) -> None:
    assert train(fleet, directory=tmp_path, as_of=AS_OF, seed=1).manifest.files != trained.manifest.files


def test_a_fold_booster_knows_nothing_of_its_fold(
    fleet: FrameSnapshot, trained: TrainedModel, tmp_path: Path
) -> None:
    dataset = load_dataset(fleet)
    in_fold = set(dataset.vehicle_ids[dataset.folds == 2].tolist())

    def change(frame: pd.DataFrame) -> pd.DataFrame:
        rows = frame["vehicle_id"].isin(in_fold)
        frame.loc[rows, VEHICLE_VIEW.label] = 99
        return frame

    changed = train(fleet.changed(change), directory=tmp_path, as_of=AS_OF)
    same = {name for name, digest in changed.manifest.files.items() if trained.manifest.files[name] == digest}
    assert same == {"fold-2.json"}


def test_an_old_model_is_scored_by_the_boosters_that_never_saw_each_vehicle(
    fleet: FrameSnapshot, predictor: Predictor
) -> None:
    newer = fleet.changed(lambda frame: frame.assign(vehicle_id=frame["vehicle_id"] + 700))
    dataset = load_dataset(newer)
    expected = out_of_fold(predictor.predict_by_fold(dataset.features), dataset.folds)
    np.testing.assert_array_equal(score(predictor, newer).forecast, np.maximum(expected, 0))


def test_models_of_other_fold_counts_are_each_scored_by_their_own_folds(
    fleet: FrameSnapshot, predictor: Predictor, tmp_path: Path
) -> None:
    params = TrainingParams(num_folds=3)
    three = train(fleet, directory=tmp_path, as_of=AS_OF, params=params)
    loaded = Predictor.load(three.directory, version=2)
    by_three, by_five = score(loaded, fleet), score(predictor, fleet)
    assert by_three.errors.mean() == pytest.approx(three.manifest.metrics["mae"], abs=1e-6)
    assert len(by_three.errors) == len(by_five.errors)
    assert decide(by_three, by_five).num_vehicles == len(fleet.frame)
    dataset = load_dataset(fleet, num_folds=3)
    by_fold = loaded.predict_by_fold(dataset.features)
    np.testing.assert_array_equal(
        by_three.forecast, np.maximum(by_fold[np.arange(len(dataset)), dataset.folds], 0)
    )


def test_training_metrics_are_out_of_fold(
    fleet: FrameSnapshot, predictor: Predictor, trained: TrainedModel
) -> None:
    evaluation = score(predictor, fleet)
    assert trained.manifest.metrics["mae"] == pytest.approx(evaluation.errors.mean(), abs=1e-6)
    seen = predictor.predict_matrix(load_dataset(fleet).features).predicted_reservations
    assert np.abs(seen - evaluation.labels).mean() < trained.manifest.metrics["mae"]


def test_the_manifest_says_everything(fleet: FrameSnapshot, trained: TrainedModel) -> None:
    manifest = ModelManifest.read(trained.directory, sha256=trained.manifest_sha256)
    assert manifest == trained.manifest
    assert manifest.snapshot.digest == fleet.digest
    assert manifest.snapshot.num_rows == len(fleet.frame) == sum(fold.num_rows for fold in manifest.folds)
    assert manifest.view.columns == VEHICLE_VIEW.columns
    assert sum(segment.num_rows for segment in manifest.segments) == len(fleet.frame)
    assert {name for name in files(trained.directory) if name != MANIFEST_NAME} == set(manifest.files)
    assert {importance.feature for importance in manifest.feature_importances} == set(VEHICLE_VIEW.columns)


def test_a_feature_of_noise_is_muted_and_the_price_matters_most(trained: TrainedModel) -> None:
    importances = trained.manifest.feature_importances
    assert importances[0].feature == "price_diff"
    assert importances[0].mae_increase > 5 * importances[0].spread
    noise = [i for i in importances if i.feature in {"description", "street_parked"}]
    assert all(abs(i.mae_increase) < 0.05 for i in noise)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda frame: frame.head(20), "at least 50 vehicles"),
        (lambda frame: frame.assign(num_reservations=3), "every vehicle has 3 reservations"),
        (lambda frame: frame.assign(price_diff=1.0), "same price difference"),
        (
            lambda frame: frame.assign(actual_price=1.2 * frame["recommended_price"]),
            "120% of its market price; the effect of another price",
        ),
        (lambda frame: frame.drop(columns="num_images"), "lacks columns.*num_images"),
        (lambda frame: frame.assign(price_diff=np.inf), "price_diff"),
        (
            lambda frame: frame.assign(
                recommended_price=frame["recommended_price"].where(frame["vehicle_id"] != 7, 1e-310)
            ),
            "vehicle 7 of .* too small to compare.*recommended_price",
        ),
        (
            lambda frame: frame.assign(
                num_reservations=frame["num_reservations"].where(frame["vehicle_id"] > 1)
            ),
            "num_reservations",
        ),
        (lambda frame: frame.assign(vehicle_id=1), "repeat"),
    ],
)
def test_a_snapshot_that_teaches_nothing_is_refused(
    fleet: FrameSnapshot, tmp_path: Path, change: "object", message: str
) -> None:
    with pytest.raises(TrainingDataError, match=message):
        train(fleet.changed(change), directory=tmp_path, as_of=AS_OF, params=FAST)  # type: ignore[arg-type]


def test_a_snapshot_of_another_view_is_refused(fleet: FrameSnapshot, tmp_path: Path) -> None:
    other = FrameSnapshot(fleet.frame, view_version=99)
    with pytest.raises(TrainingDataError, match="vehicle_forecast:99"):
        train(other, directory=tmp_path, as_of=AS_OF)


def test_a_small_fleet_can_be_learned_from(fleet: FrameSnapshot, tmp_path: Path) -> None:
    small = train(fleet.changed(lambda frame: frame.head(80)), directory=tmp_path, as_of=AS_OF)
    forecasts = Predictor.load(small.directory, version=1).predict_matrix(load_dataset(fleet).features)
    assert np.ptp(forecasts.predicted_reservations) > 0
