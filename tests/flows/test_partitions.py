"""Flows on threads and on a real Dask cluster: the same bytes, also when a worker is killed."""

import importlib.util
import os
import signal
import subprocess
import sys
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack, closing
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from flows.materialize import vroom_forecast_materialize
from flows.promotion import vroom_forecast_promotion
from flows.tasks.partitions import DASK_MIN_RANGES, FEW_RANGES, ClusterError, PartitionRunner
from flows.tasks.promotions import open_promotions
from flows.training import choose_fit, vroom_forecast_training
from tests.flows.conftest import run
from tests.large_fleet import write_fleet
from tests.ports import free_port
from tests.promises.system import wait_until
from tests.snapshots import SAMPLE
from tests.vroom_model.champions import AS_OF
from vroom_features.database.vehicles import SourceStore
from vroom_features.ingest.seed import seed
from vroom_features.materialize import materialize
from vroom_features.offline.snapshots import OfflineStore, Snapshot
from vroom_features.settings import Settings

if TYPE_CHECKING:
    from distributed import Client

PARTITION_VEHICLES = 50
"""Of the sample's 1,000: twenty partitions."""
WAIT_S = 120

pytestmark = [
    pytest.mark.usefixtures("prefect_server"),
    pytest.mark.filterwarnings("ignore"),  # sockets that Prefect and Dask leave to the collector
]
with_dask = pytest.mark.skipif(
    not importlib.util.find_spec("prefect_dask"), reason="the extra dask is not installed"
)
MaterializeOn = Callable[[str], Snapshot]


@pytest.fixture
def expected(tmp_path: Path) -> Snapshot:
    """Return what one process makes, partition after partition."""
    offline = OfflineStore(str(tmp_path / "expected"))
    with closing(SourceStore.open(f"sqlite:///{tmp_path / 'expected.db'}")) as source:
        seed(source, SAMPLE)
        materialize(source, offline, None, now=AS_OF, partition_vehicles=PARTITION_VEHICLES)
    snapshot = offline.current()
    assert len(snapshot.parts) > DASK_MIN_RANGES
    return snapshot


@pytest.fixture
def materialize_on(flow_settings: Settings, monkeypatch: pytest.MonkeyPatch) -> MaterializeOn:
    """Return a function that runs the whole flow on a Dask address, or without."""

    def materialize_it(dask_address: str) -> Snapshot:
        monkeypatch.setenv("VROOM_PARTITION_VEHICLES", str(PARTITION_VEHICLES))
        monkeypatch.setenv("VROOM_DASK_ADDRESS", dask_address)
        assert run(vroom_forecast_materialize, data_dir=str(SAMPLE)).is_completed()
        return OfflineStore(flow_settings.offline_store).current()

    return materialize_it


@pytest.fixture
def scheduler(tmp_path: Path) -> Iterator[str]:
    """Start a scheduler and two workers by Dask's commands, and return the scheduler's address."""
    address = f"tcp://127.0.0.1:{free_port()}"
    commands = (
        ("scheduler", "--host", address, "--no-dashboard"),
        ("worker", address, "--nworkers", "2", "--nthreads", "1", "--no-dashboard"),
    )
    with ExitStack() as stack:
        for command in commands:
            process = stack.enter_context(
                subprocess.Popen([sys.executable, "-m", "dask", *command], cwd=tmp_path)
            )
            stack.callback(process.terminate)
        yield address


def assert_same(snapshot: Snapshot, expected: Snapshot) -> None:
    assert snapshot.digest == expected.digest
    assert snapshot.parts == expected.parts
    assert snapshot.table() == expected.table()


def test_the_flow_makes_the_same_bytes_on_threads(materialize_on: MaterializeOn, expected: Snapshot) -> None:
    assert_same(materialize_on(""), expected)


@with_dask
def test_the_flow_makes_the_same_bytes_when_a_dask_worker_is_killed_in_the_middle(
    flow_settings: Settings, materialize_on: MaterializeOn, expected: Snapshot, scheduler: str
) -> None:
    from distributed import Client  # noqa: PLC0415  # an optional extra

    with Client(scheduler, set_as_default=False) as client, ThreadPoolExecutor(1) as pool:
        client.wait_for_workers(2, timeout=WAIT_S)
        killed = pool.submit(kill_a_busy_worker, client, OfflineStore(flow_settings.offline_store))
        snapshot = materialize_on(scheduler)
        pid, num_written = killed.result()
        assert_same(snapshot, expected)
        assert num_written < len(expected.parts)
        assert pid not in client.run(os.getpid, on_error="ignore").values()


def kill_a_busy_worker(client: "Client", store: OfflineStore) -> tuple[int, int]:
    """Kill a worker in the middle of its partitions; return its process and how many were made."""
    pids = client.run(os.getpid)
    busy: list[str] = []

    def is_busy() -> bool:
        busy[:] = [address for address, tasks in client.processing().items() if tasks]
        return bool(busy and store.files.names("data"))

    wait_until(is_busy, timeout_s=WAIT_S)
    os.kill(pids[busy[0]], signal.SIGKILL)
    return pids[busy[0]], len(store.files.names("data"))


@with_dask
def test_a_model_trained_on_dask_is_registered_judged_and_loads(
    flow_settings: Settings, monkeypatch: pytest.MonkeyPatch
) -> None:
    write_fleet(flow_settings.offline_store, 5_000)
    snapshot = OfflineStore(flow_settings.offline_store).current()
    monkeypatch.setenv("VROOM_DASK_ADDRESS", "local:2")
    monkeypatch.setenv("VROOM_DASK_ABOVE_VEHICLES", "4999")
    assert "registered version 1" in str(run(vroom_forecast_training).message)
    assert "unchanged inputs, so still version 1" in str(run(vroom_forecast_training).message)
    assert "version 1 is better than the mean" in str(run(vroom_forecast_promotion).message)
    with open_promotions(flow_settings) as promotions:
        manifest = promotions.load(promotions.registry.version(1)).manifest
    assert manifest.snapshot.digest == snapshot.digest
    assert sum(fold.num_rows for fold in manifest.folds) == snapshot.num_rows


@pytest.mark.parametrize(("num_rows", "address"), [(10_000_000, ""), (1_000, "local:2")])
def test_small_work_stays_in_this_process(tmp_path: Path, num_rows: int, address: str) -> None:
    dask = Settings(_env_file=None, dask_address=address, dask_above_vehicles=1_000)
    assert choose_fit(num_rows, dask) is None
    ranges = [(low, low + 9) for low in range(0, 10 * FEW_RANGES, 10)]
    assert list(PartitionRunner("")("sqlite:///none.db", str(tmp_path), ranges)) == []
    assert list(tmp_path.iterdir()) == []


def test_a_missing_extra_is_a_clear_error() -> None:
    """Run without the packages of the extra, which this process has."""
    code = (
        "import sys; sys.modules['prefect_dask'] = None\n"
        "from flows.tasks.partitions import load_dask; load_dask('local:2')"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)
    assert "prefect_dask is not installed; install the extra: pip install" in done.stderr


@with_dask
def test_a_wrong_address_is_a_clear_error() -> None:
    with pytest.raises(ClusterError, match="expected VROOM_DASK_ADDRESS as tcp://host:8786"):
        PartitionRunner("locall")
