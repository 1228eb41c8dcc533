"""Keep two copies of SQLite in one process away from the same file.

Python's ``sqlite3`` and the ADBC driver each carry their own SQLite.  POSIX locks belong to a process, so the
two copies would not see each other's, and the first to close the file would drop the other's: the one way to
corrupt a SQLite database without a fault of the disk.  Any number of connections of one copy may be open at a
time; the other copy waits.  Other processes are not concerned, the locks work between them.
"""

from collections import Counter
from pathlib import Path
from threading import Condition
from typing import Literal

Side = Literal["rows", "bulk"]

_changed = Condition()
_open: Counter[tuple[Side, Path]] = Counter()


def enter(path: Path, side: Side, *, timeout_s: float) -> None:
    """Wait until the other copy has closed the file, then count as having it open.

    Raises
    ------
    TimeoutError
        If the other copy keeps it open.
    """
    other: Side = "bulk" if side == "rows" else "rows"
    with _changed:
        if not _changed.wait_for(lambda: not _open[other, path], timeout_s):
            raise TimeoutError(f"{path} is in use by another connection of this process; close it first")
        _open[side, path] += 1


def leave(path: Path, side: Side) -> None:
    """Count as having closed the file."""
    with _changed:
        _open[side, path] -= 1
        _changed.notify_all()
