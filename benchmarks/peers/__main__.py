"""Serve the same model by other tools: `python -m benchmarks.peers [--only FastAPI BentoML] [--rounds N]`.

FastAPI, BentoML and Ray Serve run in an environment of their own, made from `requirements.txt` below `var`;
`mlflow models serve` opens our registered model.  In each round each is started, checked (the forecasts are
ours, bad vehicles are refused), driven by wrk (Debian's package `wrk`) with 1, 16 and 64 connections, and
stopped.  All have two workers and keep no access log.  It happens in a network namespace with nothing but
loopback (`unshare`), since Ray Serve's replicas listen on all interfaces whatever they are told.
"""

import argparse
import json
import math
import os
import shutil
import signal
import statistics
import sys
import tempfile
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import httpx
import psutil

from benchmarks.load import Load, median, post, wrk
from benchmarks.processes import ROOT, cpu_s, own_environment, pss_mb, running, wait_for
from benchmarks.revision import commit_of
from benchmarks.serving_stack import PYTHON_BIN, Services, services
from tests.ports import free_port
from vroom_features.vehicle import COLUMNS, EXAMPLE
from vroom_model.serving.predictor import Predictor

HERE = Path(__file__).parent
VENV = ROOT / "var" / "peers"
CONNECTIONS = (1, 16, 64)
START_TIMEOUT_S = 120
STOP_TIMEOUT_S = 20
LOOPBACK_ONLY = ("unshare", "--map-root-user", "--net", "sh", "-c", 'ip link set lo up && exec "$@"', "sh")
OURS = "ours"
VEHICLES = [EXAMPLE | {"num_images": count, "actual_price": 35.5 + 4 * count} for count in range(12)]
TYPE_FAULTS = ({k: v for k, v in EXAMPLE.items() if k != "num_images"}, EXAMPLE | {"num_images": "four"})
FAULTS = (
    *TYPE_FAULTS,
    EXAMPLE | {"colour": 1},
    *(EXAMPLE | {name: value} for name, c in COLUMNS.items() for value in (c.low - 1, c.high + 1, True, "1")),
)
Document = Mapping[str, Any]


@dataclass(frozen=True)
class Peer:
    """A tool that serves the model.

    Parameters
    ----------
    command : callable of int
        What starts it on a port.
    environment : mapping
        The variables that it needs.
    min_speedup, min_throughput : float, optional
        How many times faster ours should answer, at p50 of 1 connection, and how many times as many requests
        of 16 connections it should answer.
    path, body, forecast
        Where vehicles are posted to, how one is wrapped, and where the answer has the forecast.
    faults : tuple
        Vehicles that it must refuse.
    """

    command: Callable[[int], list[str]]
    environment: Mapping[str, str]
    min_speedup: float | None = None
    min_throughput: float | None = None
    path: str = "/predict"
    body: Callable[[Document], Document] = dict
    forecast: Callable[[Document], float] = lambda answer: float(answer["predicted_reservations"])
    faults: tuple[Document, ...] = FAULTS


@dataclass(frozen=True)
class Turn:
    """What was seen of a server from its start to its end."""

    start_s: float
    loads: dict[int, Load]
    cpu_ms: float
    pss_mb: float


