"""Boosters of large fleets: fitted in batches, from a stored snapshot, and on a Dask cluster."""

import gc
import os
import signal
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
import pytest

from tests.promises.system import wait_until
from tests.snapshots import FrameSnapshot
from tests.vroom_features.stores import seed_with_booked_arrivals, store_fleet
from tests.vroom_model.champions import AS_OF, WEAK, trained_model
from vroom_features.offline.snapshots import Snapshot
from vroom_features.view import VEHICLE_VIEW
from vroom_model.dataset import load_dataset
from vroom_model.training.boosting import (
    FoldBooster,
    TrainingParams,
    booster_params,
    fit_folds,
    predict_by_fold,
    stream_folds,
)
from vroom_model.training.train import train

if TYPE_CHECKING:
    from distributed import Client
    from xgboost import Booster

ALL_FEATURES = TrainingParams(select_above_se=-1_000, num_folds=3, num_rounds=30)


def raw(boosters: tuple[FoldBooster, ...]) -> list[bytearray]:
    return [fold.booster.save_raw() for fold in boosters]


def test_batches_teach_what_memory_teaches_with_the_same_bytes_each_time(fleet: FrameSnapshot) -> None:
    dataset = load_dataset(fleet, num_folds=3)
    once, again = (stream_folds(fleet, ALL_FEATURES, seed=0) for _ in range(2))
    assert raw(once) == raw(again)
    in_memory = predict_by_fold(fit_folds(dataset, ALL_FEATURES, seed=0), dataset.features)
    streamed = predict_by_fold(once, dataset.features)
    # The quantile sketch of batches may cut features at other values.
    assert np.abs(streamed - in_memory).mean() < 0.35
    errors = [np.abs(by_fold.mean(axis=1) - dataset.labels).mean() for by_fold in (streamed, in_memory)]
    assert errors[0] == pytest.approx(errors[1], abs=0.05)


@pytest.fixture(scope="module")
def stored(tmp_path_factory: pytest.TempPathFactory) -> Snapshot:
    return store_fleet(tmp_path_factory.mktemp("stored"))


def test_a_stored_snapshot_teaches_the_same_as_its_rows(
    stored: Snapshot, fleet: FrameSnapshot, tmp_path: Path
) -> None:
    assert len(stored.parts) == 4
    model = train(stored, directory=tmp_path, as_of=AS_OF, params=WEAK)
    assert model.manifest.files == trained_model(fleet, WEAK).manifest.files


@pytest.fixture(scope="module")
def client() -> Iterator["Client"]:
    distributed = pytest.importorskip("distributed", reason="the extra dask is not installed")
    with (
        distributed.LocalCluster(n_workers=2, threads_per_worker=1, dashboard_address=None) as cluster,
        distributed.Client(cluster) as client,
    ):
        yield client
    gc.collect()  # Dask leaves connections to the collector, and the tests here ignore them


@pytest.mark.filterwarnings("ignore")  # Dask's and XGBoost's own, of one another
def test_a_dask_cluster_learns_what_one_machine_learns_from_csv_vehicles_alone(
    client: "Client", stored: Snapshot, tmp_path: Path
) -> None:
    from vroom_model.training.dask_training import fit_on_dask  # noqa: PLC0415  # an optional extra

    mixed = store_fleet(tmp_path, lambda source: seed_with_booked_arrivals(source, tmp_path / "csv"))
    assert (mixed.num_rows, len(mixed.parts)) == (stored.num_rows + 300, 5)
    fit = partial(fit_on_dask, client)
    alone, beside, local = (
        train(snapshot, directory=tmp_path / "model", as_of=AS_OF, params=ALL_FEATURES, fit=how).manifest
        for snapshot, how in ((stored, fit), (mixed, fit), (stored, None))
    )
    assert beside.files == alone.files
    assert alone.metrics["mae"] == pytest.approx(local.metrics["mae"], rel=0.03)
    assert alone.training_digest != local.training_digest


@pytest.mark.filterwarnings("ignore")  # as above
def test_a_dask_cluster_makes_the_same_bytes_wherever_its_workers_read(
    client: "Client", stored: Snapshot
) -> None:
    from xgboost import dask as dxgb  # noqa: PLC0415  # as above

    from vroom_model.training import dask_training as dask  # noqa: PLC0415  # as above

    params = ALL_FEATURES.model_copy(update={"num_rounds": 5})
    settings = booster_params(params, inputs=VEHICLE_VIEW.inputs, num_rows=stored.num_rows * 2 // 3, seed=0)
    expected = raw(dask.fit_on_dask(client, stored, params, seed=0))

    def learned(*, placed: bool) -> bytearray:
        matrix = dask.training_matrix(client, stored, 0, params.num_folds, inputs=VEHICLE_VIEW.inputs)
        parts = [part for owned in matrix.worker_map.values() for part in owned]
        one, other = client.scheduler_info()["workers"]
        matrix.worker_map = {one: parts[:1], other: parts[:0:-1]}
        if placed:
            dask.place(client, matrix)
        booster: Booster = dxgb.train(client, settings, matrix, num_boost_round=5)["booster"]
        return booster.save_raw()

    assert learned(placed=True) == expected[0]
    assert learned(placed=False) != expected[0]  # else this test would show nothing


@pytest.mark.filterwarnings("ignore")  # as above
def test_a_dask_cluster_learns_no_label_above_the_limit(client: "Client", stored: Snapshot) -> None:
    from vroom_model.training.dask_training import fit_on_dask  # noqa: PLC0415  # an optional extra

    boosters = fit_on_dask(client, stored, WEAK, seed=0, max_label=3.0)
    assert predict_by_fold(boosters, load_dataset(stored).features).max() <= 3.0


@pytest.mark.filterwarnings("ignore")  # as above
@pytest.mark.timeout(180, func_only=True)  # XGBoost's other workers wait longer for a lost one
def test_a_dask_cluster_trains_again_at_once_after_a_worker_was_killed_in_training(
    client: "Client", stored: Snapshot
) -> None:
    from vroom_model.training.dask_training import fit_on_dask  # noqa: PLC0415  # an optional extra

    pids = client.run(os.getpid)

    def is_in_training() -> bool:  # each worker adds a tree; earlier, XGBoost's tracker may abort its process
        stacks = client.call_stack().values()
        return sum(", in update" in str(stack) for stack in stacks) == len(pids)

    def kill_a_worker() -> None:
        wait_until(is_in_training)
        os.kill(min(pids.values()), signal.SIGKILL)

    lasting = ALL_FEATURES.model_copy(update={"num_rounds": 100_000})
    with ThreadPoolExecutor(1) as pool:
        killed = pool.submit(kill_a_worker)
        with pytest.raises((ValueError, RuntimeError)):
            fit_on_dask(client, stored, lasting, seed=0)
        killed.result()
    again = fit_on_dask(client, stored, ALL_FEATURES, seed=0)  # on one worker, if a slow restart lost another
    rounds = [fold.booster.num_boosted_rounds() for fold in again]
    assert rounds == [ALL_FEATURES.num_rounds] * ALL_FEATURES.num_folds
