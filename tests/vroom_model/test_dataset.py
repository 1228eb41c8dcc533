"""Training, gate and monitor use the vehicles of the CSV files alone, and count what they leave out."""

from dataclasses import replace
from datetime import date
from pathlib import Path

import numpy as np
import pytest

from tests.snapshots import FrameSnapshot, with_booked_arrivals
from tests.vroom_model.champions import AS_OF, WEAK, trained_model
from vroom_features.vehicle import UI_VEHICLE_ID_START
from vroom_features.view import VEHICLE_VIEW
from vroom_model.dataset import load_dataset
from vroom_model.errors import TrainingDataError
from vroom_model.evaluation.drift import monitor
from vroom_model.evaluation.gate import decide
from vroom_model.evaluation.metrics import score
from vroom_model.folds import fold_of, in_sample
from vroom_model.serving.predictor import Predictor
from vroom_model.training import train as training
from vroom_model.training.train import train

NUM_ARRIVALS = 800


@pytest.fixture(scope="module")
def mixed(fleet: FrameSnapshot) -> FrameSnapshot:
    return with_booked_arrivals(fleet, NUM_ARRIVALS)


def test_a_model_learns_from_vehicles_whose_watch_is_over_alone_in_memory_and_in_batches(
    fleet: FrameSnapshot, mixed: FrameSnapshot, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(training, "STREAM_ABOVE_ROWS", 1_000)  # as many as the CSV files have
    spoiled = mixed.changed(
        lambda frame: frame.assign(
            price_diff=frame.price_diff.mask(frame.vehicle_id == UI_VEHICLE_ID_START, np.inf)
        )
    )
    alone = trained_model(fleet, WEAK).manifest
    assert alone.snapshot.num_left_out == 0
    manifest = train(spoiled, directory=tmp_path, as_of=AS_OF, params=WEAK).manifest
    for name in ("files", "metrics", "reference"):
        assert getattr(manifest, name) == getattr(alone, name)
    assert (manifest.snapshot.num_rows, manifest.snapshot.num_left_out) == (1_000, NUM_ARRIVALS)
    monkeypatch.setattr(training, "STREAM_ABOVE_ROWS", 999)
    expected, streamed = (
        train(snapshot, directory=tmp_path, as_of=AS_OF, params=WEAK).manifest
        for snapshot in (fleet, spoiled)
    )
    assert streamed.files == expected.files
    assert {fold.features for fold in streamed.folds} == {VEHICLE_VIEW.inputs}  # none is masked
    assert streamed.training_digest != alone.training_digest
    few = mixed.changed(lambda frame: frame[frame["vehicle_id"] > 980])
    with pytest.raises(TrainingDataError, match=r"at least 30 vehicles.*got 20.*800 under watch"):
        train(few, directory=tmp_path, as_of=AS_OF)


def test_a_sample_is_the_same_every_time_and_spread_over_all_folds(
    fleet: FrameSnapshot, mixed: FrameSnapshot
) -> None:
    ids = np.arange(1, 100_001)
    chosen = in_sample(ids, 0.2)
    assert chosen.mean() == pytest.approx(0.2, abs=0.01)
    np.testing.assert_array_equal(in_sample(ids[::-1], 0.2)[::-1], chosen)
    assert np.bincount(fold_of(ids[chosen])) == pytest.approx(chosen.sum() / 5, rel=0.03)
    alone, beside = (load_dataset(snapshot, max_rows=500) for snapshot in (fleet, mixed))
    assert 400 < len(alone) < 600
    assert in_sample(alone.vehicle_ids, 0.5).all()
    np.testing.assert_array_equal(beside.vehicle_ids, alone.vehicle_ids)
    assert beside.num_left_out == NUM_ARRIVALS


def test_gate_and_monitor_judge_by_vehicles_whose_watch_is_over_alone(
    fleet: FrameSnapshot, mixed: FrameSnapshot, predictor: Predictor
) -> None:
    champion = Predictor.load(trained_model(fleet, WEAK).directory, version=2)
    alone, beside = (
        decide(score(predictor, snapshot), score(champion, snapshot)) for snapshot in (fleet, mixed)
    )
    left_out = {"num_left_out": NUM_ARRIVALS, "next_matures": date(2024, 10, 2)}
    assert beside == alone.model_copy(update={"snapshot_digest": mixed.digest, **left_out})
    assert (alone.num_vehicles, alone.num_left_out) == (1_000, 0)

    nobody = dict.fromkeys(VEHICLE_VIEW.columns, np.empty(0))
    report, with_arrivals = (monitor(predictor, each, nobody, as_of=AS_OF) for each in (fleet, mixed))
    assert with_arrivals == report.model_copy(update=left_out)
    assert report.outcomes is not None
    assert report.outcomes.num_vehicles == 1_000
    # Out of fold: the error is that of the training's own report, not that on vehicles it has learned.
    metrics = predictor.manifest.metrics
    assert report.outcomes.mae == pytest.approx(metrics["mae"])
    assert report.outcomes.held == pytest.approx(metrics["coverage"], abs=0.02)
    assert report.outcomes.mean_outcome == pytest.approx(metrics["mean_label"])


def test_models_of_another_length_of_watch_are_compared_by_rates_per_day(
    fleet: FrameSnapshot, predictor: Predictor
) -> None:
    """Watched for twice as long, every vehicle is booked twice as often: no model is better for it."""
    doubled = fleet.changed(lambda frame: frame.assign(training_label=frame["training_label"] * 2))
    longer = replace(doubled, watch_days=2 * fleet.watch_days)
    candidate = Predictor.load(trained_model(longer, WEAK).directory, version=2)
    assert candidate.manifest.training_digest != predictor.manifest.training_digest
    for snapshot, factor in ((fleet, 1), (longer, 2)):
        of_candidate, of_champion = score(candidate, snapshot), score(predictor, snapshot)
        assert of_candidate.forecast.mean() == pytest.approx(of_champion.forecast.mean(), rel=0.05)
        assert of_champion.metrics["mae"] == pytest.approx(factor * predictor.manifest.metrics["mae"])
        assert of_champion.trained_mean_label == pytest.approx(snapshot.frame["training_label"].mean())
