"""The whole system as `make run` starts it, on free ports and in a folder of its own."""

import os
import shutil
import signal
import socket
import subprocess
import sys
from collections.abc import Iterator
from contextlib import ExitStack, closing
from dataclasses import dataclass
from pathlib import Path

import httpx
import pytest

from flows.up import ROOT, child_environment
from vroom_features.settings import Settings

REAL_FLEET = Path(os.environ.get("VROOM_REAL_DATA", ROOT.parent / "shared" / "data" / "fleet"))
STOP_TIMEOUT_S = 90


@dataclass(frozen=True)
class System:
    """A running system: its settings, what it printed, and a client of its page."""

    settings: Settings
    output: str
    page: httpx.Client
    process: "subprocess.Popen[str]"

    def run_deployment(self, name: str, *options: str) -> str:
        """Start a deployment as a person would and wait for its end; return what the command printed."""
        command = [
            sys.executable,
            "-m",
            "prefect",
            "deployment",
            "run",
            f"{name}/{name}",
            "--watch",
            *options,
        ]
        environment = child_environment(self.settings)
        done = subprocess.run(command, cwd=ROOT, env=environment, capture_output=True, text=True, timeout=180)
        assert done.returncode == 0, done.stdout + done.stderr
        return done.stdout

    def stop(self) -> int:
        """Press Ctrl-C and return the exit code."""
        self.process.send_signal(signal.SIGINT)
        return self.process.wait(STOP_TIMEOUT_S)


def free_ports(count: int) -> list[int]:
    """Return ports that nobody listens on now."""
    with ExitStack() as stack:
        sockets = [stack.enter_context(closing(socket.socket())) for _ in range(count)]
        for sock in sockets:
            sock.bind(("127.0.0.1", 0))
        return [sock.getsockname()[1] for sock in sockets]


@pytest.fixture(scope="module", params=["sample", "real fleet"])
def data_dir(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Return a copy of the CSVs that a test may change: the sample, and the real fleet where it is."""
    origin = ROOT / "data" if request.param == "sample" else REAL_FLEET
    if not origin.is_dir():
        pytest.skip(f"the real fleet is not at {origin}; set VROOM_REAL_DATA to its folder")
    folder = tmp_path_factory.mktemp("csv")
    for name in ("vehicles.csv", "reservations.csv"):
        shutil.copy(origin / name, folder)
    return folder


@pytest.fixture(scope="module")
def system(data_dir: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[System]:
    """Run `python -m flows up` until it has done the main job."""
    web, events, redis, mlflow, prefect = free_ports(5)
    settings = Settings(
        _env_file=None,
        home=tmp_path_factory.mktemp("vroom"),
        data_dir=data_dir,
        web_port=web,
        web_events_port=events,
        redis_port=redis,
        mlflow_port=mlflow,
        prefect_port=prefect,
    )
    environment = child_environment(settings)
    command = [sys.executable, "-m", "flows", "up"]
    with subprocess.Popen(
        command, cwd=ROOT, env=environment, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True
    ) as process:
        try:
            output = _read_until(process, "Ctrl-C stops everything")
            with httpx.Client(base_url=f"http://127.0.0.1:{web}", timeout=30) as page:
                yield System(settings, output, page, process)
        finally:
            process.terminate()
            process.wait(STOP_TIMEOUT_S)


def _read_until(process: "subprocess.Popen[str]", end: str) -> str:
    """Collect the output up to a line; fail with all of it if the process ends before."""
    lines: list[str] = []
    assert process.stdout is not None
    for line in process.stdout:
        lines.append(line)
        if end in line:
            return "".join(lines)
    pytest.fail("the system ended early:\n" + "".join(lines))
