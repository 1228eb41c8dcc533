"""The drill's table, for a terminal and for docs/drill.md."""

import os
import platform
from collections.abc import Sequence
from datetime import datetime
from pathlib import Path

from rich.table import Table

from tests.drill.case import Result

TITLE = "# The fault drill"
DRILL, SOAK = "## Faults", "## Soak"


def table(results: Sequence[Result]) -> Table:
    """Return the results as a table for a terminal."""
    made = Table("fault", "tried", "survived", "seconds to recover", title="The drill")
    for result in results:
        style = "" if result.is_survived else "red"
        made.add_row(*_cells(result), style=style)
    return made


def _cells(result: Result) -> tuple[str, str, str, str]:
    if result.skipped:
        return result.fault, "0", f"skipped: {result.skipped}", ""
    name = f"{result.fault} ({result.note})" if result.note else result.fault
    return name, str(result.tried), str(result.survived), f"{result.seconds:.1f}"


def markdown(results: Sequence[Result], *, at: datetime, command: str) -> str:
    """Return the results as a section of docs/drill.md."""
    survived = sum(result.is_survived for result in results)
    lines = [
        DRILL,
        "",
        f"{survived} of {len(results)} survived. {signature(at, command)}",
        "",
        "| fault | times tried | survived | seconds to recover (the longest) |",
        "|---|---|---|---|",
        *("| " + " | ".join(_cells(result)) + " |" for result in results),
    ]
    return "\n".join(lines) + "\n"


def signature(at: datetime, command: str) -> str:
    """Say when, by which command and on what machine."""
    memory = os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES") / 2**30
    return (
        f"`{command}`, {at:%Y-%m-%d}, {platform.system()} {platform.machine()}, "
        f"{os.cpu_count()} cores, {memory:.0f} GB, Python {platform.python_version()}."
    )


def write(path: Path, heading: str, section: str) -> None:
    """Put a section in the place of the one with its heading, or at the end."""
    text = path.read_text() if path.exists() else f"{TITLE}\n"
    before, _, rest = text.partition(f"\n{heading}\n")
    _, mark, after = rest.partition("\n## ")
    path.write_text(f"{before.rstrip()}\n\n{section}" + (f"\n## {after}" if mark else ""))
