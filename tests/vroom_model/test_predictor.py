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
from tests.snapshots import FrameSnapshot
from vroom_features.vehicle import COLUMNS, PRICE_MAX
from vroom_features.view import VEHICLE_VIEW
from vroom_model.dataset import load_dataset
from vroom_model.errors import BrokenModelError
from vroom_model.manifest import MANIFEST_NAME, SERVING_NAME, IntervalLines, fold_file
from vroom_model.segments import SEGMENTS
from vroom_model.serving.predictor import Predictor, with_range
from vroom_model.serving.what_if import what_if
from vroom_model.training.train import TrainedModel

NUM_VEHICLES = 10_000


def random_features() -> npt.NDArray[np.float32]:
    """Return features of random vehicles, and of every corner of the form."""
    rng = np.random.default_rng(0)
    near = [rng.integers(0, high, NUM_VEHICLES) for high in (2, 8, 2, 300)]
    near.append(rng.normal(20, 40, NUM_VEHICLES))  # the price difference
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
        expected = (batch.predicted_reservations[row], batch.low[row], batch.high[row])
        assert (one.predicted_reservations, one.low, one.high) == pytest.approx(expected, rel=1e-6)


def test_beside_outcomes_a_vehicle_is_forecast_by_the_booster_that_did_not_see_it(
    fleet: FrameSnapshot, trained: TrainedModel, predictor: Predictor
) -> None:
    dataset = load_dataset(fleet)
    columns = {name: fleet.frame[name].to_numpy() for name in predictor.view.columns}
    columns |= {name: fleet.frame[name].to_numpy() for name in VEHICLE_VIEW.attributes}
    was_trained_on = dataset.vehicle_ids != 7
    made = predictor.predict_unseen(columns, dataset.vehicle_ids, was_trained_on).predicted_reservations
    for fold in range(trained.manifest.num_folds):
        booster = xgb.Booster(model_file=trained.directory / fold_file(fold))
        rows = (dataset.folds == fold) & was_trained_on
        np.testing.assert_allclose(
            made[rows], booster.inplace_predict(dataset.features[rows]).clip(0), rtol=1e-4
        )
    assert made[~was_trained_on] == predictor.predict_many(columns).predicted_reservations[~was_trained_on]
    mae = np.abs(made - dataset.labels).mean()
    assert mae == pytest.approx(trained.manifest.metrics["mae"], abs=0.02)


@given(
    raw=st.lists(st.floats(-10, 1e6), min_size=2, max_size=20),
    lines=st.builds(
        IntervalLines,
        coverage=st.just(0.8),
        **dict.fromkeys(("low_intercept", "high_intercept"), st.floats(-50, 50)),
        **dict.fromkeys(("low_slope", "high_slope"), st.floats(0, 5)),
    ),
)
def test_ranges_rise_with_the_forecast_and_include_it_whatever_the_lines(
    raw: list[float], lines: IntervalLines
) -> None:
    forecasts = with_range(np.sort(raw), lines)
    for ends in (forecasts.predicted_reservations, forecasts.low, forecasts.high):
        assert (np.diff(ends) >= -1e-9).all()
    assert (forecasts.low >= 0).all()
    assert (forecasts.low <= forecasts.predicted_reservations).all()
    assert (forecasts.predicted_reservations <= forecasts.high).all()


def test_a_vehicle_is_in_the_segment_of_the_data_set_with_its_coverage(
    fleet: FrameSnapshot, predictor: Predictor, trained: TrainedModel
) -> None:
    covered = {each.segment: each.coverage for each in trained.manifest.segments}
    rows = fleet.frame.sort_values("vehicle_id").to_dict("records")
    for row, number in zip(rows, load_dataset(fleet).segments, strict=True):
        assert predictor.segment(row) == (SEGMENTS[number], covered[SEGMENTS[number]])
    few = [each.model_copy(update={"num_rows": 29}) for each in trained.manifest.segments]
    small = Predictor(
        predictor._session, trained.manifest.model_copy(update={"segments": tuple(few)}), version=1
    )
    assert small.segment(VEHICLE) == (SEGMENTS[0], None)