def peers(app: Services, scratch: Path) -> dict[str, Peer]:
    """Return all peers, and ours among them."""
    bare = {name: value for name, value in os.environ.items() if not name.startswith(("VROOM_", "PYTHON"))}
    bare |= {"MODEL_FOLDER": str(app.bundle), "DO_NOT_TRACK": "1", "HOME": str(scratch)}
    bare |= {
        "BENTOML_DO_NOT_TRACK": "true",
        "RAY_USAGE_STATS_ENABLED": "0",
        "RAY_ENABLE_WINDOWS_OR_OSX_CLUSTER": "0",
        "RAY_TMPDIR": str(scratch),
    }
    listen = ["--host", "127.0.0.1", "--port"]
    binaries = VENV / "bin"
    uvicorn = [str(binaries / "uvicorn"), "fastapi_app:app", "--workers", "2", "--no-access-log", *listen]
    bentoml = [str(binaries / "bentoml"), "serve", "bentoml_service:Forecaster", *listen]
    ray = [str(binaries / "python"), "ray_app.py"]
    mlflow = [str(PYTHON_BIN / "mlflow"), "models", "serve", "--env-manager", "local", "--workers", "2"]
    mlflow += ["--model-uri", f"models:/{app.registry.model_name}/{app.versions[0]}", *listen]
    return {
        OURS: Peer(lambda port: [sys.executable, "-m", "webapp"], app.environment),
        "FastAPI": Peer(lambda port: [*uvicorn, str(port)], bare, min_speedup=2, min_throughput=2.5),
        "BentoML": Peer(lambda port: [*bentoml, str(port)], bare, min_throughput=10),
        "Ray Serve": Peer(lambda port: [*ray, str(port)], bare, min_throughput=80),
        "MLflow": Peer(
            lambda port: [*mlflow, str(port)],
            bare
            | {
                "MLFLOW_TRACKING_URI": app.environment["VROOM_MLFLOW_URI"],
                "MLFLOW_DISABLE_TELEMETRY": "true",
                "PATH": f"{PYTHON_BIN}{os.pathsep}{os.environ['PATH']}",
            },
            min_throughput=20,
            path="/invocations",
            body=lambda vehicle: {"dataframe_records": [vehicle]},
            forecast=lambda answer: float(answer["predictions"][0]["predicted_reservations"]),
            faults=TYPE_FAULTS,  # a signature has types and no ranges
        ),
    }


@contextmanager
def serving(peer: Peer, log: Path) -> Iterator[tuple[str, float, psutil.Process]]:
    """Serve for the time of the block; give the address, the seconds to the first answer and the process."""
    port = free_port()
    url = f"http://127.0.0.1:{port}{peer.path}"
    environment = {**peer.environment, "VROOM_WEB_PORT": str(port)}
    started: list[psutil.Process] = []
    began = time.perf_counter()
    try:
        with running(peer.command(port), environment, log, cwd=HERE) as process:
            try:
                wait_for(url, body=peer.body(EXAMPLE), timeout_s=START_TIMEOUT_S)
                yield url, time.perf_counter() - began, process
            except TimeoutError as exc:
                raise RuntimeError(f"{exc}:\n{log.read_text()[-3000:]}") from exc
            finally:
                started = process.children(recursive=True)
    finally:
        for each in psutil.wait_procs(started, timeout=1)[1]:
            each.terminate()
        for each in psutil.wait_procs(started, timeout=STOP_TIMEOUT_S)[1]:
            each.kill()


def take_turn(peer: Peer, expected: list[float], log: Path, *, seconds: int) -> Turn:
    """Start a server, check it, drive it and stop it."""
    with serving(peer, log) as (url, start_s, process):
        check(peer, url, expected)
        script = post(json.dumps(peer.body(EXAMPLE)))
        wrk(url, script, connections=16, seconds=1)  # to warm up
        loads, used = {}, {}
        for connections in CONNECTIONS:
            before = cpu_s(process)
            loads[connections] = wrk(url, script, connections=connections, seconds=seconds)
            used[connections] = cpu_s(process) - before
            if loads[connections].num_failed:
                raise RuntimeError(f"{url} at {connections} connections: {loads[connections]}")
        return Turn(start_s, loads, used[16] / loads[16].num_requests * 1000, pss_mb(process))


def check(peer: Peer, url: str, expected: list[float]) -> None:
    """Raise RuntimeError unless every forecast is the expected one and every fault is refused."""
    with httpx.Client(timeout=20) as client:
        for vehicle, forecast in zip(VEHICLES, expected, strict=True):
            answer = client.post(url, json=peer.body(vehicle)).raise_for_status().json()
            if not math.isclose(peer.forecast(answer), forecast, rel_tol=1e-9):
                raise RuntimeError(f"{url}: the forecast of {vehicle} is {forecast}, it answered {answer}")
        for vehicle in peer.faults:
            answer = client.post(url, json=peer.body(vehicle))
            if not answer.is_client_error:
                raise RuntimeError(f"{url} answered {vehicle} with {answer.status_code}: {answer.text}")


