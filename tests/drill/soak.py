"""A long run of the same traffic, and what it costs: memory, handles, threads, disk; flat, or bounded."""

import re
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import astuple, dataclass
from datetime import datetime
from pathlib import Path

import psutil
from rich.table import Table

from tests.drill import promises, report
from tests.drill.case import settle
from tests.drill.cases_redis import other_champion
from tests.drill.fleet import change_fleet
from tests.drill.system import System
from tests.drill.traffic import Traffic

NUM_SAMPLES = 20
WARM_UP_SHARE = 0.25
"""Samples of this first share are shown and not judged: caches fill, workers import what they need once."""
PAUSE_BETWEEN_RUNS_S = 15.0
GROWS_MAX = {"web_mb": 0.10, "services_mb": 0.15, "handles": 0.10, "threads": 0.10}
"""By how much a figure may be larger at the end than after the warm-up."""
SLACK = {"web_mb": 20.0, "services_mb": 60.0, "handles": 25.0, "threads": 12.0}
"""Or by how much in its own unit, whichever is more."""
BOUNDS = {"tmp_mb": 50.0, "snapshots_mb": 5.0, "models_mb": 60.0, "logs_mb": 150.0}
"""What may never be exceeded."""
BYTES_A_SAVE_MAX = 1_000.0
"""The database may grow by this much for each vehicle saved."""


@dataclass(frozen=True)
class Sample:
    """What the system takes at a moment."""

    minutes: float
    saves: int
    forecasts: int
    web_mb: float
    services_mb: float
    handles: int
    threads: int
    tmp_mb: float
    database_mb: float
    snapshots_mb: float
    models_mb: float
    prefect_mb: float
    mlflow_mb: float
    logs_mb: float


def seconds(words: str) -> float:
    """Read a duration such as ``90s``, ``30m`` or ``2h``."""
    found = re.fullmatch(r"(\d+(?:\.\d+)?)([smh]?)", words.strip())
    if found is None:
        raise ValueError(f"expected a duration such as 90s, 30m or 2h, got {words!r}")
    return float(found[1]) * {"": 60, "s": 1, "m": 60, "h": 3600}[found[2]]


def soak(system: System, duration_s: float, show: Callable[[Sample], None]) -> list[Sample]:
    """Save, ask, materialize, promote and go back for so long; give a sample now and then."""
    samples: list[Sample] = []
    began = time.monotonic()
    with Traffic(system.url, system.kept) as traffic:
        for number in range(NUM_SAMPLES + 1):
            until = began + duration_s * number / NUM_SAMPLES
            while time.monotonic() < until:
                change_fleet(system.settings.data_dir, number)
                _run_flows(system)
                time.sleep(max(0.0, min(PAUSE_BETWEEN_RUNS_S, until - time.monotonic())))
            samples.append(_sample(system, traffic, (time.monotonic() - began) / 60))
            show(samples[-1])
    settle(system)
    promises.answers_were_true(system, traffic.heard)
    promises.hold(not traffic.heard.refused, f"refused meanwhile: {dict(traffic.heard.refused)}")
    promises.runs_converge(system)
    promises.check_all(system)
    return samples


def _run_flows(system: System) -> None:
    """Materialize by the deployment, and change the champion."""
    run_id = system.start_run("materialize")
    until = time.monotonic() + 120
    while system.run_state(run_id) not in {"COMPLETED", "FAILED", "CRASHED"}:
        promises.hold(time.monotonic() < until, f"run {run_id} does not end")
        time.sleep(0.5)
    promises.hold(system.run_state(run_id) == "COMPLETED", f"run {run_id} is {system.run_state(run_id)}")
    other_champion(system)


def _sample(system: System, traffic: Traffic, minutes: float) -> Sample:
    home = system.settings.home
    web = [*system.program("web").children(recursive=True), system.program("web"), system.program("events")]
    running = set(system.run_processes())
    others = [p for p in system.processes() if p not in web and p not in running]
    everything = [*web, *others]
    return Sample(
        minutes=round(minutes, 1),
        saves=traffic.heard.num_saved,
        forecasts=traffic.heard.num_forecasts,
        web_mb=_pss_mb(web),
        services_mb=_pss_mb(others),
        handles=sum(_asked(process, lambda p: p.num_fds()) for process in everything),
        threads=sum(_asked(process, lambda p: p.num_threads()) for process in everything),
        tmp_mb=_tmp_mb(home),
        database_mb=_size_mb(home / "db"),
        snapshots_mb=_size_mb(home / "offline"),
        models_mb=_size_mb(home / "models"),
        prefect_mb=_size_mb(home / "prefect"),
        mlflow_mb=_size_mb(home / "mlflow"),
        logs_mb=_size_mb(home / "log"),
    )


