"""docs/drill.md: what the last drill and the last soak saw."""

import os
import platform
from collections.abc import Sequence
from datetime import datetime
from pathlib import Path

from tests.drill.case import Result
from tests.promises.system import ROOT

REPORT = ROOT / "docs" / "drill.md"
DRILL, SOAK = "## Faults", "## Soak"
EXPLAINED = """
A run of some faults (`ONLY=`) renews their rows alone; each row says when it was tried (UTC), and
the machine's load over the minute before its end.
"""


def keep(path: Path, results: Sequence[Result], names: Sequence[str], at: datetime, command: str) -> None:
    """Put results in the place of the same faults' earlier rows; the rows of names that are gone go too."""
    earlier = [_cells(line) for line in path.read_text().splitlines() if line.startswith("| ")]
    rows = {name: [name, "", "", "", "not tried", ""] for name in names}
    rows |= {row[0]: row for row in earlier if row[0] in rows}
    when = f"{at:%Y-%m-%d %H:%M}, load {os.getloadavg()[0]:.1f}"
    rows |= {result.fault: [*_row(result), when] for result in results}
    tried = [row for row in rows.values() if row[1]]
    survived = sum(row[1] == row[2] for row in tried)
    summary = (
        f"{survived} of {len(rows)} faults survived each time, {len(tried) - survived} not, "
        f"{len(rows) - len(tried)} not tried. Last: {signature(at, command)}\n"
    )
    header = ("fault", "times tried", "survived", "seconds to recover (the longest)", "remarks", "tried")
    write(path, DRILL, summary + EXPLAINED, header, list(rows.values()))


def _row(result: Result) -> list[str]:
    if result.skipped:
        return [result.fault, "", "", "", f"skipped: {result.skipped}"]
    remarks = "; ".join(filter(None, [result.note, *result.problems[:1]]))
    seconds = f"{result.seconds:.1f}" if result.survived else ""
    return [result.fault, str(result.tried), str(result.survived), seconds, remarks]


def _cells(line: str) -> list[str]:
    return [cell.strip() for cell in line.strip().strip("|").split("|")]


def signature(at: datetime, command: str) -> str:
    memory = os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES") / 2**30
    return (
        f"`{command}`, {at:%Y-%m-%d}, {platform.system()} {platform.machine()}, "
        f"{os.cpu_count()} cores, {memory:.0f} GB, Python {platform.python_version()}."
    )


def write(
    path: Path, heading: str, text: str, header: Sequence[str], rows: Sequence[Sequence[object]]
) -> None:
    """Put a text and a table in the place of the section with their heading."""
    lines = [header, ["---"] * len(header), *rows]
    cells = [[" ".join(str(cell).replace("|", "/").split()) for cell in line] for line in lines]
    table = "\n".join(f"| {' | '.join(line)} |" for line in cells)
    before, _, rest = path.read_text().partition(f"{heading}\n")
    _, mark, after = rest.partition("\n## ")
    section = f"{heading}\n\n{text}\n{table}\n"
    path.write_text(f"{before}{section}" + (f"\n## {after}" if mark else ""))
