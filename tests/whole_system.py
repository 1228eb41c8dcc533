"""The whole system as `make run` starts it, on free ports and in a folder of its own."""

import re
import signal
import subprocess
import sys
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import httpx
from tenacity import retry, retry_if_exception_type, stop_after_delay, wait_fixed

from flows.up import ROOT, child_environment
from tests.factories import VEHICLE
from tests.ports import free_ports
from vroom_features.settings import Settings

READY = "Ctrl-C stops everything"
STOP_TIMEOUT_S = 90


@dataclass(frozen=True)
class WholeSystem:
    """A running system: its settings, what it printed until it was ready, and its process."""

    settings: Settings
    output: str
    process: "subprocess.Popen[str]"

    @property
    def url(self) -> str:
        """Where its pages are."""
        return f"http://127.0.0.1:{self.settings.web_port}"

    @property
    def printed_link(self) -> str:
        """The link that signs the operator in once, as it was printed."""
        found = re.search(r"Sign in\s+(http://\S+)", self.output)
        assert found is not None, self.output
        return found[1]

    @property
    def password(self) -> str:
        """The operator's."""
        return (self.settings.home / "operator-password").read_text().strip()

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

    @retry(
        stop=stop_after_delay(20),
        wait=wait_fixed(0.1),
        retry=retry_if_exception_type(AssertionError),
        reraise=True,
    )
    def wait_for_version(self, version: int) -> None:
        """Wait until every web worker answers with a version: connections are spread over them."""
        for _ in range(20):
            answer = httpx.post(f"{self.url}/predict", json=VEHICLE).raise_for_status().json()
            assert answer["model_version"] == version

    def stop(self, how: signal.Signals) -> int:
        """Send a signal and return the exit code."""
        self.process.send_signal(how)
        return self.process.wait(STOP_TIMEOUT_S)


def system_settings(home: Path, data_dir: Path = ROOT / "data") -> Settings:
    """Return settings of a system of its own."""
    web, events, redis, mlflow, prefect = free_ports(5)
    return Settings(
        _env_file=None,
        home=home,
        data_dir=data_dir,
        web_port=web,
        web_events_port=events,
        redis_port=redis,
        mlflow_port=mlflow,
        prefect_port=prefect,
    )


@contextmanager
def whole_system(
    home: Path, data_dir: Path = ROOT / "data", more: Mapping[str, str] | None = None
) -> Iterator[WholeSystem]:
    """Run `python -m flows up`, with more variables, until it has done the main job; stop it at the end."""
    settings = system_settings(home, data_dir)
    with subprocess.Popen(
        [sys.executable, "-m", "flows", "up"],
        cwd=ROOT,
        env={**child_environment(settings), **(more or {})},
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
    ) as process:
        try:
            yield WholeSystem(settings, _read_until(process, READY), process)
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
    raise AssertionError("the system ended early:\n" + "".join(lines))
