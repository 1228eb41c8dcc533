"""``python -m tests.drill``: start the system, break it case by case, print and keep the table."""

import shutil
import signal
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Annotated

from cyclopts import App, Parameter
from rich.console import Console

from tests.drill import (
    cases_database,
    cases_kill_points,
    cases_prefect,
    cases_processes,
    cases_races,
    cases_redis,
    report,
)
from tests.drill import (
    soak as soaking,
)
from tests.drill.case import Case, Result, chosen
from tests.drill.clock import now
from tests.drill.system import System, running_system

REPORT = Path(__file__).parents[2] / "docs" / "drill.md"

app = App(name="python -m tests.drill", help="Break the running system, and see that it keeps its promises.")


def all_cases() -> Iterator[Case]:
    """Give every case, in the order they run."""
    yield from cases_redis.cases()
    yield from cases_processes.cases()
    yield from cases_prefect.cases()
    yield from cases_database.cases()
    yield from cases_races.cases()
    yield from cases_kill_points.cases()


@app.default
def drill(
    *,
    only: Annotated[str, Parameter(help="words; run the cases whose group or name holds one")] = "",
    soak: Annotated[str, Parameter(help="instead, watch the system for so long: 90s, 30m, 2h")] = "",
    logs: Annotated[Path | None, Parameter(help="folder to copy the system's logs to at the end")] = None,
    keep: Annotated[bool, Parameter(help="write what came of it to docs/drill.md")] = True,
) -> int:
    """Run the cases, or a soak; exit with 1 when any was not survived."""
    signal.signal(signal.SIGTERM, signal.default_int_handler)  # so that everything is stopped
    console = Console(width=None if sys.stdout.isatty() else 180)
    cases = chosen(all_cases(), only)
    if not cases:
        console.print(
            f"no case holds {only!r}; there are: {', '.join(sorted({c.group for c in all_cases()}))}"
        )
        return 2
    console.print("Starting the system")
    with running_system() as system:
        try:
            if soak:
                return _soak(system, soak, console, keep=keep)
            results = []
            for result in run(cases, system, console):
                results.append(result)
                if keep:  # at once, so that a run that is cut short leaves what it saw
                    command = "make drill" + (f' ONLY="{only}"' if only else "")
                    every = [case.name for case in all_cases()]
                    report.keep(REPORT, [result], every, at=now(), command=command)
        finally:
            if logs:
                shutil.copytree(system.settings.home / "log", logs, dirs_exist_ok=True)
    console.print(report.table(results))
    return 0 if all(result.is_survived for result in results) else 1


def _soak(system: System, duration: str, console: Console, *, keep: bool) -> int:
    try:
        samples = soaking.soak(system, soaking.seconds(duration), lambda sample: console.print(sample))
    except AssertionError as exc:
        console.print(f"NOT SURVIVED {exc}", style="red", highlight=False, soft_wrap=True)
        return 1
    console.print(soaking.table(samples))
    if keep:
        section = soaking.markdown(samples, at=now(), command=f"make drill SOAK={duration}")
        report.write(REPORT, report.SOAK, section)
    for problem in (found := soaking.problems(samples)):
        console.print(problem, style="red")
    return 1 if found else 0


def run(cases: list[Case], system: System, console: Console) -> Iterator[Result]:
    """Run cases one after the other, and say what came of each."""
    for case in cases:
        began = time.monotonic()
        result = case.run(system)
        word = "skipped" if result.skipped else "survived" if result.is_survived else "NOT SURVIVED"
        console.print(
            f"{word:12} {result.survived}/{result.tried} in {time.monotonic() - began:5.1f} s  {case.name}"
        )
        for problem in [result.skipped, *result.problems]:
            if problem:
                console.print(f"             {problem}", style="red", highlight=False, soft_wrap=True)
        yield result


if __name__ == "__main__":
    sys.exit(app())
