"""Programs that benchmarks start: servers for a while, and commands of which the cost is measured."""

import json
import os
import subprocess
import tempfile
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import httpx
import psutil

ROOT = Path(__file__).parents[1]


@dataclass(frozen=True)
class Cost:
    """What a process took, from its start to its end, and what it printed."""

    wall_s: float
    cpu_s: float
    rss_mib: float
    output: str

    @property
    def said(self) -> dict[str, Any]:
        """The JSON that it printed."""
        document: dict[str, Any] = json.loads(self.output)
        return document

    def __str__(self) -> str:
        return f"{self.wall_s:7.2f} s   {self.cpu_s:7.2f} s CPU   {self.rss_mib:6.0f} MiB"


def cost(command: Sequence[str], *, cwd: Path = ROOT, environment: Mapping[str, str] | None = None) -> Cost:
    """Run a command to its end and return what that took; the memory is that of its largest process.

    Raises
    ------
    RuntimeError
        If it fails, with the end of what it printed.
    """
    with tempfile.TemporaryFile("w+") as errors:
        started = time.perf_counter()
        with subprocess.Popen(
            command, cwd=cwd, env=environment, stdout=subprocess.PIPE, stderr=errors, text=True
        ) as process:
            assert process.stdout is not None
            try:
                output = process.stdout.read()
                _, status, used = os.wait4(process.pid, 0)
            except KeyboardInterrupt:
                stop(process)
                raise
            process.returncode = os.waitstatus_to_exitcode(status)
        wall_s = time.perf_counter() - started
        if process.returncode:
            errors.seek(0)
            said = (output + errors.read())[-3000:]
            raise RuntimeError(f"{' '.join(command)} in {cwd} ended with {process.returncode}:\n{said}")
    return Cost(wall_s, used.ru_utime + used.ru_stime, used.ru_maxrss / 1024, output)


@contextmanager
def running(
    command: Sequence[str], environment: Mapping[str, str], log: Path, *, cwd: Path = ROOT
) -> Iterator[psutil.Process]:
    """Run a program for the time of the block."""
    with (
        log.open("wb") as file,
        subprocess.Popen(command, cwd=cwd, env=environment, stdout=file, stderr=file) as process,
    ):
        try:
            yield psutil.Process(process.pid)
        finally:
            stop(process)


def stop(process: "subprocess.Popen[Any]") -> None:
    """Stop a program and wait for its end; by itself Popen does not wait after Ctrl-C."""
    process.terminate()
    process.wait()


def wait_for(
    url: str, *, status: str | None = None, body: Mapping[str, Any] | None = None, timeout_s: float = 60
) -> None:
    """Return once the address answers, to a POST if there is a body, with this status in its document."""
    until = time.monotonic() + timeout_s
    with httpx.Client(timeout=5) as client:  # one for all: to make one takes longer than to ask
        while time.monotonic() < until:
            try:
                answer = client.request("GET" if body is None else "POST", url, json=body)
                if answer.is_success and (status is None or answer.json()["status"] == status):
                    return
            except httpx.HTTPError:
                pass  # not up yet
            time.sleep(0.01)
    raise TimeoutError(f"{url} did not answer as it should within {timeout_s:.0f} s")


def cpu_s(process: psutil.Process) -> float:
    """Return the processor time that a process and all that it started used so far."""
    everyone = [process, *process.children(recursive=True)]
    return float(sum(sum(member.cpu_times()[:2]) for member in everyone))


def pss_mb(process: psutil.Process) -> float:
    """Return the memory of a process and all that it started, shared pages counted once."""
    everyone = [process, *process.children(recursive=True)]
    return float(sum(member.memory_full_info().pss for member in everyone) / 1e6)
