"""Train fleets of a million and of ten million vehicles out of core: seconds and peak memory of each process.

    python benchmarks/training_at_scale.py                      1M and 10M vehicles, batch by batch, here
    python benchmarks/training_at_scale.py --dask local:2       the same on two Dask workers

The fleets are made up by a rule like the sample's and written straight to an offline store, in parts of the
size that materialize makes.  Each training runs in a process of its own.
"""

import json
import resource
import subprocess
import sys
import tempfile
import time
from pathlib import Path

from cyclopts import App

from flows.training import choose_fit
from tests.large_fleet import NOW, write_fleet
from vroom_features.addresses import ServiceAddress
from vroom_features.offline.snapshots import OfflineStore
from vroom_features.settings import Settings
from vroom_model.training.train import train

app = App()
MIB = 2**20


@app.default
def measure(*, vehicles: tuple[int, ...] = (1_000_000, 10_000_000), dask: str = "") -> None:
    """Write each fleet, train on it in a process of its own, and print a line."""
    with tempfile.TemporaryDirectory(prefix="vroom-scale-") as folder:
        for number in vehicles:
            root = str(Path(folder) / str(number))
            write_fleet(ServiceAddress(root), number)
            stored = sum(path.stat().st_size for path in Path(root, "data").iterdir())
            command = [sys.executable, __file__, "train-one", "--root", root, "--dask", dask]
            done = subprocess.run(command, check=True, capture_output=True, text=True)
            found = json.loads(done.stdout.splitlines()[-1])
            print(
                f"{number:>12,} vehicles  {stored / MIB:8.0f} MiB Parquet  {found['seconds']:7.1f} s  "
                f"peak {found['peak_mib']:6.0f} MiB  workers' peak {found['worker_mib']:6.0f} MiB  "
                f"MAE {found['mae']:.3f}  on {dask or 'this process'}",
                flush=True,
            )


@app.command
def train_one(*, root: str, dask: str = "") -> None:
    """Train on a store's snapshot and print what it took as JSON."""
    snapshot = OfflineStore(root).current()
    started = time.perf_counter()
    fit = choose_fit(snapshot.num_rows, Settings(_env_file=None, dask_address=ServiceAddress(dask)))
    with tempfile.TemporaryDirectory() as directory:
        model = train(snapshot, directory=Path(directory), as_of=NOW, fit=fit)
        seconds = time.perf_counter() - started
    kib = {who: resource.getrusage(who).ru_maxrss for who in (resource.RUSAGE_SELF, resource.RUSAGE_CHILDREN)}
    found = {
        "seconds": seconds,
        "peak_mib": kib[resource.RUSAGE_SELF] / 1024,
        "worker_mib": kib[resource.RUSAGE_CHILDREN] / 1024,
        "mae": model.manifest.metrics["mae"],
    }
    print(json.dumps(found))


if __name__ == "__main__":
    app()
