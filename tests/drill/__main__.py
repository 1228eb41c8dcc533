"""``python -m tests.drill``: start the system, break it case by case, and keep what came of it."""

import signal
import sys
import time
from typing import Annotated

from cyclopts import App, Parameter
from rich.console import Console

from tests.drill import data, report, services  # noqa: F401 - data and services add their cases
from tests.drill.case import CASES, chosen
from tests.drill.report import REPORT
from tests.drill.system import now, running_system

app = App(
    name="python -m tests.drill", help="Break the running system, and check that it keeps its promises."
)
console = Console(width=None if sys.stdout.isatty() else 180, highlight=False, soft_wrap=True)


@app.default
def drill(
    *,
    only: Annotated[str, Parameter(help="words; run the cases whose group or name holds one")] = "",
) -> int:
    signal.signal(signal.SIGTERM, signal.default_int_handler)  # so that everything is stopped
    cases = chosen(CASES, only)
    if not cases:
        groups = ", ".join(dict.fromkeys(case.group for case in CASES))
        console.print(f"no case holds {only!r}; there are: {groups}")
        return 2
    console.print("Starting the system")
    with running_system() as system:
        num_survived = 0
        for case in cases:
            began = time.monotonic()
            result = case.run(system)
            num_survived += result.is_survived
            word = "skipped" if result.skipped else "survived" if result.is_survived else "NOT SURVIVED"
            seconds = f"{time.monotonic() - began:5.1f} s"
            console.print(f"{word:12} {result.survived}/{result.tried} in {seconds}  {case.name}")
            for problem in filter(None, [result.skipped, *result.problems]):
                console.print(f"             {problem}", style="red")
            command = "make drill" + (f' ONLY="{only}"' if only else "")
            # at once, so that a run that is cut short keeps what it saw
            report.keep(REPORT, [result], [case.name for case in CASES], now(), command)
    return 0 if num_survived == len(cases) else 1


if __name__ == "__main__":
    sys.exit(app())
