"""A long run of the same traffic, and what it costs: memory, handles, threads, disk; flat, or bounded.

``python -m benchmarks.soak 30m`` runs the drill's system for so long, and keeps the result in docs/drill.md.
"""

import signal
import sys
import time
from collections.abc import Callable, Sequence
from contextlib import suppress
from datetime import datetime, timedelta
from pathlib import Path

import psutil
from cyclopts import App

from tests.drill import report
from tests.drill.case import check_what_came_of_it, settle
from tests.drill.system import System, now, running_system, write_fleet
from tests.drill.traffic import Traffic

NUM_SAMPLES = 20
WARM_UP_SHARE = 0.25
"""Samples of this first share are shown and not judged: caches fill, workers import what they need once."""
PAUSE_BETWEEN_RUNS_S = 15.0
GROWS_MAX = {"web mb": (0.10, 20), "services mb": (0.15, 60), "handles": (0.10, 25), "threads": (0.10, 12)}
"""By which share, or how much in its own unit, a figure may be larger at the end than after the warm-up."""
BOUNDS = {"tmp mb": 50, "snapshots mb": 5, "models mb": 60, "logs mb": 150}
BYTES_A_SAVE_MAX = 1_000
"""The database may grow by this much for each vehicle saved, and by a write-ahead log of 8 MB."""
FOLDERS = {"database": "db", "snapshots": "offline", "logs": "log"}
EXPLAINED = """
Two clients save and two ask without pause; every 15 s or so the fleet's files change, they are
materialized by the deployment, and the champion changes. Memory is PSS. The databases of Prefect
and MLflow hold their history and grow with it until their retention takes it back.
"""
Sample = dict[str, float]
app = App(name="python -m benchmarks.soak", help="Watch the system for so long: 90s, 30m, 2h.")


@app.default
def main(duration: timedelta) -> int:
    signal.signal(signal.SIGTERM, signal.default_int_handler)  # so that everything is stopped
    with running_system() as system:
        samples = soak(system, duration.total_seconds(), print)
    keep(report.REPORT, samples, now(), f"make drill SOAK={duration.total_seconds():.0f}s")
    print(*(found := problems(samples)), sep="\n")
    return 1 if found else 0


def soak(system: System, duration_s: float, show: Callable[[str], None]) -> list[Sample]:
    """Save, ask, materialize and promote for so long; return samples of what it costs."""
    samples: list[Sample] = []
    began = time.monotonic()
    with Traffic(system.web.url, system.kept) as traffic:
        for number in range(NUM_SAMPLES + 1):
            until = began + duration_s * number / NUM_SAMPLES
            while time.monotonic() < until:
                write_fleet(system.settings.data_dir, number)
                system.web.run("vroom_forecast_materialize")
                system.change_champion()
                time.sleep(max(0.0, min(PAUSE_BETWEEN_RUNS_S, until - time.monotonic())))
            samples.append(_sample(system, traffic, (time.monotonic() - began) / 60))
            show(", ".join(f"{name} {figure}" for name, figure in samples[-1].items()))
    settle(system)
    check_what_came_of_it(system, traffic)
    return samples


def _sample(system: System, traffic: Traffic, minutes: float) -> Sample:
    web = [*system.program("web").children(recursive=True), system.program("web"), system.program("events")]
    apart = [*web, *system.run_processes()]
    below = psutil.Process(system.web.process.pid).children(recursive=True)
    services = [process for process in below if process not in apart]
    folders = ("tmp", "database", "snapshots", "models", "prefect", "mlflow", "logs")
    return {
        "minutes": round(minutes, 1),
        "saves": traffic.num_saved,
        "forecasts": traffic.num_forecasts,
        "web mb": _sum(web, lambda process: process.memory_full_info().pss / 1e6),
        "services mb": _sum(services, lambda process: process.memory_full_info().pss / 1e6),
        "handles": _sum([*web, *services], lambda process: process.num_fds()),
        "threads": _sum([*web, *services], lambda process: process.num_threads()),
        **{f"{name} mb": _size_mb(system.settings.home / FOLDERS.get(name, name)) for name in folders},
    }


def _sum(processes: Sequence[psutil.Process], figure: Callable[[psutil.Process], float]) -> float:
    total = 0.0
    for process in processes:
        with suppress(psutil.NoSuchProcess):
            total += figure(process)
    return round(total, 1)


def _size_mb(folder: Path) -> float:
    total = 0
    for path in folder.rglob("*"):
        with suppress(FileNotFoundError):  # gone meanwhile
            total += path.lstat().st_size if path.is_file() else 0
    return round(total / 1e6, 2)


def problems(samples: Sequence[Sample]) -> list[str]:
    after = samples[int(len(samples) * WARM_UP_SHARE) :]
    half = len(after) // 2
    found = []
    for name, (share, slack) in GROWS_MAX.items():
        early, late = (max(sample[name] for sample in part) for part in (after[:half], after[half:]))
        if late > early + max(early * share, slack):
            found.append(f"{name} rose from {early:.0f} to {late:.0f}")
    for name, bound in BOUNDS.items():
        most = max(sample[name] for sample in samples)
        if most > bound:
            found.append(f"{name} reached {most:.1f}, the bound is {bound}")
    grown = (samples[-1]["database mb"] - after[0]["database mb"]) * 1e6
    saved = samples[-1]["saves"] - after[0]["saves"]
    if grown > 8e6 + saved * BYTES_A_SAVE_MAX:
        found.append(f"the database grew by {grown:.0f} bytes for {saved} saves")
    return found


def keep(path: Path, samples: Sequence[Sample], at: datetime, command: str) -> None:
    verdict = "; ".join(problems(samples)) or "Flat, or below its limit."
    grows = [f"{name} +{share:.0%} or +{slack}" for name, (share, slack) in GROWS_MAX.items()]
    limits = ", ".join([*grows, *(f"{name} {bound}" for name, bound in BOUNDS.items())])
    text = f"""{verdict} {report.signature(at, command)}
{EXPLAINED}
Limits, after a quarter of the time to warm up: {limits}, database {BYTES_A_SAVE_MAX} bytes a save.
"""
    report.write(path, report.SOAK, text, list(samples[0]), [list(sample.values()) for sample in samples])


if __name__ == "__main__":
    sys.exit(app())
