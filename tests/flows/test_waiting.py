"""Starting waits for as long as a program does something, and gives up with the end of its log."""

import itertools
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import httpx
import pytest
from rich.console import Console

from flows.local import waiting
from flows.local.waiting import StartError, wait_for, waiting_for
from tests.promises.system import ROOT, wait_until
from vroom_features.settings import Settings

PROGRAMS = {
    "logs": "import time\nwhile True: print('a line', flush=True); time.sleep(0.01)",
    "computes": "while True: pass",
    "ends": "print('the disk is full', flush=True)",
    "stands": "import time\nprint('waits for a lock', flush=True)\ntime.sleep(600)",
}
CONFIG = """
[supervisord]
nodaemon = true
silent = true
logfile = {home}/log/supervisord.log
pidfile = {home}/supervisord.pid
[unix_http_server]
file = {home}/supervisor.sock
[rpcinterface:supervisor]
supervisor.rpcinterface_factory = supervisor.rpcinterface:make_main_rpcinterface
"""
PROGRAM = """
[program:{name}]
command = {python} {home}/{name}.py
autorestart = true
stopsignal = KILL
redirect_stderr = true
stdout_logfile = {home}/log/{name}.log
"""


@pytest.fixture(scope="module")
def settings(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Settings]:
    """Have a supervisor keep the programs alive."""
    home = tmp_path_factory.mktemp("w")
    (home / "log").mkdir()
    config = CONFIG.format(home=home)
    for name, code in PROGRAMS.items():
        (home / f"{name}.py").write_text(code)
        config += PROGRAM.format(name=name, home=home, python=sys.executable)
    (home / "supervisord.conf").write_text(config)
    command = [str(Path(sys.executable).with_name("supervisord")), "-c", str(home / "supervisord.conf")]
    with subprocess.Popen(command, cwd=ROOT) as supervisor:
        wait_until(lambda: all((home / "log" / f"{name}.log").exists() for name in PROGRAMS))
        yield Settings(_env_file=None, home=home)
        supervisor.terminate()


@pytest.fixture(autouse=True)
def fast_clock(monkeypatch: pytest.MonkeyPatch) -> None:
    """Let ten seconds pass at each look."""
    seconds = itertools.count(step=10.0)
    monkeypatch.setattr(waiting, "monotonic", lambda: next(seconds))
    monkeypatch.setattr(waiting, "BUSY_S", 0.01)


@pytest.mark.parametrize("name", ["logs", "computes"])
def test_a_program_that_does_something_is_waited_for(settings: Settings, name: str) -> None:
    assert num_looks(name, settings, 20) == 20


def test_a_supervisor_that_is_about_to_start_is_waited_for(tmp_path: Path) -> None:
    assert num_looks("mlflow", Settings(_env_file=None, home=tmp_path), 5) == 5


def num_looks(name: str, settings: Settings, number: int) -> int:
    """Wait for a program that answers after so many looks; return how many there were."""
    looks = iter(range(number))

    def answers() -> None:
        if next(looks, None) is not None:
            raise httpx.ConnectError("not yet")

    wait_for(name, answers, settings)
    return number - len(list(looks))


@pytest.mark.parametrize(
    ("name", "problem"),
    [
        ("ends", r"ends ended again and again; the end of .*ends\.log:\n.*the disk is full"),
        ("stands", r"did nothing for 120 s; the end of .*stands\.log:\nwaits for a lock"),
    ],
)
def test_a_program_that_ends_or_stands_still_is_given_up(
    settings: Settings, monkeypatch: pytest.MonkeyPatch, name: str, problem: str
) -> None:
    if name == "ends":  # its supervisor waits between two starts
        monkeypatch.setattr(waiting, "STALLED_AFTER_S", float("inf"))

    def never() -> None:
        raise httpx.ConnectError("refused")

    with pytest.raises(StartError, match=problem):
        wait_for(name, never, settings)


def test_what_is_waited_for_is_in_a_file_for_the_page(settings: Settings) -> None:
    with waiting_for(settings, Console(quiet=True), "Starting MLflow"):
        assert settings.starting.read_text() == "Starting MLflow"
