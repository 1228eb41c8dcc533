"""Partitions on threads and on a real Dask cluster: the same bytes, also when a worker is killed."""

import asyncio
import importlib.util
import os
import signal
import subprocess
import sys
import time
from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack, closing
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from flows.materialize import vroom_forecast_materialize
from flows.tasks.partitions import DASK_MIN_RANGES, FEW_RANGES, ClusterError, PartitionRunner
from tests.ports import free_port
from tests.snapshots import SAMPLE
from vroom_features.database.vehicles import SourceStore
from vroom_features.ingest.seed import seed
from vroom_features.materialize import Range, WrittenPart, make_ranges, materialize
from vroom_features.offline.snapshots import OfflineStore, Snapshot

if TYPE_CHECKING:
    from distributed import Client, LocalCluster

NOW = datetime(2026, 1, 1, tzinfo=UTC)
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


@pytest.fixture(scope="module")
def database(tmp_path_factory: pytest.TempPathFactory) -> str:
    """Return the URL of a database with the sample fleet."""
    url = f"sqlite:///{tmp_path_factory.mktemp('scaling') / 'vroom.db'}"
    with closing(SourceStore.open(url)) as source:
        seed(source, SAMPLE)
    return url


@pytest.fixture(scope="module")
def expected(database: str, tmp_path_factory: pytest.TempPathFactory) -> Snapshot:
    """Return what one process makes, partition after partition."""
    offline = OfflineStore(str(tmp_path_factory.mktemp("expected")))
    with closing(SourceStore.open(database)) as source:
        materialize(source, offline, None, as_of=NOW, partition_vehicles=PARTITION_VEHICLES)
    snapshot = offline.current()
    assert len(snapshot.parts) > DASK_MIN_RANGES
    return snapshot


@pytest.fixture(scope="module")
def cluster() -> Iterator["LocalCluster"]:
    """Start a scheduler and worker processes that their nannies start again when they die."""
    from distributed import LocalCluster  # noqa: PLC0415  # an optional extra

    with LocalCluster(n_workers=1, threads_per_worker=1, dashboard_address=None) as cluster:
        yield cluster


@pytest.fixture(scope="module")
def client(cluster: "LocalCluster") -> Iterator["Client"]:
    """Return a client that looks at the cluster."""
    from distributed import Client  # noqa: PLC0415  # as above

    with Client(cluster, set_as_default=False) as client:
        yield client


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


@pytest.fixture
def run_flow(monkeypatch: pytest.MonkeyPatch, tmp_path: Path, database: str, redis_url: str) -> "RunFlow":
    """Return a way to run the whole flow on an empty offline store."""
    return RunFlow(monkeypatch, tmp_path, database, redis_url)


class RunFlow:
    """Run the flow with settings as a person gives them."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch, folder: Path, database: str, redis_url: str) -> None:
        self.store = OfflineStore(str(folder / "offline"))
        variables = {
            "HOME": str(folder),
            "DATABASE_URL": database,
            "OFFLINE_URL": self.store.root.url,
            "REDIS_URL": redis_url,
            "PARTITION_VEHICLES": str(PARTITION_VEHICLES),
        }
        for name, value in variables.items():
            monkeypatch.setenv(f"VROOM_{name}", value)
        self._monkeypatch = monkeypatch

    def __call__(self, dask_address: str) -> Snapshot:
        self._monkeypatch.setenv("VROOM_DASK_ADDRESS", dask_address)
        asyncio.run(vroom_forecast_materialize(data_dir=str(SAMPLE)))  # type: ignore[arg-type]  # a coroutine
        return self.store.current()


def assert_same(snapshot: Snapshot, expected: Snapshot) -> None:
    """Compare the digest, and every part: its range, its rows, its file and the file's SHA-256."""
    assert snapshot.digest == expected.digest
    assert snapshot.parts == expected.parts
    assert snapshot.table() == expected.table()


def test_the_flow_makes_the_same_bytes_on_threads(run_flow: RunFlow, expected: Snapshot) -> None:
    assert_same(run_flow(""), expected)


@with_dask
@pytest.mark.parametrize("num_workers", [1, 2, 4])
def test_any_number_of_dask_workers_makes_the_same_bytes(
    database: str,
    expected: Snapshot,
    cluster: "LocalCluster",
    client: "Client",
    num_workers: int,
    tmp_path: Path,
) -> None:
    cluster.scale(num_workers)
    client.wait_for_workers(num_workers, timeout=WAIT_S)

    def on_workers(url: str, root: str, ranges: Sequence[Range]) -> Iterator[WrittenPart]:
        for future in [client.submit(make_ranges, url, root, [span]) for span in ranges]:
            yield from future.result(timeout=WAIT_S)

    offline = OfflineStore(str(tmp_path))
    with closing(SourceStore.open(database)) as source:
        materialize(
            source,
            offline,
            None,
            as_of=NOW,
            partition_vehicles=PARTITION_VEHICLES,
            map_ranges=on_workers,
        )
    assert_same(offline.current(), expected)


@with_dask
def test_the_flow_makes_the_same_bytes_when_a_dask_worker_is_killed_in_the_middle(
    run_flow: RunFlow, expected: Snapshot, scheduler: str
) -> None:
    from distributed import Client  # noqa: PLC0415  # as above

    with Client(scheduler, set_as_default=False) as client, ThreadPoolExecutor(1) as pool:
        client.wait_for_workers(2, timeout=WAIT_S)
        killed = pool.submit(kill_a_busy_worker, client, run_flow.store)
        snapshot = run_flow(scheduler)
        pid, num_written = killed.result()
        assert_same(snapshot, expected)
        assert num_written < len(expected.parts)
        assert pid not in client.run(os.getpid, on_error="ignore").values()


def kill_a_busy_worker(client: "Client", store: OfflineStore) -> tuple[int, int]:
    """Kill a worker that has partitions to make, once some are made; return its process and how many were."""
    pids = client.run(os.getpid)
    deadline = time.monotonic() + WAIT_S
    while time.monotonic() < deadline:
        num_written = len(store.files.names("data"))
        busy = [address for address, tasks in client.processing().items() if tasks]
        if num_written and busy:
            os.kill(pids[busy[0]], signal.SIGKILL)
            return pids[busy[0]], num_written
        time.sleep(0.01)
    raise AssertionError("no worker had anything to do")


def test_a_few_ranges_are_left_to_the_process_that_asks(database: str, tmp_path: Path) -> None:
    ranges = [(low, low + 9) for low in range(0, 10 * FEW_RANGES, 10)]
    assert list(PartitionRunner("")(database, str(tmp_path), ranges)) == []
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
def test_an_address_that_is_none_is_a_clear_error() -> None:
    with pytest.raises(ClusterError, match="expected VROOM_DASK_ADDRESS as tcp://host:8786"):
        PartitionRunner("locall")
