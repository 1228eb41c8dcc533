"""Each step of each flow, killed at its 1st, 2nd, 3rd ... operation until it finishes; and with no disk."""

import errno
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

from tests import operations
from tests.drill import promises
from tests.drill.case import Case, Result, settle
from tests.drill.fleet import change_fleet
from tests.drill.system import System

Step = Callable[[System, int, int], operations.Ended]
"""Does the work of one try, given the try's number and the operation to stop at."""


@dataclass(frozen=True)
class KillPoints:
    """A step of a flow that is stopped at one operation after the other.

    Parameters
    ----------
    name, group : str
    step : callable
        Does it, stopped at an operation.
    again : callable
        Does it once more, unharmed, and checks what came of it.
    at_most : int
        Operations to stop at; more than that are sampled evenly, the first and the last among them.
    expected : str
        How a try that was stopped must end.
    """

    name: str
    group: str
    step: Step
    again: Callable[[System, int], None]
    at_most: int
    expected: operations.End = "killed"

    def run(self, system: System) -> Result:
        """Stop it at each operation until it finishes clean, and check every promise after each."""
        result = Result(self.name, self.group)
        if not operations.is_supported():
            result.skipped = "operations are counted on Linux on x86_64 and aarch64"
            return result
        clean = self.step(system, 0, 0)
        self.again(system, 0)
        stride = max(1, -(-clean.num_operations // self.at_most))
        result.note = f"{clean.num_operations} operations" + (f", every {stride}." if stride > 1 else "")
        number, at = 0, 1
        while True:
            number += 1
            ended = self.step(system, number, at)
            if ended.how == "finished":
                self.again(system, number)
                return result
            result.tried += 1
            try:
                if ended.how != self.expected:
                    raise promises.BrokenPromiseError(f"it {ended.how} and should have been {self.expected}")
                began = time.monotonic()
                self.again(system, number)
                settle(system)
                result.seconds = max(result.seconds, time.monotonic() - began)
                result.survived += 1
            except AssertionError as exc:
                result.problems.append(f"operation {at}, {ended.last}: {exc}")
                if len(result.problems) >= 3:
                    return result
            at += stride


def materialized(system: System, number: int, at: int) -> operations.Ended:
    """Seed and materialize a fleet that changed."""
    change_fleet(system.settings.data_dir, number)
    return system.victim.order("materialize", at=at)


def without_disk(system: System, number: int, at: int) -> operations.Ended:
    """Seed and materialize a fleet that changed; from an operation on, nothing more can be written."""
    change_fleet(system.settings.data_dir, number)
    return system.victim.order("materialize", at=at, error=errno.ENOSPC, only=operations.FILLS_THE_DISK)


def materialized_again(system: System, _: int) -> None:
    """Run it unharmed; the snapshot is what the fleet's files make by themselves."""
    promises.runs_converge(system)
    promises.the_snapshot_is_that_of_the_files(system)


def _trained(system: System) -> Path:
    """Return a trained model, made once."""
    folder = system.settings.home / "trained"
    if not folder.exists():
        ended = system.victim.order("train", folder=str(folder), seed=7)
        assert ended.how == "finished", ended
    return folder


def registered(system: System, number: int, at: int) -> operations.Ended:
    """Register a trained model under a name of its own."""
    return system.victim.order("register", at=at, folder=str(_trained(system)), model_name=f"drill-{number}")


def registered_again(system: System, number: int) -> None:
    """Register it unharmed; there is one complete version, its files are whole, and it is the candidate."""
    ended = registered(system, number, 0)
    promises.hold(ended.how == "finished", f"run again it {ended.how}")
    promises.one_whole_candidate(system, f"drill-{number}")


def promoted(system: System, number: int, at: int) -> operations.Ended:
    """Make the other of the first two versions champion."""
    return system.victim.order("promotion", at=at, version=_other(system))


def _other(system: System) -> int:
    champion = system.registry.champion()
    return 2 if champion is not None and champion.version == 1 else 1


def repaired(system: System, _: int) -> None:
    """Look at the champion, as every flow and the next promotion do first."""
    promises.runs_converge(system)
    promises.history_and_alias_agree(system)


def rolled_back(system: System, number: int, at: int) -> operations.Ended:
    """Go back by one, after a promotion that gives somewhere to go back to."""
    promoted(system, number, 0)
    return system.victim.order("rollback", at=at)


def watched(system: System, _: int, at: int) -> operations.Ended:
    """Watch the champion."""
    return system.victim.order("monitor", at=at)


def cases() -> Iterator[Case]:
    """Give the steps."""
    yield KillPoints("materialize killed at its n-th operation", "kill", materialized, materialized_again, 60)
    yield KillPoints("registration killed at its n-th operation", "kill", registered, registered_again, 16)
    yield KillPoints("promotion killed at its n-th operation", "kill", promoted, repaired, 30)
    yield KillPoints("rollback killed at its n-th operation", "kill", rolled_back, repaired, 12)
    yield KillPoints("monitor killed at its n-th operation", "kill", watched, repaired, 8)
    yield KillPoints(
        "materialize without disk space from its n-th write on",
        "disk",
        without_disk,
        materialized_again,
        30,
        expected="failed",
    )
