"""Wait for a program that starts, and say so in the terminal and on the page.

There is no time limit: on a busy machine importing a library takes minutes.  A program is given up when it
ends again and again, or when neither its log nor its processor time grew for a while.
"""

from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from time import monotonic
from typing import Any
from xmlrpc.client import ServerProxy

import httpx
import psutil
import redis
from rich.console import Console
from supervisor.xmlrpc import SupervisorTransport
from tenacity import RetryCallState, RetryError, Retrying, retry_if_exception_type, wait_fixed

from vroom_features.settings import Settings

STALLED_AFTER_S = 120.0
BUSY_S = 2.0
"""Processor time that an idle program does not take meanwhile."""
MAX_STARTS = 3


class StartError(Exception):
    """The system cannot start; the message says why and what to do."""


@contextmanager
def waiting_for(settings: Settings, console: Console, text: str) -> Iterator[None]:
    """Show what is waited for during the block."""
    settings.starting.write_text(text)
    with console.status(text):
        yield


def wait_for(name: str, is_up: Callable[[], object], settings: Settings) -> None:
    """Return when a program of the supervisor answers; StartError with the end of its log if it will not."""
    watch = _ProgramWatch(name, settings)
    errors = (httpx.TransportError, redis.RedisError)
    retrying = Retrying(stop=watch.has_given_up, wait=wait_fixed(0.1), retry=retry_if_exception_type(errors))
    try:
        retrying(is_up)
    except RetryError as exc:
        lines = watch.log.read_text(errors="replace").splitlines() if watch.log.exists() else []
        end = "\n".join(lines[-15:])
        raise StartError(f"{name} {watch.problem}; the end of {watch.log}:\n{end}") from exc


class _ProgramWatch:
    def __init__(self, name: str, settings: Settings) -> None:
        self.log = settings.home / "log" / f"{name}.log"
        self.problem = ""
        self._name = name
        self._address = f"unix://{settings.home / 'supervisor.sock'}"
        self._state = ""
        self._starts: set[int] = set()
        self._progress = (0, 0)
        self._since = monotonic()

    def has_given_up(self, _state: RetryCallState) -> bool:
        """Return whether it ends again and again, or stands still: tenacity's ``stop``."""
        if self._progress != (progress := self._read()):
            self._progress, self._since = progress, monotonic()
        if len(self._starts) > MAX_STARTS or self._state == "FATAL":
            self.problem = "ended again and again"
        elif monotonic() - self._since > STALLED_AFTER_S:
            self.problem = f"did not answer, and did nothing for {STALLED_AFTER_S:.0f} s"
        return bool(self.problem)

    def _read(self) -> tuple[int, int]:
        """Return the size of its log, and the processor time of its processes, rounded down."""
        seconds = 0.0
        with suppress(OSError, psutil.Error):  # the supervisor is about to start, the program just ended
            # a new one each time: after a refused connection it cannot be used again
            proxy = ServerProxy("http://127.0.0.1", SupervisorTransport(None, None, self._address))
            info: Any = proxy.supervisor.getProcessInfo(self._name)
            self._state = info["statename"]
            self._starts |= {info["start"]} - {0}
            if info["pid"]:
                process = psutil.Process(info["pid"])
                times = [each.cpu_times() for each in (process, *process.children(recursive=True))]
                seconds = sum(time.user + time.system for time in times)
        return (self.log.stat().st_size if self.log.exists() else 0), int(seconds / BUSY_S)
