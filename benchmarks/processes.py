"""Programs that benchmarks start: servers for a while, and commands of which the cost is measured."""

import json
import subprocess
import sys
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
RUN = """
import json, os, sys
pid = os.posix_spawnp(sys.argv[2], sys.argv[2:], os.environ)
_, status, used = os.wait4(pid, 0)
with open(sys.argv[1], "w") as file:
    json.dump([used.ru_utime + used.ru_stime, used.ru_maxrss], file)
sys.exit(os.waitstatus_to_exitcode(status) % 256)
"""
"""Runs a command.  Linux counts the memory of a process as that of those it starts, so a small one does."""


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
    with tempfile.NamedTemporaryFile("r") as used:
        started = time.perf_counter()
        done = subprocess.run(
            [sys.executable, "-I", "-S", "-c", RUN, used.name, *command],
            cwd=cwd,
            env=environment,
            capture_output=True,
            text=True,
            check=False,
        )
        wall_s = time.perf_counter() - started
        if done.returncode:
            said = (done.stdout + done.stderr)[-3000:]
            raise RuntimeError(f"{' '.join(command)} in {cwd} ended with {done.returncode}:\n{said}")
        seconds, rss_kib = json.load(used)
    return Cost(wall_s, seconds, rss_kib / 1024, done.stdout)


def own_environment(folder: Path, *packages: str) -> Path:
    """Return the Python of an environment with packages, named as for uv; it is made if it is not there."""
    uv, python = str(Path(sys.executable).with_name("uv")), folder / "bin" / "python"
    if not python.exists():
        cost([uv, "venv", "--quiet", "--python", sys.executable, str(folder)])
    cost([uv, "pip", "install", "--quiet", "--python", str(python), *packages])
    return python


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
