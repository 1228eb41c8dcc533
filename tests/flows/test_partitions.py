"""Partitions on threads and on a real Dask cluster: the same bytes, also when a worker is killed."""

import asyncio
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
from flows.tasks.partitions import DASK_MIN_RANGES, FEW_RANGES, ClusterError, PartitionRunner
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
        materialize(source, offline, None, as_of=AS_OF, partition_vehicles=PARTITION_VEHICLES)
    snapshot = offline.current()
    assert len(snapshot.parts) > DASK_MIN_RANGES
    return snapshot


@pytest.fixture
def materialize_on(flow_settings: Settings, monkeypatch: pytest.MonkeyPatch) -> MaterializeOn:
    """Return a way to run the whole flow on a Dask address, or without."""

    def run(dask_address: str) -> Snapshot:
        monkeypatch.setenv("VROOM_PARTITION_VEHICLES", str(PARTITION_VEHICLES))
        monkeypatch.setenv("VROOM_DASK_ADDRESS", dask_address)
        asyncio.run(vroom_forecast_materialize(data_dir=str(SAMPLE)))  # type: ignore[arg-type]  # a coroutine
        return OfflineStore(flow_settings.offline_store).current()

    return run


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
    """Compare the digest, and every part: its range, its rows, its file and the file's SHA-256."""
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
    """Kill a worker that has partitions to make, once some are made; return its process and how many were."""
    pids = client.run(os.getpid)
    busy: list[str] = []

    def is_busy() -> bool:
        busy[:] = [address for address, tasks in client.processing().items() if tasks]
        return bool(busy and store.files.names("data"))

    wait_until(is_busy, timeout_s=WAIT_S)
    os.kill(pids[busy[0]], signal.SIGKILL)
    return pids[busy[0]], len(store.files.names("data"))


def test_a_few_ranges_are_left_to_the_process_that_asks(tmp_path: Path) -> None:
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
