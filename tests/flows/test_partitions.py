"""Flows on threads and on a real Dask cluster: the same bytes, also when a worker is killed."""

import importlib.util
import os
import signal
import sys
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

import flows.tasks
from flows.materialize import vroom_forecast_materialize
from flows.promotion import vroom_forecast_promotion
from flows.tasks.partitions import DASK_MIN_RANGES, FEW_RANGES, ClusterError, PartitionRunner
from flows.tasks.promotions import open_promotions
from flows.training import choose_fit, vroom_forecast_training
from tests.flows.conftest import run
from tests.promises.system import wait_until
from tests.snapshots import SAMPLE
from tests.vroom_features.stores import store_fleet
from vroom_features.offline.snapshots import OfflineStore
from vroom_features.settings import Settings

if TYPE_CHECKING:
    from distributed import Client

PARTITION_VEHICLES = 50
"""Of the sample's 1,000: twenty partitions."""

pytestmark = [
    pytest.mark.usefixtures("prefect_server"),
    pytest.mark.filterwarnings("ignore"),  # sockets that Prefect and Dask leave to the collector
]
with_dask = pytest.mark.skipif(
    not importlib.util.find_spec("prefect_dask"), reason="the extra dask is not installed"
)


def assert_the_flow_makes_what_one_process_makes(
    settings: Settings, monkeypatch: pytest.MonkeyPatch, dask_address: str
) -> None:
    expected = store_fleet(settings.home / "alone", partition_vehicles=PARTITION_VEHICLES)
    assert len(expected.parts) > DASK_MIN_RANGES
    monkeypatch.setenv("VROOM_PARTITION_VEHICLES", str(PARTITION_VEHICLES))
    monkeypatch.setenv("VROOM_DASK_ADDRESS", dask_address)
    assert run(vroom_forecast_materialize, data_dir=str(SAMPLE)).is_completed()
    snapshot = OfflineStore(settings.offline_store).current()
    assert (snapshot.digest, snapshot.parts) == (expected.digest, expected.parts)
    assert snapshot.table() == expected.table()


def test_the_flow_makes_the_same_bytes_on_threads(
    flow_settings: Settings, monkeypatch: pytest.MonkeyPatch
) -> None:
    assert_the_flow_makes_what_one_process_makes(flow_settings, monkeypatch, "")


@with_dask
def test_the_flow_makes_the_same_bytes_when_a_dask_worker_is_killed_in_the_middle(
    flow_settings: Settings, monkeypatch: pytest.MonkeyPatch
) -> None:
    from distributed import Client, LocalCluster  # noqa: PLC0415  # an optional extra

    with (
        LocalCluster(n_workers=2, threads_per_worker=1, dashboard_address=None) as cluster,
        Client(cluster, set_as_default=False) as client,
        ThreadPoolExecutor(1) as pool,
    ):
        killed = pool.submit(kill_a_busy_worker, client, OfflineStore(flow_settings.offline_store))
        assert_the_flow_makes_what_one_process_makes(flow_settings, monkeypatch, cluster.scheduler_address)
        pid, num_written = killed.result()
        assert num_written < 1_000 / PARTITION_VEHICLES
        assert pid not in client.run(os.getpid, on_error="ignore").values()


def kill_a_busy_worker(client: "Client", store: OfflineStore) -> tuple[int, int]:
    """Kill a worker in the middle of its partitions; return its process and how many were made."""
    pids = client.run(os.getpid)
    busy: list[str] = []

    def is_busy() -> bool:
        busy[:] = [address for address, tasks in client.processing().items() if tasks]
        return bool(busy and store.files.names("data"))

    wait_until(is_busy, timeout_s=120)
    os.kill(pids[busy[0]], signal.SIGKILL)
    return pids[busy[0]], len(store.files.names("data"))


@with_dask
def test_a_model_trained_on_dask_is_registered_judged_and_loads(
    flow_settings: Settings, monkeypatch: pytest.MonkeyPatch
) -> None:
    snapshot = store_fleet(flow_settings.home)
    monkeypatch.setenv("VROOM_DASK_ADDRESS", "local:2")
    monkeypatch.setenv("VROOM_DASK_ABOVE_VEHICLES", "999")
    assert "registered version 1" in str(run(vroom_forecast_training).message)
    assert "unchanged inputs, so still version 1" in str(run(vroom_forecast_training).message)
    assert "version 1 is better than the mean" in str(run(vroom_forecast_promotion).message)
    with open_promotions(flow_settings) as promotions:
        manifest = promotions.load(promotions.registry.version(1)).manifest
    assert manifest.snapshot.digest == snapshot.digest
    assert sum(fold.num_rows for fold in manifest.folds) == snapshot.num_rows == 1_000


def test_small_work_stays_in_this_process(tmp_path: Path) -> None:
    for num_rows, address in ((10_000_000, ""), (1_000, "local:2")):
        dask = Settings(_env_file=None, dask_address=address, dask_above_vehicles=1_000)
        assert choose_fit(num_rows, dask) is None
    ranges = [(low, low + 9) for low in range(0, 10 * FEW_RANGES, 10)]
    assert list(PartitionRunner("")("sqlite:///none.db", str(tmp_path), ranges)) == []
    assert list(tmp_path.iterdir()) == []


@with_dask
def test_a_wrong_address_and_a_missing_extra_are_clear_errors(monkeypatch: pytest.MonkeyPatch) -> None:
    with pytest.raises(ClusterError, match="expected VROOM_DASK_ADDRESS as tcp://host:8786"):
        PartitionRunner("locall")
    monkeypatch.setitem(sys.modules, "prefect_dask.task_runners", None)
    monkeypatch.delitem(sys.modules, "flows.tasks.dask_cluster")
    monkeypatch.delattr(flows.tasks, "dask_cluster")
    with pytest.raises(ClusterError, match="prefect_dask is not installed; install the extra: pip install"):
        PartitionRunner("local:2")
