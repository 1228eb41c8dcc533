"""Many at once, and wrong clocks."""

import random
import subprocess
import sys
import threading
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager, nullcontext
from datetime import timedelta
from pathlib import Path

import httpx

from flows.local.up import ROOT
from tests.drill import promises
from tests.drill.case import Case, Fault
from tests.drill.clock import now
from tests.drill.fleet import change_fleet
from tests.drill.system import PASSWORD, System
from tests.drill.traffic import Traffic
from vroom_features.ingest.seed import seed
from vroom_features.materialize import materialize

FAKETIME = tuple(Path("/usr/lib").glob("*/faketime/libfaketime.so.1"))
NUM_DELETED = 10
PROMOTION_TIMEOUT_S = 240
"""Each starts a Python of its own, which takes long on a busy machine."""


def nothing_broken(_: System) -> nullcontext[None]:
    """Break nothing: what goes on meanwhile is the fault."""
    return nullcontext()


def together(*works: Callable[[], object]) -> list[object]:
    """Do all at the same moment; raise the first error."""
    start = threading.Barrier(len(works))

    def begin(work: Callable[[], object]) -> object:
        start.wait(30)
        return work()

    with ThreadPoolExecutor(len(works)) as pool:
        return list(pool.map(begin, works))


def many_save(_: System, traffic: Traffic) -> None:
    """Let the clients save."""
    traffic.wait_for(saves=80, timeout_s=60)


def two_promotions(system: System, traffic: Traffic) -> None:
    """Let two processes promote both versions at the same moment, and one go back."""
    commands = [_promotion(system, 1), _promotion(system, 2), _promotion(system, 1)]
    runs = [subprocess.Popen(command, cwd=ROOT, env=system.environment) for command in commands]
    try:
        traffic.wait_for(saves=5, forecasts=20)
        for run in runs:
            promises.hold(run.wait(PROMOTION_TIMEOUT_S) == 0, "a promotion failed")
    finally:
        for run in runs:
            run.kill()
            run.wait()


def _promotion(system: System, version: int) -> list[str]:
    work = (
        "import asyncio; from datetime import UTC, datetime; from flows.promotion import compare_and_promote;"
        "from vroom_features.settings import Settings;"
        f"asyncio.run(compare_and_promote.fn(Settings(), {version}, 'drill', datetime.now(UTC)))"
    )
    return [sys.executable, "-c", work]


def deletions_and_a_run(system: System, traffic: Traffic) -> None:
    """Delete vehicles while their features are materialized, again and again."""
    live = [i for i, _ in system.kept.saved.values() if i not in system.kept.deleted]
    doomed = random.Random(0).sample(live, min(NUM_DELETED, len(live)))  # noqa: S311 - any will do
    for number, vehicle_id in enumerate(doomed):
        change_fleet(system.settings.data_dir, number)
        system.kept.deleted.add(vehicle_id)
        together(lambda i=vehicle_id: _delete(system, i), lambda: _materialize(system))  # type: ignore[misc]
    traffic.wait_for(saves=2, forecasts=5)


def _delete(system: System, vehicle_id: int) -> None:
    headers = {"Authorization": f"Bearer {PASSWORD}"}
    answer = httpx.delete(f"{system.url}/vehicles/{vehicle_id}", headers=headers, timeout=30)
    promises.hold(answer.status_code == 204, f"a deletion answers {answer.status_code}")


def _materialize(system: System) -> None:
    seed(system.source, system.settings.data_dir)
    materialize(system.source, system.offline, system.online, as_of=now())


@contextmanager
def wrong_clock(system: System, offset: timedelta) -> Iterator[None]:
    """Run the flows' work with a clock that is off: by libfaketime where it is, else by the moment given."""
    change_fleet(system.settings.data_dir, offset.days % 7)
    if FAKETIME:
        environment = system.environment | {
            "LD_PRELOAD": str(FAKETIME[0]),
            "FAKETIME": f"{int(offset.total_seconds()):+d}",
            "FAKETIME_DONT_FAKE_MONOTONIC": "1",
        }
        for command in ("seed", "materialize"):
            done = subprocess.run(
                [sys.executable, "-m", "vroom_features", command],
                cwd=ROOT,
                env=environment,
                capture_output=True,
            )
            promises.hold(done.returncode == 0, f"{command} failed: {done.stderr.decode()[-300:]}")
    else:
        seed(system.source, system.settings.data_dir)
        materialize(system.source, system.offline, system.online, as_of=now() + offset)
    moved = abs(system.offline.current().created_at - now())
    promises.hold(moved > timedelta(hours=1), "the clock was not off")
    yield


def cases() -> Iterator[Case]:
    """Give them."""
    how = "libfaketime" if FAKETIME else "at the process's edge"
    yield Fault("8 clients save at once", "races", nothing_broken, many_save, num_savers=8)
    yield Fault("three promotions at once", "races", nothing_broken, two_promotions, tries=2)
    yield Fault("deletions race materializations", "races", nothing_broken, deletions_and_a_run)
    for words, offset in (
        ("a day behind", timedelta(days=-1)),
        ("ten years ahead", timedelta(days=3650)),
        ("in 1970", now().replace(year=1970) - now() + timedelta(days=30)),
    ):
        yield Fault(
            f"clock {words} ({how})",
            "clock",
            lambda s, by=offset: wrong_clock(s, by),  # type: ignore[misc]
        )
