"""The commands of docs/tutorial.md, typed as it says into a new clone."""

import json
import os
import re
import signal
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from tests.ports import free_ports
from tests.promises.system import PORTS, ROOT, STOP_TIMEOUT_S, Web, command_environment, wait_until

pytestmark = [pytest.mark.packaging, pytest.mark.timeout(1200)]

START_TIMEOUT_S = 600
NOT_INHERITED = ("VROOM_", "PREFECT_", "VIRTUAL_ENV")


def commands() -> list[str]:
    blocks = re.findall(r"```console\n(.*?)```", (ROOT / "docs" / "tutorial.md").read_text(), re.DOTALL)
    return [line.removeprefix("$ ") for block in blocks for line in block.splitlines()]


@contextmanager
def running(command: str, folder: Path, environment: dict[str, str], log: Path) -> Iterator[None]:
    """Run a command until the end of the block; the block begins when it has printed the link to sign in."""
    with (
        log.open("w") as output,
        subprocess.Popen(
            command,
            shell=True,
            cwd=folder,
            env=environment,
            stdout=output,
            stderr=output,
            start_new_session=True,
        ) as process,
    ):
        try:
            wait_until(
                lambda: "/sign-in?token=" in log.read_text() or process.poll() is not None,
                timeout_s=START_TIMEOUT_S,
            )
            assert process.poll() is None, log.read_text()
            yield
        finally:
            os.killpg(process.pid, signal.SIGINT)  # Ctrl-C
            process.wait(STOP_TIMEOUT_S)


def test_the_tutorial_leads_from_a_clone_to_a_promoted_model(tmp_path: Path, certificates: None) -> None:
    ports = dict(zip(PORTS, map(str, free_ports(len(PORTS))), strict=True))
    web = Web(int(ports["VROOM_WEB_PORT"]))
    api = f"http://127.0.0.1:{ports['VROOM_PREFECT_PORT']}/api"
    environment = {
        name: value
        for name, value in command_environment(**ports).items()
        if not name.startswith(NOT_INHERITED) or name in ports
    } | {"PREFECT_API_URL": api}
    folder = tmp_path
    start = next(command for command in commands() if command.startswith("make run"))
    before, rest = commands()[: commands().index(start)], commands()[commands().index(start) + 1 :]

    def type_in(command: str) -> str:
        command = command.replace("ADDRESS", str(ROOT)).replace("http://127.0.0.1:8000", web.url)
        done = subprocess.run(
            command, shell=True, cwd=folder, env=environment, capture_output=True, text=True, check=False
        )
        assert done.returncode == 0, f"{command}\n{done.stdout}{done.stderr}"
        return done.stdout

    for command in before:
        if command.startswith("cd "):
            folder /= command.removeprefix("cd ")
        else:
            type_in(command)
    with running(start, folder, environment, tmp_path / "log"):
        wait_until(lambda: web.health()["status"] == "ok", timeout_s=60)
        forecast, model, *_ = [type_in(command) for command in rest if command.startswith("curl")]
        assert json.loads(forecast)["model_version"] == json.loads(model)["version"] == 1
        assert json.loads(model)["num_vehicles"] == 2000
        runs = [command for command in rest if not command.startswith("curl")]
        for command, version in zip(runs, (1, 1, 2, 1), strict=True):
            type_in(command)
            wait_until(lambda wanted=version: web.serves(wanted), timeout_s=60)