def _pss_mb(processes: Sequence[psutil.Process]) -> float:
    return round(sum(_asked(process, lambda p: p.memory_full_info().pss) for process in processes) / 1e6, 1)


def _asked(process: psutil.Process, what: Callable[[psutil.Process], int]) -> int:
    """Ask a process, which may have ended."""
    try:
        return what(process)
    except psutil.NoSuchProcess:
        return 0


def _size_mb(folder: Path) -> float:
    return round(sum(_file_sizes(folder)) / 1e6, 2)


def _file_sizes(folder: Path) -> Iterator[int]:
    for path in folder.rglob("*"):
        try:
            if path.is_file() and not path.is_symlink():
                yield path.stat().st_size
        except FileNotFoundError:  # gone meanwhile
            continue


def _tmp_mb(home: Path) -> float:
    """Return what the system left in the folder of temporary files, which it has to itself."""
    return _size_mb(home / "tmp")


def problems(samples: Sequence[Sample]) -> list[str]:
    """Return what grew that should not."""
    after = samples[int(len(samples) * WARM_UP_SHARE) :]
    found = []
    half = len(after) // 2
    for name, share in GROWS_MAX.items():
        early = max(float(getattr(sample, name)) for sample in after[:half])
        late = max(float(getattr(sample, name)) for sample in after[half:])
        allowed = early + max(early * share, SLACK[name])
        if late > allowed:
            found.append(f"{name} rose from {early:.0f} to {late:.0f}, allowed is {allowed:.0f}")
    for name, bound in BOUNDS.items():
        most = max(float(getattr(sample, name)) for sample in samples)
        if most > bound:
            found.append(f"{name} reached {most:.1f}, the bound is {bound:.0f}")
    grown = (samples[-1].database_mb - after[0].database_mb) * 1e6
    saved = samples[-1].saves - after[0].saves
    if grown > 8e6 + saved * BYTES_A_SAVE_MAX:  # and as much as a write-ahead log may take
        found.append(f"the database grew by {grown:.0f} bytes for {saved} saves")
    return found


NAMES = tuple(Sample.__dataclass_fields__)


def table(samples: Sequence[Sample]) -> Table:
    """Return the samples for a terminal."""
    made = Table(*(name.replace("_", " ") for name in NAMES), title="The soak")
    for sample in samples:
        made.add_row(*map(str, astuple(sample)))
    return made


def markdown(samples: Sequence[Sample], *, at: datetime, command: str) -> str:
    """Return the samples as a section of docs/drill.md."""
    found = problems(samples)
    verdict = "; ".join(found) if found else "Flat, or below its limit."
    limits = ", ".join(
        [
            *(f"{name} +{share:.0%} or +{SLACK[name]:.0f}" for name, share in GROWS_MAX.items()),
            *(f"{name} {bound:.0f}" for name, bound in BOUNDS.items()),
            f"database {BYTES_A_SAVE_MAX:.0f} bytes a save",
        ]
    )
    lines = [
        report.SOAK,
        "",
        f"{verdict} {report.signature(at, command)}",
        "",
        "Two clients save and two ask without pause; every 15 s or so the fleet's files change, they are",
        "materialized by the deployment, and the champion changes. Memory is PSS. The databases of Prefect",
        "and MLflow hold their history and grow with it until their retention takes it back.",
        "",
        f"Limits, after a quarter of the time to warm up: {limits}.",
        "",
        "| " + " | ".join(name.replace("_", " ") for name in NAMES) + " |",
        "|" + "---|" * len(NAMES),
        *("| " + " | ".join(map(str, astuple(sample))) + " |" for sample in samples),
    ]
    return "\n".join(lines) + "\n"
