import shutil
from collections.abc import Callable
from pathlib import Path

import numpy as np
import numpy.typing as npt
import pytest
import xgboost as xgb
from hypothesis import given
from hypothesis import strategies as st

from tests.factories import VEHICLE
from tests.imported import imported_by
from vroom_features.vehicle import COLUMNS, PRICE_MAX
from vroom_features.view import VEHICLE_VIEW
from vroom_model.errors import BrokenModelError
from vroom_model.manifest import MANIFEST_NAME, SERVING_NAME, IntervalLines, fold_file
from vroom_model.serving.predictor import Predictor, with_range
from vroom_model.training.train import TrainedModel

NUM_VEHICLES = 10_000


def random_features() -> npt.NDArray[np.float32]:
    """Return features of random vehicles, far beyond the fleet too, and of every corner of the form."""
    rng = np.random.default_rng(0)
    n = NUM_VEHICLES
    near = [
        rng.integers(0, 2, n),
        rng.integers(0, 8, n),
        rng.integers(0, 2, n),
        rng.integers(0, 300, n),
        rng.normal(20, 40, n),
    ]
    raw = [(0, COLUMNS[name].high) for name in VEHICLE_VIEW.columns if name in COLUMNS]
    ends = [*raw, (-PRICE_MAX, PRICE_MAX)]
    corners = np.stack(np.meshgrid(*ends), axis=-1).reshape(-1, len(ends))
    return np.vstack([np.column_stack(near), corners]).astype(np.float32)


def thresholds(directory: Path) -> npt.NDArray[np.float32]:
    """Return a vehicle on each side of, and right at, every price the boosters split on."""
    boosters = [xgb.Booster(model_file=directory / fold_file(fold)) for fold in range(5)]
    frame = [booster.trees_to_dataframe() for booster in boosters]
    splits = np.unique(np.concatenate([f.loc[f.Feature == "f4", "Split"] for f in frame])).astype(np.float32)
    prices = np.concatenate([splits, np.nextafter(splits, -np.inf), np.nextafter(splits, np.inf)])
    rows = np.tile(np.array([0, 3, 1, 50, 0], dtype=np.float32), (len(prices), 1))
    rows[:, 4] = prices
    return rows


def test_the_served_graph_equals_xgboost(trained: TrainedModel, predictor: Predictor) -> None:
    features = np.vstack([random_features(), thresholds(trained.directory)])
    served = predictor.predict_by_fold(features)
    for fold in range(trained.manifest.num_folds):
        booster = xgb.Booster(model_file=trained.directory / fold_file(fold))
        np.testing.assert_allclose(served[:, fold], booster.inplace_predict(features), rtol=1e-5, atol=1e-5)


def test_one_vehicle_is_forecast_as_in_a_batch(predictor: Predictor) -> None:
    features = random_features()[::25]
    batch = predictor.predict_matrix(features)
    for row, values in enumerate(features):
        one = predictor.predict_features(dict(zip(VEHICLE_VIEW.columns, map(float, values), strict=True)))
        assert one.predicted_reservations == pytest.approx(batch.predicted_reservations[row], rel=1e-6)
        assert one.low == pytest.approx(batch.low[row], rel=1e-6)
        assert one.high == pytest.approx(batch.high[row], rel=1e-6)


def test_raw_columns_and_features_give_the_same_forecast(predictor: Predictor) -> None:
    assert predictor.predict_one(VEHICLE) == predictor.predict_features(VEHICLE_VIEW.compute(VEHICLE))
    many = predictor.predict_many({name: np.array([value]) for name, value in VEHICLE.items()})
    assert many.predicted_reservations[0] == predictor.predict_one(VEHICLE).predicted_reservations


@given(
    raw=st.lists(st.floats(-10, 1e6), min_size=2, max_size=20),
    intercepts=st.tuples(st.floats(-50, 50), st.floats(-50, 50)),
    slopes=st.tuples(st.floats(0, 5), st.floats(0, 5)),
)
def test_ranges_rise_with_the_forecast_and_include_it_whatever_the_lines(
    raw: list[float], intercepts: tuple[float, float], slopes: tuple[float, float]
) -> None:
    lines = IntervalLines(
        coverage=0.8,
        low_intercept=intercepts[0],
        low_slope=slopes[0],
        high_intercept=intercepts[1],
        high_slope=slopes[1],
    )
    forecasts = with_range(np.sort(raw), lines)
    for ends in (forecasts.predicted_reservations, forecasts.low, forecasts.high):
        assert (np.diff(ends) >= -1e-9).all()
    assert (forecasts.low >= 0).all()
    assert (forecasts.low <= forecasts.predicted_reservations).all()
    assert (forecasts.predicted_reservations <= forecasts.high).all()


def test_serving_imports_no_trainer() -> None:
    served = "import vroom_model.serving.explain, vroom_model.registry.promotion"
    assert imported_by(served) & {"xgboost", "pandas", "mlflow", "scipy", "onnx", "sklearn"} == set()


def flip_a_byte(path: Path) -> None:
    data = bytearray(path.read_bytes())
    data[len(data) // 2] ^= 1
    path.write_bytes(data)


def replace(old: str, new: str) -> Callable[[Path], None]:
    def change(path: Path) -> None:
        text = path.read_text()
        assert old in text
        path.write_text(text.replace(old, new, 1))

    return change


@pytest.mark.parametrize(
    ("name", "spoil", "problem"),
    [
        (SERVING_NAME, flip_a_byte, "differs from its checksum"),
        ("fold-3.json", flip_a_byte, "differs from its checksum"),
        (SERVING_NAME, Path.unlink, "cannot be read"),
        (MANIFEST_NAME, Path.unlink, "cannot be read"),
        (MANIFEST_NAME, replace('"price_diff"', '"price_gap"'), "this program computes"),
        (MANIFEST_NAME, replace('"format": 1', '"format": 2'), "format"),
        (MANIFEST_NAME, replace('"high": ', '"high": 9'), "probe row"),
        (MANIFEST_NAME, replace('"fold-0.json"', '"../fold-0.json"'), "is outside the directory"),
        (MANIFEST_NAME, lambda path: path.write_text("not JSON"), "errors"),
    ],
)
def test_a_broken_directory_is_refused_with_its_problem(
    trained: TrainedModel, tmp_path: Path, name: str, spoil: Callable[[Path], None], problem: str
) -> None:
    copy = tmp_path / "bundle"
    shutil.copytree(trained.directory, copy)
    spoil(copy / name)
    with pytest.raises(BrokenModelError, match=problem):
        Predictor.load(copy, version=1)


def test_a_manifest_that_the_registry_does_not_know_is_refused(trained: TrainedModel) -> None:
    with pytest.raises(BrokenModelError, match="checksum in the registry"):
        Predictor.load(trained.directory, version=1, manifest_sha256="0" * 64)
