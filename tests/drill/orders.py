"""Orders to the victim, and its answers."""

import json
import subprocess
import sys
from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from flows.local.up import ROOT
from tests.operations import Ended


@dataclass(frozen=True)
class Victim:
    """A process that does what it is told and is stopped while at it."""

    process: "subprocess.Popen[str]"

    def order(
        self,
        work: str,
        *,
        at: int = 0,
        error: int | None = None,
        only: Iterable[str] = (),
        **more: object,
    ) -> Ended:
        """Have a step of a flow done in a fork, stopped at an operation; see `operations.run`."""
        assert self.process.stdin is not None
        order = {"work": work, "at": at, "error": error, "only": sorted(only), **more}
        self.process.stdin.write(f"{json.dumps(order)}\n")
        self.process.stdin.flush()
        return Ended(**self.answer())

    def answer(self) -> dict[str, Any]:  # a line of JSON
        """Wait for a line."""
        assert self.process.stdout is not None
        line = self.process.stdout.readline()
        assert line, "the victim's parent died"
        document: dict[str, Any] = json.loads(line)
        return document


@contextmanager
def victim(environment: Mapping[str, str], log: Path) -> Iterator[Victim]:
    """Start it, and end it after the block."""
    command = [sys.executable, "-m", "tests.drill.victim"]
    with (
        log.open("w") as errors,
        subprocess.Popen(
            command,
            cwd=ROOT,
            env=environment,
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=errors,
            text=True,
        ) as process,
    ):
        try:
            made = Victim(process)
            made.answer()
            yield made
        finally:
            process.kill()
