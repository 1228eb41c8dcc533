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
    made = Table("fault", "tried", "survived", "seconds to recover", "remarks", title="The drill")
    for result in results:
        style = "" if result.is_survived else "red"
        made.add_row(*_cells(result), style=style)
    return made


def _cells(result: Result) -> tuple[str, ...]:
    if result.skipped:
        return result.fault, "", "", "", f"skipped: {result.skipped}"
    remarks = "; ".join(filter(None, [result.note, *result.problems[:1]]))
    seconds = f"{result.seconds:.1f}" if result.survived else ""
    return result.fault, str(result.tried), str(result.survived), seconds, remarks


def keep(path: Path, results: Sequence[Result], every: Sequence[str], *, at: datetime, command: str) -> None:
    """Put results in the place of the same faults' earlier rows, and leave the other rows as they are.

    Parameters
    ----------
    path : Path
        The report.
    results : sequence of Result
    every : sequence of str
        All faults there are, in their order; rows of others go.
    at : datetime
    command : str
    """
    text = path.read_text() if path.exists() else ""
    rows = {_split(line)[0]: line for line in text.splitlines() if line.startswith("| ")}
    when = f"{at:%Y-%m-%d %H:%M}, load {os.getloadavg()[0]:.1f}"
    for result in results:
        rows[result.fault] = _row([*_cells(result), when])
    write(path, DRILL, _section([(name, rows.get(name)) for name in every], signature(at, command)))


def _section(rows: Sequence[tuple[str, str | None]], last: str) -> str:
    tried = [cells for cells in (_split(row) for _, row in rows if row is not None) if cells[1]]
    survived = sum(cells[1] == cells[2] for cells in tried)
    lines = [
        DRILL,
        "",
        f"{survived} of {len(rows)} faults survived each time, {len(tried) - survived} not, "
        f"{len(rows) - len(tried)} not tried. Last: {last}",
        "",
        "A run of some faults (`ONLY=`) renews their rows alone; each row says when it was tried (UTC), and",
        "the machine's load over the minute before its end.",
        "",
        "| fault | times tried | survived | seconds to recover (the longest) | remarks | tried |",
        "|---|---|---|---|---|---|",
        *(row or _row([name, "", "", "", "not tried", ""]) for name, row in rows),
    ]
    return "\n".join(lines) + "\n"


def _row(cells: Sequence[str]) -> str:
    return "| " + " | ".join(" ".join(cell.replace("|", "/").split()) for cell in cells) + " |"


def _split(row: str) -> list[str]:
    return [cell.strip() for cell in row.strip().strip("|").split("|")]


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
