"""What was started ends with whatever started it, also when that is killed outright; on Linux.

SIGKILL leaves no time to clean up.  So the supervisor asks the kernel for a SIGTERM when this process dies,
and this process asks to be the parent of what the supervisor would leave behind.
"""

import ctypes
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path

SET_PDEATHSIG, SET_CHILD_SUBREAPER = 1, 36
POLL_S = 0.05


def told_when_parent_dies() -> Callable[[], None] | None:
    """Return what a child does between fork and exec to get SIGTERM when its parent dies."""
    if sys.platform != "linux":
        return None
    prctl = ctypes.CDLL(None).prctl  # found before the fork: a child may only call it

    def ask() -> None:
        prctl(SET_PDEATHSIG, signal.SIGTERM)

    return ask


def adopt_orphans() -> None:
    """Become the parent of what children of this process leave behind; see ``wait_and_reap``."""
    if sys.platform == "linux":
        ctypes.CDLL(None).prctl(SET_CHILD_SUBREAPER, 1)


def wait_and_reap(child: "subprocess.Popen[bytes]") -> None:
    """Wait for the end of a child, and meanwhile see adopted ones off: they would stay as zombies."""
    while child.returncode is None:
        pid, status = os.waitpid(-1, 0)
        if pid == child.pid:
            child.returncode = os.waitstatus_to_exitcode(status)


def end_orphans(timeout_s: float) -> None:
    """End every child of this process: by SIGTERM, and after a while by SIGKILL."""
    until = time.monotonic() + timeout_s
    told: set[int] = set()
    while children := _children():
        is_late = time.monotonic() > until
        for child in children if is_late else children - told:
            with suppress(ProcessLookupError):
                os.kill(child, signal.SIGKILL if is_late else signal.SIGTERM)
        told |= children  # a child's own children become ours when it goes
        with suppress(ChildProcessError):
            while os.waitpid(-1, os.WNOHANG) != (0, 0):
                pass
        time.sleep(POLL_S)


def _children() -> set[int]:
    """Return the children of this process's threads, as far as the kernel tells."""
    found: set[int] = set()
    for path in Path("/proc/self/task").glob("*/children"):
        found |= set(map(int, path.read_text().split()))
    return found
