from collections.abc import Iterator
from contextlib import closing
from datetime import UTC, datetime
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
import numpy.typing as npt
import pandas as pd
import pytest

from tests.snapshots import SAMPLE, FrameSnapshot
from tests.vroom_features.stores import seed_with_booked_arrivals
from tests.vroom_model.conftest import AS_OF
from vroom_features.database.vehicles import SourceStore
from vroom_features.ingest.seed import seed
from vroom_features.materialize import materialize
from vroom_features.offline.snapshots import OfflineStore, Snapshot
from vroom_features.view import VEHICLE_VIEW
from vroom_model.dataset import fold_of, in_sample, load_dataset
from vroom_model.evaluation.metrics import score
from vroom_model.serving.predictor import Predictor
from vroom_model.training.boosting import (
    TrainingBatches,
    TrainingParams,
    booster_params,
    fit_folds,
    predict_by_fold,
    stream_folds,
)
from vroom_model.training.train import STREAM_ABOVE_ROWS, train

if TYPE_CHECKING:
    from distributed import Client
    from xgboost import Booster

ALL_FEATURES = TrainingParams(select_above_se=-1_000)


def test_blocks_hold_every_vehicle_but_those_of_the_fold(fleet: FrameSnapshot) -> None:
    seen: list[int] = []
    blocks = TrainingBatches(fleet, 3, 5, inputs=VEHICLE_VIEW.inputs)
    blocks.reset()
    while blocks.next(lambda data, label: seen.append(len(data))):
        pass
    folds = fold_of(fleet.frame["vehicle_id"])
    assert len(seen) > 1
    assert sum(seen) == (folds != 3).sum()


def test_streaming_learns_what_memory_learns(fleet: FrameSnapshot) -> None:
    dataset = load_dataset(fleet)
    in_memory = predict_by_fold(fit_folds(dataset, ALL_FEATURES, seed=0), dataset.features)
    streamed = predict_by_fold(stream_folds(fleet, ALL_FEATURES, seed=0), dataset.features)
    # The quantile sketch of blocks may cut features a little elsewhere.
    assert np.abs(streamed - in_memory).mean() < 0.35
    assert _error(streamed, dataset.labels) == pytest.approx(_error(in_memory, dataset.labels), abs=0.05)


def test_streaming_gives_the_same_bytes_each_time(fleet: FrameSnapshot) -> None:
    once, again = (stream_folds(fleet, TrainingParams(num_rounds=10), seed=0) for _ in range(2))
    assert [fold.booster.save_raw() for fold in once] == [fold.booster.save_raw() for fold in again]


def _error(by_fold: npt.NDArray[np.float64], labels: npt.NDArray[np.float64]) -> float:
    return float(np.abs(by_fold.mean(axis=1) - labels).mean())


def test_a_large_fleet_is_streamed_and_measured_on_a_sample(fleet: FrameSnapshot, tmp_path: Path) -> None:
    copies = STREAM_ABOVE_ROWS // len(fleet.frame) + 1

    def grow(frame: pd.DataFrame) -> pd.DataFrame:
        grown = frame.loc[np.repeat(frame.index, copies)]
        return grown.assign(vehicle_id=np.arange(1, len(grown) + 1))

    large = fleet.changed(grow)
    model = train(large, directory=tmp_path, as_of=AS_OF, params=TrainingParams(num_rounds=5))
    assert model.manifest.snapshot.num_rows == large.num_rows > STREAM_ABOVE_ROWS
    assert {len(fold.features) for fold in model.manifest.folds} == {5}
    predictor = Predictor.load(tmp_path, version=1)
    assert score(predictor, large).errors.mean() < model.manifest.metrics["baseline_mae"]


def test_a_sample_is_the_same_every_time_and_spread_over_all_folds(fleet: FrameSnapshot) -> None:
    ids = np.arange(1, 100_001)
    chosen = in_sample(ids, 0.2)
    assert chosen.mean() == pytest.approx(0.2, abs=0.01)
    np.testing.assert_array_equal(in_sample(ids[::-1], 0.2)[::-1], chosen)
    assert np.bincount(fold_of(ids[chosen])) == pytest.approx(chosen.sum() / 5, rel=0.03)
    dataset = load_dataset(fleet, max_rows=500)
    assert 400 < len(dataset) < 600
    assert in_sample(dataset.vehicle_ids, 0.5).all()


