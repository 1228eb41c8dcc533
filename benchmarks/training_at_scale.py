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
from datetime import UTC, datetime
from pathlib import Path

import numpy as np
import pandas as pd
from cyclopts import App

from flows.training import choose_fit
from tests.snapshots import WATCH
from vroom_features.addresses import ServiceAddress
from vroom_features.offline.files import Part, files_at
from vroom_features.offline.partition import digest_of, fleet_rows, order_free_checksum
from vroom_features.offline.snapshots import OfflineStore, Snapshot
from vroom_features.settings import PARTITION_VEHICLES, Settings
from vroom_features.vehicle import EXAMPLE
from vroom_model.training.train import train

app = App()
MIB = 2**20
NOW = datetime(2026, 1, 1, tzinfo=UTC)


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


def write_fleet(root: ServiceAddress, num_vehicles: int) -> None:
    """Write a snapshot of a made-up fleet."""
    offline, rng, parts = OfflineStore(root), np.random.default_rng(0), []
    for first in range(1, num_vehicles + 1, PARTITION_VEHICLES):
        last = min(first + PARTITION_VEHICLES - 1, num_vehicles)
        rows = fleet_rows(make_vehicles(rng, first, last), watch=WATCH)
        file, sha256 = offline.write_part(rows)
        parts.append(Part(first, last, *[len(rows)] * 3, order_free_checksum(rows), file, sha256))
    offline.publish(
        Snapshot(
            id=f"made-up-{num_vehicles}",
            num_rows=num_vehicles,
            digest=digest_of((part.sums for part in parts), num_vehicles, watch=WATCH),
            created_at=NOW,
            source="made up",
            database_id="",
            change_number=0,
            watch_days=WATCH.days,
            complete_through=WATCH.complete_through,
            parts=tuple(parts),
            files=files_at(root),
        )
    )


def make_vehicles(rng: np.random.Generator, first: int, last: int) -> pd.DataFrame:
    """Make up vehicles whose bookings fall with the price ratio and rise with the photos."""
    num = last - first + 1
    market = rng.integers(35, 91, num).astype(float)
    ratio = rng.uniform(0.8, 2.0, num)
    photos = rng.integers(1, 6, num)
    booked = rng.binomial(20, np.clip(0.75 - 0.3 * ratio + 0.02 * photos, 0.02, 0.9))
    columns = {
        "vehicle_id": np.arange(first, last + 1),
        "technology": rng.integers(0, 2, num),
        "actual_price": np.round(market * ratio, 2),
        "recommended_price": market,
        "num_images": photos,
        "street_parked": rng.integers(0, 2, num),
        "description": rng.integers(1, 251, num),
        "source": "csv",
        "watch_start": pd.Timestamp(WATCH.start).as_unit("us"),
        "num_booked": booked,
        "num_in_watch": booked,
        "event_timestamp": pd.Timestamp("2023-11-14", tz="UTC").as_unit("us"),
    }
    return pd.DataFrame(dict(EXAMPLE) | columns)


if __name__ == "__main__":
    app()
