"""What any trained model must do: on the generated sample, and on the real fleet if it is there."""

from dataclasses import dataclass

import numpy as np
import pytest
from sklearn.model_selection import KFold

from tests.conftest import REAL_FLEET
from tests.snapshots import SAMPLE, read_fleet
from tests.vroom_model.champions import trained_model
from vroom_features.view import VEHICLE_VIEW
from vroom_model.dataset import Dataset, load_dataset
from vroom_model.evaluation.interval import fit_lines
from vroom_model.folds import out_of_fold
from vroom_model.serving.predictor import Forecasts, Predictor, with_range
from vroom_model.training.boosting import TrainingParams, fit_folds, predict_by_fold


@dataclass(frozen=True)
class Learned:
    """A fleet, the model of all of it, and forecasts of each vehicle by models that never saw it."""

    dataset: Dataset
    predictor: Predictor
    unseen: list[Forecasts]


@pytest.fixture(scope="module", params=["sample", "real"])
def learned(request: pytest.FixtureRequest) -> Learned:
    folder = {"sample": SAMPLE, "real": REAL_FLEET}[request.param]
    if not folder.exists():
        pytest.skip(f"the real fleet is not at {folder}; set VROOM_REAL_DATA to where it is")
    snapshot = read_fleet(folder)
    dataset = load_dataset(snapshot)
    predictor = Predictor.load(trained_model(snapshot).directory, version=1)
    return Learned(dataset, predictor, [cross_validated(dataset, repeat) for repeat in range(2)])


def cross_validated(dataset: Dataset, repeat: int) -> Forecasts:
    forecast, low, high = (np.empty(len(dataset)) for _ in range(3))
    params = TrainingParams()
    for seen_rows, rows in KFold(5, shuffle=True, random_state=repeat).split(dataset.features):
        seen = dataset.take(seen_rows)
        boosters = fit_folds(seen, params, seed=repeat)
        raw = out_of_fold(predict_by_fold(boosters, seen.features), seen.folds)
        lines = fit_lines(np.maximum(raw, 0), seen.labels, coverage=params.coverage)
        part = with_range(predict_by_fold(boosters, dataset.features[rows]).mean(axis=1), lines)
        forecast[rows], low[rows], high[rows] = part.predicted_reservations, part.low, part.high
    return Forecasts(forecast, low, high, params.coverage)


def test_its_error_on_vehicles_it_never_saw_is_as_it_says_and_a_tenth_below_that_of_the_median(
    learned: Learned,
) -> None:
    metrics, labels = learned.predictor.manifest.metrics, learned.dataset.labels
    error = np.mean([np.abs(each.predicted_reservations - labels).mean() for each in learned.unseen])
    assert metrics["mae"] == pytest.approx(error, rel=0.03)
    assert 3.2 < error < 0.9 * metrics["baseline_mae"]  # only leakage could make it less


def test_ranges_cover_the_share_they_promise_and_fail_no_price_segment(learned: Learned) -> None:
    labels = learned.dataset.labels
    covered = np.array([(each.low <= labels) & (labels <= each.high) for each in learned.unseen])
    assert 0.78 <= covered.mean() <= 0.825
    assert 0.78 <= learned.predictor.manifest.metrics["coverage"] <= 0.82
    for segment in range(4):
        assert covered[:, learned.dataset.segments == segment].mean() >= 0.72


def test_no_vehicle_is_forecast_more_for_a_higher_price(learned: Learned) -> None:
    features = learned.dataset.features
    price = VEHICLE_VIEW.columns.index("price_diff")
    before = None
    for step in np.linspace(-100, 200, 61):
        moved = features.copy()
        moved[:, price] = step
        forecasts = learned.predictor.predict_matrix(moved)
        now = np.array([forecasts.predicted_reservations, forecasts.low, forecasts.high])
        assert before is None or (now <= before + 1e-9).all()
        before = now


def test_forecasts_are_right_on_average_along_their_whole_range(learned: Learned) -> None:
    forecast = np.mean([f.predicted_reservations for f in learned.unseen], axis=0)
    for rows in np.array_split(np.argsort(forecast), 4):
        outcome = learned.dataset.labels[rows]
        error = outcome.std() / np.sqrt(len(rows))
        assert abs(forecast[rows].mean() - outcome.mean()) < 3.5 * error