def show(seen: Mapping[str, list[Turn]], chosen: Mapping[str, Peer]) -> None:
    """Print the medians of all rounds, and the ratios with what they should reach."""
    columns = " | ".join(
        f"{name}, {count}" for count in CONNECTIONS for name in ("p50 ms", "p99 ms", "req/s")
    )
    print(f"\n| connections: | {columns} | CPU ms | PSS MB | start s |\n|{'---|' * 13}")
    for name, turns in seen.items():
        loads = [median([turn.loads[count] for turn in turns]) for count in CONNECTIONS]
        cells = [f"{load.p50_ms:.3f} | {load.p99_ms:.2f} | {load.per_s:,.0f}" for load in loads]
        cells.append(f"{statistics.median(turn.cpu_ms for turn in turns):.3f}")
        cells.append(f"{statistics.median(turn.pss_mb for turn in turns):.0f}")
        cells.append(f"{statistics.median(turn.start_s for turn in turns):.1f}")
        print(f"| {name} | {' | '.join(cells)} |")
    print("\n| ours against | p50, 1 connection | to reach | requests/s, 16 connections | to reach |")
    print("|---|---|---|---|---|")
    for name, turns in seen.items():
        if name == OURS:
            continue
        pairs = list(zip(seen[OURS], turns, strict=False))
        faster = [theirs.loads[1].p50_ms / ours.loads[1].p50_ms for ours, theirs in pairs]
        more = [ours.loads[16].per_s / theirs.loads[16].per_s for ours, theirs in pairs]
        peer = chosen[name]
        print(f"| {name} | {verdict(faster, peer.min_speedup)} | {verdict(more, peer.min_throughput)} |")


def verdict(ratios: list[float], least: float | None) -> str:
    """Return the median of the rounds' ratios with the least and the most, and whether it is enough."""
    middle = statistics.median(ratios)
    target = "" if least is None else f"{least:g}x: {'met' if middle >= least else 'missed'}"
    return f"{middle:.1f}x ({min(ratios):.1f} to {max(ratios):.1f}) | {target}"


def main() -> int:
    """Measure and print."""
    names = ("FastAPI", "BentoML", "Ray Serve", "MLflow")
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    parser.add_argument("--only", nargs="+", choices=names, default=names, help="peers beside ours")
    parser.add_argument("--seconds", type=int, default=5, help="how long each is driven with each number")
    parser.add_argument("--rounds", type=int, default=3, help="turns of each; the table has medians")
    parser.add_argument("--here", action="store_true", help="without a network namespace")
    options = parser.parse_args()
    if shutil.which("wrk") is None:
        raise SystemExit("wrk is not installed; it is in Debian's package wrk")
    if not options.here:
        own_environment(VENV, "-r", str(HERE / "requirements.txt"))
        command = [sys.executable, "-m", "benchmarks.peers", *sys.argv[1:], "--here"]
        os.execvp("unshare", [*LOOPBACK_ONLY, *command])
    signal.signal(signal.SIGTERM, signal.default_int_handler)  # ends the servers as Ctrl-C does
    print(f"commit {commit_of('HEAD')}; load of the machine before: {os.getloadavg()[0]:.1f}", flush=True)
    seen: dict[str, list[Turn]] = {}
    with tempfile.TemporaryDirectory(prefix="vroom-") as folder, services(workers=2) as app:
        everyone = peers(app, Path(folder))
        chosen = {name: everyone[name] for name in (OURS, *options.only)}
        model = Predictor.load(app.bundle, version=1)
        expected = [model.predict_one(vehicle).predicted_reservations for vehicle in VEHICLES]
        try:
            for number in range(options.rounds):
                for name, peer in chosen.items():
                    print(f"round {number + 1} of {options.rounds}: {name}", file=sys.stderr, flush=True)
                    log = Path(folder) / f"{name}.log"
                    turn = take_turn(peer, expected, log, seconds=options.seconds)
                    seen.setdefault(name, []).append(turn)
        finally:
            show(seen, chosen)
    print(f"\nload of the machine after: {os.getloadavg()[0]:.1f}")
    return 0


if __name__ == "__main__":
    sys.exit(main())
