"""Training, gate and monitor use the vehicles of the CSV files alone, and say how many they left out."""

import hashlib
import json
from pathlib import Path

import numpy as np
import pytest

from tests.snapshots import FrameSnapshot, with_booked_arrivals
from tests.vroom_model.conftest import AS_OF
from vroom_features.vehicle import UI_VEHICLE_ID_START
from vroom_features.view import VEHICLE_VIEW
from vroom_model.dataset import load_dataset
from vroom_model.errors import TrainingDataError
from vroom_model.evaluation.drift import monitor
from vroom_model.evaluation.gate import decide
from vroom_model.evaluation.metrics import score
from vroom_model.manifest import SnapshotRef
from vroom_model.records import Decision, MonitorReport
from vroom_model.serving.predictor import Predictor
from vroom_model.training import train as training
from vroom_model.training.boosting import TrainingParams, stream_folds
from vroom_model.training.train import TrainedModel, train, training_digest

NUM_ARRIVALS = 800
FAST = TrainingParams(num_rounds=10)
NO_ARRIVALS = dict.fromkeys(VEHICLE_VIEW.columns, np.empty(0))


@pytest.fixture(scope="module")
def mixed(fleet: FrameSnapshot) -> FrameSnapshot:
    """Return the sample fleet beside vehicles of the web form that were booked for 90 days."""
    return with_booked_arrivals(fleet, NUM_ARRIVALS)


def test_a_model_learns_from_the_vehicles_of_the_csv_files_alone(
    mixed: FrameSnapshot, trained: TrainedModel, tmp_path: Path
) -> None:
    manifest = train(mixed, directory=tmp_path, as_of=AS_OF).manifest
    assert manifest.files == trained.manifest.files
    assert manifest.metrics == trained.manifest.metrics
    assert manifest.reference == trained.manifest.reference
    assert (manifest.snapshot.num_rows, manifest.snapshot.num_left_out) == (1_000, NUM_ARRIVALS)
    assert trained.manifest.snapshot.num_left_out == 0


@pytest.mark.parametrize("limit", [999, 1_000])
def test_only_vehicles_of_the_csv_files_count_for_the_choice_to_stream(
    fleet: FrameSnapshot,
    mixed: FrameSnapshot,
    tmp_path: Path,
    limit: int,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(training, "STREAM_ABOVE_ROWS", limit)
    alone = train(fleet, directory=tmp_path / "alone", as_of=AS_OF, params=FAST)
    beside = train(mixed, directory=tmp_path / "beside", as_of=AS_OF, params=FAST)
    assert beside.manifest.files == alone.manifest.files


def test_streaming_leaves_the_vehicles_of_the_web_form_out(
    fleet: FrameSnapshot, mixed: FrameSnapshot
) -> None:
    alone, beside = (stream_folds(snapshot, FAST, seed=0) for snapshot in (fleet, mixed))
    assert [fold.booster.save_raw() for fold in beside] == [fold.booster.save_raw() for fold in alone]


def test_a_sample_of_a_large_fleet_holds_the_same_vehicles_beside_those_of_the_web_form(
    fleet: FrameSnapshot, mixed: FrameSnapshot
) -> None:
    alone, beside = (load_dataset(snapshot, max_rows=500) for snapshot in (fleet, mixed))
    np.testing.assert_array_equal(beside.vehicle_ids, alone.vehicle_ids)
    assert beside.num_left_out == NUM_ARRIVALS


def test_the_gate_judges_by_the_vehicles_of_the_csv_files_alone(
    fleet: FrameSnapshot, mixed: FrameSnapshot, predictor: Predictor, tmp_path: Path
) -> None:
    weak = train(fleet, directory=tmp_path, as_of=AS_OF, params=FAST)
    champion = Predictor.load(weak.directory, version=2)
    alone, beside = (
        decide(score(predictor, snapshot), score(champion, snapshot)) for snapshot in (fleet, mixed)
    )
    assert beside.num_left_out == NUM_ARRIVALS
    assert beside == alone.model_copy(update={"snapshot_digest": mixed.digest, "num_left_out": NUM_ARRIVALS})
    assert (alone.num_vehicles, alone.num_left_out) == (1_000, 0)


def test_the_monitor_compares_forecasts_with_outcomes_of_the_csv_files_alone(
    fleet: FrameSnapshot, mixed: FrameSnapshot, predictor: Predictor
) -> None:
    alone, beside = (monitor(predictor, snapshot, NO_ARRIVALS, as_of=AS_OF) for snapshot in (fleet, mixed))
    assert beside == alone.model_copy(update={"num_left_out": NUM_ARRIVALS})
    assert alone.outcomes is not None
    assert alone.outcomes.num_vehicles == 1_000
    # Out of fold: the error is that of the training's own report, not that on vehicles it has learned.
    assert alone.outcomes.mae == pytest.approx(predictor.manifest.metrics["mae"])


def test_vehicles_of_the_web_form_alone_cannot_be_learned_from(mixed: FrameSnapshot, tmp_path: Path) -> None:
    typed_in = mixed.changed(lambda frame: frame[frame["vehicle_id"] >= UI_VEHICLE_ID_START])
    with pytest.raises(TrainingDataError, match=r"0 vehicles of the CSV files.*800 booked vehicles"):
        train(typed_in, directory=tmp_path, as_of=AS_OF)


def test_too_few_vehicles_of_the_csv_files_are_not_helped_by_those_of_the_web_form(
    mixed: FrameSnapshot, tmp_path: Path
) -> None:
    few = mixed.changed(lambda frame: frame[frame["vehicle_id"] > 980])
    with pytest.raises(TrainingDataError, match=r"at least 50 vehicles.*got 20.*800 booked vehicles"):
        train(few, directory=tmp_path, as_of=AS_OF)


def test_a_spoiled_vehicle_of_the_web_form_stops_no_training(
    mixed: FrameSnapshot, trained: TrainedModel, tmp_path: Path
) -> None:
    spoiled = mixed.changed(
        lambda frame: frame.assign(
            price_diff=frame["price_diff"].where(frame["vehicle_id"] != UI_VEHICLE_ID_START, np.inf)
        )
    )
    assert train(spoiled, directory=tmp_path, as_of=AS_OF).manifest.files == trained.manifest.files


def test_a_model_trained_by_the_rule_before_is_not_taken_for_one_of_this(
    mixed: FrameSnapshot, trained: TrainedModel
) -> None:
    before = {
        "snapshot": mixed.digest,
        "view": [mixed.view_name, mixed.view_version],
        "params": TrainingParams().model_dump(),
        "seed": 0,
        "engine": "memory",
        "libraries": trained.manifest.libraries,
    }
    digest = hashlib.sha256(json.dumps(before, sort_keys=True).encode()).hexdigest()
    assert training_digest(mixed) != digest


def test_what_was_written_before_vehicles_were_left_out_is_read_as_none_left_out() -> None:
    snapshot = {"id": "s", "digest": "0" * 64, "num_rows": 7, "created_at": "2026-01-01T00:00:00Z"}
    decision = {"promote": True, "reason": "better", "candidate_version": 2}
    report = {
        "version": 2,
        "as_of": "2026-01-01T00:00:00Z",
        "num_arrivals": 0,
        "features": [],
        "outcomes": None,
    }
    assert SnapshotRef.model_validate(snapshot).num_left_out == 0
    assert Decision.model_validate(decision).num_left_out == 0
    assert MonitorReport.model_validate(report).num_left_out == 0