def replace(old: str, new: str) -> Callable[[Path], None]:
    def change(path: Path) -> None:
        text = path.read_text()
        assert old in text
        path.write_text(text.replace(old, new, 1))

    return change


@pytest.mark.parametrize(
    ("name", "spoil", "problem"),
    [
        (MANIFEST_NAME, replace('"seed": 0', '"seed": 1'), "checksum in the registry"),
        (SERVING_NAME, lambda path: path.write_bytes(b"another"), "differs from its checksum"),
        (MANIFEST_NAME, Path.unlink, "cannot be read"),
        (MANIFEST_NAME, replace('"price_diff"', '"price_gap"'), "this program computes"),
        (MANIFEST_NAME, replace('"format": 1', '"format": 2'), "format"),
        (MANIFEST_NAME, replace('"high_slope": ', '"high_slope": 9'), "probe row"),
        (MANIFEST_NAME, replace('"fold-0.json"', '"../fold-0.json"'), r"fold-0\.json.*match pattern"),
        (MANIFEST_NAME, lambda path: path.write_text("not JSON"), "errors"),
    ],
)
def test_a_broken_directory_is_refused_with_its_problem(
    trained: TrainedModel, tmp_path: Path, name: str, spoil: Callable[[Path], None], problem: str
) -> None:
    copy = shutil.copytree(trained.directory, tmp_path / "bundle")
    spoil(copy / name)
    sha256 = trained.manifest_sha256 if "registry" in problem else None
    with pytest.raises(BrokenModelError, match=problem):
        Predictor.load(copy, version=1, manifest_sha256=sha256)


@pytest.mark.parametrize(
    ("changes", "outside"),
    [
        ({}, []),
        ({"num_images": 0}, ["num_images"]),
        ({"num_images": 100, "description": 9_000}, ["num_images", "description"]),
        ({"actual_price": 1_000.0}, ["actual_price"]),
        ({"actual_price": 30.0}, ["actual_price"]),  # as others, but not at this market price
        ({"actual_price": 15.0, "recommended_price": 20.0}, ["actual_price", "recommended_price"]),
    ],
)
def test_what_lies_outside_the_training_vehicles_is_named(
    trained: TrainedModel, predictor: Predictor, changes: dict[str, float], outside: list[str]
) -> None:
    assert predictor.outside(VEHICLE | changes) == outside
    lean = trained.manifest.model_copy(update={"ranges": {}})
    assert Predictor(predictor._session, lean, version=1).outside(VEHICLE | changes) is None


def test_the_what_if_curve_falls_over_the_ratios_seen_and_has_the_price_now_with_its_forecast(
    predictor: Predictor,
) -> None:
    lowest, highest = (ratio * VEHICLE["recommended_price"] for ratio in predictor.manifest.price_ratio)
    for price in (45.0, 58.37, 50.1, lowest, lowest + 0.01, highest - 0.01, highest):
        curve = what_if(predictor, VEHICLE | {"actual_price": price})
        assert (curve.prices[0], curve.prices[-1]) == pytest.approx((lowest, highest))
        assert (np.diff(curve.prices) > 0).all()
        for ends in (curve.forecast, curve.low, curve.high):
            assert (np.diff(ends) <= 1e-9).all()
        assert curve.forecast[0] > curve.forecast[-1]
        for place in (7, curve.prices.index(price)):
            here = predictor.predict_one(VEHICLE | {"actual_price": curve.prices[place]})
            forecast = (curve.forecast[place], curve.low[place], curve.high[place])
            assert forecast == pytest.approx((here.predicted_reservations, here.low, here.high))
    inside = [what_if(predictor, VEHICLE | {"actual_price": price}).inside for price in (45.0, 1_000.0)]
    assert inside == [True, False]
