"""A fault that is tried so many times, a step of a flow that is stopped anywhere, and what came of each."""

import time
from collections.abc import Callable, Iterable
from contextlib import suppress
from dataclasses import dataclass, field
from functools import partial
from typing import Any

import redis
import tenacity

from tests import operations
from tests.drill import promises
from tests.drill.system import System
from tests.drill.traffic import Traffic

RECOVERY_TIMEOUT_S = 90.0
NUM_PROBLEMS_MAX = 3


@dataclass
class Result:
    fault: str
    tried: int = 0
    survived: int = 0
    seconds: float = 0.0
    note: str = ""
    problems: list[str] = field(default_factory=list)
    skipped: str = ""

    @property
    def is_survived(self) -> bool:
        return bool(self.skipped) or 0 < self.tried == self.survived

    def attempt(self, recover: Callable[[], float]) -> bool:
        """Count a try, which returns the seconds it took to recover; return whether it was survived."""
        self.tried += 1
        try:
            self.seconds = max(self.seconds, recover())
        except Exception as exc:  # noqa: BLE001 - an error of the drill itself proves nothing either
            self.problems.append(str(exc) if isinstance(exc, AssertionError) else repr(exc))
            return False
        self.survived += 1
        return True


@dataclass(frozen=True)
class Fault:
    """Something that breaks, and is mended unless it mends itself, while clients save and ask."""

    group: str
    name: str
    happen: Callable[[System, Traffic], None]
    refuses: str = ""  # whose requests may be put off meanwhile: save, predict, or of those only predict/id
    tries: int = 1
    num_savers: int = 2
    skip: Callable[[System], str] = lambda _: ""  # returns why it cannot be tried here

    def run(self, system: System) -> Result:
        result = Result(self.name, skipped=self.skip(system))
        for _ in range(0 if result.skipped else self.tries):
            if not result.attempt(partial(self._recover, system)):
                with suppress(Exception):  # the next case gets a system that works, or fails too
                    promises.runs_converge(system)
                    settle(system, timeout_s=20)
        return result

    def _recover(self, system: System) -> float:
        """Return the seconds from mended to all promises kept."""
        with Traffic(system.web.url, system.kept, num_savers=self.num_savers) as traffic:
            traffic.go_on(saves=1, forecasts=2)
            self.happen(system, traffic)
            mended = time.monotonic()
            traffic.go_on()
        settle(system)
        seconds = time.monotonic() - mended
        check_what_came_of_it(system, traffic, refuses=self.refuses)
        return seconds


@dataclass(frozen=True)
class KillPoints:
    """A step of a flow that is stopped at one operation after the other, until it finishes."""

    group: str
    name: str
    step: Callable[[System, int, int], operations.Ended]  # takes the try's number, the operation to stop at
    again: Callable[[System, int], None]  # runs it once more, unharmed, and checks what came of it
    at_most: int  # so many operations, sampled evenly
    expected: operations.End = "killed"

    def run(self, system: System) -> Result:
        result = Result(self.name)
        if not operations.is_supported():
            result.skipped = "operations are counted on Linux on x86_64 and aarch64"
            return result
        clean = self.step(system, 0, 0)
        self.again(system, 0)
        stride = max(1, -(-clean.num_operations // self.at_most))
        result.note = f"{clean.num_operations} operations" + (f", every {stride}." if stride > 1 else "")
        at = 1
        while (ended := self.step(system, at, at)).how != "finished":
            result.attempt(partial(self._recover, system, at, ended))
            if len(result.problems) == NUM_PROBLEMS_MAX:
                return result
            at += stride
        self.again(system, at)
        return result

    def _recover(self, system: System, at: int, ended: operations.Ended) -> float:
        where = f"operation {at}, {ended.last}"
        assert ended.how == self.expected, f"{where}: it {ended.how}, expected is {self.expected}"
        began = time.monotonic()
        self.again(system, at)
        settle(system)
        return time.monotonic() - began


Case = Fault | KillPoints
CASES: list[Case] = []
Happen = Callable[..., None]


def fault(
    group: str, name: str, *, how: dict[str, Any] | None = None, **options: Any
) -> Callable[[Happen], Happen]:
    """Add a fault that a function makes happen, told how; ``options`` are those of `Fault`."""

    def add(happen: Happen) -> Happen:
        CASES.append(Fault(group, name, partial(happen, **(how or {})), **options))
        return happen

    return add


def check_what_came_of_it(system: System, traffic: Traffic, *, refuses: str = "") -> None:
    """Check what the clients were answered, that only these requests were put off, and every promise."""
    promises.answers_were_true(system, traffic)
    names = {what.partition(":")[0] for what in traffic.refused}
    refused = {name for name in names if not {name, name.split("/")[0]} & set(refuses.split())}
    assert not refused, f"refused meanwhile: {dict(traffic.refused)}"
    promises.runs_converge(system)
    settle(system)


def settle(system: System, *, timeout_s: float = RECOVERY_TIMEOUT_S) -> None:
    """Wait until every promise holds; raise what is broken if it stays so."""
    tenacity.Retrying(
        wait=tenacity.wait_fixed(0.1),
        stop=tenacity.stop_after_delay(timeout_s),
        retry=tenacity.retry_if_exception_type((AssertionError, redis.RedisError)),
        reraise=True,
    )(promises.check_all, system)


def chosen(cases: Iterable[Case], only: str) -> list[Case]:
    """Return the cases whose group or name holds one of some words (commas between); all without any."""
    words = [word.strip().lower() for word in only.split(",")]
    return [case for case in cases if any(word in f"{case.group} {case.name}".lower() for word in words)]
