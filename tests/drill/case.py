"""A fault: how it comes, what goes on meanwhile, how it ends; and what came of trying it."""

import subprocess
import time
import xmlrpc.client
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, suppress
from dataclasses import dataclass, field
from typing import Protocol

import httpx
import psutil
import redis

from tests.drill import promises
from tests.drill.system import System
from tests.drill.traffic import Traffic

RECOVERY_TIMEOUT_S = 90.0
SURPRISES = (
    OSError,
    RuntimeError,
    redis.RedisError,
    httpx.HTTPError,
    psutil.Error,
    subprocess.SubprocessError,
    xmlrpc.client.Fault,
)


@dataclass
class Result:
    """What came of a case."""

    fault: str
    group: str
    tried: int = 0
    survived: int = 0
    seconds: float = 0.0
    note: str = ""
    problems: list[str] = field(default_factory=list)
    skipped: str = ""

    @property
    def is_survived(self) -> bool:
        """Whether every try was survived, and there was one."""
        return bool(self.skipped) or (self.tried > 0 and self.survived == self.tried)


class Case(Protocol):
    """One row of the drill's table."""

    @property
    def name(self) -> str:
        """What is broken."""

    @property
    def group(self) -> str:
        """What to select it by, beside its name."""

    def run(self, system: System) -> Result:
        """Break it, and see what happens."""


@dataclass(frozen=True)
class Fault:
    """Something that is broken for a while.

    Parameters
    ----------
    name, group : str
    broken : callable
        Given the system, a context: it breaks on entering and is whole again after leaving.
    meanwhile : callable
        What goes on in between, beside the clients; by default they are let work for a while.
    refuses : frozenset of str
        Whose requests may be put off (503, or a broken connection) meanwhile: 'save', 'predict' or, of
        those, only 'predict/id'.
    tries : int
    skip : callable, optional
        Why it cannot be tried here, or an empty string.
    """

    name: str
    group: str
    broken: Callable[[System], AbstractContextManager[object]]
    meanwhile: Callable[[System, Traffic], None] = lambda _, traffic: traffic.wait_for(saves=5, forecasts=10)
    refuses: frozenset[str] = frozenset()
    tries: int = 1
    num_savers: int = 2
    skip: Callable[[System], str] = lambda _: ""

    def run(self, system: System) -> Result:
        """Try it, and check every promise after each try."""
        result = Result(self.name, self.group, skipped=self.skip(system))
        if result.skipped:
            return result
        for _ in range(self.tries):
            result.tried += 1
            try:
                seconds = self._try(system)
            except AssertionError as exc:
                result.problems.append(str(exc))
                wait_for_rest(system)
            except SURPRISES as exc:  # the drill's own hands slipped, which proves nothing
                result.problems.append(f"{type(exc).__name__}: {exc}")
                wait_for_rest(system)
            else:
                result.survived += 1
                result.seconds = max(result.seconds, seconds)
        return result

    def _try(self, system: System) -> float:
        """Break, let go on, mend, check; return how long it took from mended to all promises kept."""
        with Traffic(system.url, system.kept, num_savers=self.num_savers) as traffic:
            traffic.wait_for(saves=1, forecasts=2)
            with self.broken(system):
                self.meanwhile(system, traffic)
            mended = time.monotonic()
            traffic.wait_for(saves=1, forecasts=2)
        settle(system)
        seconds = time.monotonic() - mended
        promises.answers_were_true(system, traffic.heard)
        names = {what.partition(":")[0] for what in traffic.heard.refused}
        if any(self.refuses.isdisjoint({name, name.split("/")[0]}) for name in names):
            raise promises.BrokenPromiseError(f"refused meanwhile: {dict(traffic.heard.refused)}")
        promises.runs_converge(system)
        promises.check_all(system)
        return seconds


def settle(system: System, *, timeout_s: float = RECOVERY_TIMEOUT_S) -> None:
    """Wait until every promise holds; raise what is broken if it stays so."""
    until = time.monotonic() + timeout_s
    while True:
        try:
            promises.check_all(system)
        except (promises.BrokenPromiseError, redis.RedisError):
            if time.monotonic() > until:
                raise
            time.sleep(0.1)
        else:
            return


def wait_for_rest(system: System) -> None:
    """After a broken promise, give the next case a system that works, where it can be had."""
    with suppress(AssertionError, *SURPRISES):  # the next case will say so itself
        promises.runs_converge(system)
        settle(system, timeout_s=20)


def chosen(cases: Iterator[Case], only: str) -> list[Case]:
    """Return the cases whose group or name holds one of some words (commas between); all without any."""
    words = [word.strip().lower() for word in only.split(",") if word.strip()]
    return [
        case for case in cases if not words or any(w in f"{case.group} {case.name}".lower() for w in words)
    ]