@pytest.fixture(scope="module")
def stored(tmp_path_factory: pytest.TempPathFactory) -> Snapshot:
    """Return the sample fleet in an offline store, in several parts."""
    folder = tmp_path_factory.mktemp("stored")
    with closing(SourceStore.open(f"sqlite:///{folder / 'vroom.db'}")) as source:
        seed(source, SAMPLE)
        offline = OfflineStore(str(folder / "offline"))
        made_at = datetime(2026, 1, 1, tzinfo=UTC)
        materialize(source, offline, None, as_of=made_at, partition_vehicles=300)
    return offline.current()


def test_a_stored_snapshot_teaches_the_same_as_its_rows(
    stored: Snapshot, fleet: FrameSnapshot, tmp_path: Path
) -> None:
    assert len(stored.parts) > 1
    ours = train(stored, directory=tmp_path / "stored", as_of=AS_OF)
    theirs = train(fleet, directory=tmp_path / "frame", as_of=AS_OF)
    assert ours.manifest.files == theirs.manifest.files


@pytest.fixture(scope="module")
def client() -> Iterator["Client"]:
    """Return a client of a Dask cluster of two processes."""
    distributed = pytest.importorskip("distributed", reason="the extra dask is not installed")
    with (
        distributed.LocalCluster(n_workers=2, threads_per_worker=1, dashboard_address=None) as cluster,
        distributed.Client(cluster) as client,
    ):
        yield client


@pytest.mark.filterwarnings("ignore")  # Dask's and XGBoost's own, of one another
def test_a_dask_cluster_learns_what_one_machine_learns(
    client: "Client", stored: Snapshot, tmp_path: Path
) -> None:
    from vroom_model.training.dask_training import fit_on_dask  # noqa: PLC0415  # an optional extra

    params = ALL_FEATURES.model_copy(update={"num_rounds": 30})
    model = train(stored, directory=tmp_path, as_of=AS_OF, params=params, fit=partial(fit_on_dask, client))
    local = train(stored, directory=tmp_path / "local", as_of=AS_OF, params=params)
    assert model.manifest.metrics["mae"] == pytest.approx(local.manifest.metrics["mae"], rel=0.03)
    assert model.manifest.training_digest != local.manifest.training_digest


@pytest.mark.filterwarnings("ignore")  # as above
def test_a_dask_cluster_makes_the_same_bytes_wherever_its_workers_read(
    client: "Client", stored: Snapshot
) -> None:
    from xgboost import dask as dxgb  # noqa: PLC0415  # as above

    from vroom_model.training.dask_training import fit_on_dask, place, training_matrix  # noqa: PLC0415  # as above

    params = ALL_FEATURES.model_copy(update={"num_rounds": 5})
    settings = booster_params(params, inputs=VEHICLE_VIEW.inputs, num_rows=stored.num_rows * 4 // 5, seed=0)
    expected = fit_on_dask(client, stored, params, seed=0)[0].booster.save_raw()

    def learned(*, placed: bool) -> bytearray:
        matrix = training_matrix(client, stored, 0, params.num_folds, inputs=VEHICLE_VIEW.inputs)
        parts = [part for held in matrix.worker_map.values() for part in held]
        one, other = client.scheduler_info()["workers"]
        matrix.worker_map = {one: parts[:1], other: parts[:0:-1]}
        if placed:
            place(client, matrix)
        booster: Booster = dxgb.train(client, settings, matrix, num_boost_round=5)["booster"]
        return booster.save_raw()

    assert learned(placed=True) == expected
    assert learned(placed=False) != expected  # else this test would show nothing


@pytest.mark.filterwarnings("ignore")  # as above
def test_a_dask_cluster_leaves_the_vehicles_of_the_web_form_out(
    client: "Client", stored: Snapshot, tmp_path: Path
) -> None:
    from vroom_model.training.dask_training import fit_on_dask  # noqa: PLC0415  # as above

    with closing(SourceStore.open(f"sqlite:///{tmp_path / 'vroom.db'}")) as source:
        seed_with_booked_arrivals(source, tmp_path / "csv")
        offline = OfflineStore(str(tmp_path / "offline"))
        materialize(source, offline, None, as_of=AS_OF, partition_vehicles=300)
    mixed = offline.current()
    assert (mixed.num_rows, len(mixed.parts)) == (stored.num_rows + 800, 6)
    alone, beside = (
        fit_on_dask(client, snapshot, TrainingParams(num_rounds=5), seed=0) for snapshot in (stored, mixed)
    )
    assert [fold.booster.save_raw() for fold in beside] == [fold.booster.save_raw() for fold in alone]
