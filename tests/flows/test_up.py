"""Starting is refused with one clear line when something is in the way."""

import os
import re
import shlex
import signal
import socket
import subprocess
import sys
from configparser import RawConfigParser
from pathlib import Path

import httpx
import psutil
import pytest
from tenacity import retry, retry_if_exception_type, stop_after_delay, wait_fixed

from flows.local.up import CONFIG, ROOT, StartError, check, child_environment
from tests.whole_system import system_settings
from vroom_features.settings import Settings


@pytest.fixture
def settings(tmp_path: Path) -> Settings:
    """Return settings under which everything can start."""
    data = tmp_path / "data"
    data.mkdir()
    for name in ("vehicles.csv", "reservations.csv"):
        (data / name).write_text("vehicle_id\n")
    return system_settings(tmp_path / "var", data)


def test_check_makes_the_folders_and_takes_zipped_files_as_seeding_does(settings: Settings) -> None:
    for path in list(settings.data_dir.iterdir()):
        path.rename(path.with_name(f"{path.name}.gz"))
    check(settings)
    assert (settings.home / "log").is_dir()


def test_check_names_what_is_in_the_way_and_its_setting(settings: Settings, tmp_path: Path) -> None:
    (tmp_path / "a file").write_text("in the way")
    (tmp_path / "empty").mkdir()
    with socket.socket() as sock:
        sock.bind(("127.0.0.1", 0))
        sock.listen()
        port = sock.getsockname()[1]
        for changes, problem in (
            ({"mlflow_port": port}, f"port {port} is in use by process {os.getpid()};.*VROOM_MLFLOW_PORT"),
            ({"data_dir": tmp_path / "empty"}, r"vehicles\.csv.* missing.*make run DATA="),
            ({"prefect_port": settings.web_port}, r"VROOM_WEB_PORT and VROOM_PREFECT_PORT are both \d+"),
            ({"home": tmp_path / "a file"}, r"cannot make folders.*VROOM_HOME"),
            ({"home": tmp_path / ("d" * 120)}, "too long for a socket"),
        ):
            with pytest.raises(StartError, match=problem):
                check(settings.model_copy(update=changes))


def test_the_programs_start_again_however_they_ended_and_a_home_with_a_space_stays_one_word() -> None:
    config = RawConfigParser()
    config.read(CONFIG)
    programs = [config[name] for name in config.sections() if name.startswith("program:")]
    assert [program.get("autorestart") for program in programs] == ["true"] * 6
    command = config["program:mlflow"]["command"].replace("%(ENV_VROOM_HOME)s", "/my car")
    words = shlex.split(command)  # as the supervisor does, after it put the environment in
    assert {"sqlite:////my car/mlflow/mlflow.db", "/my car/mlflow/artifacts"} < set(words)


@pytest.mark.parametrize(
    ("arguments", "exported"), [([], None), (["DATA=/srv/my cars"], 'VROOM_DATA_DIR="/srv/my cars"')]
)
def test_a_folder_is_handed_on_only_when_it_was_given(
    settings: Settings, monkeypatch: pytest.MonkeyPatch, arguments: list[str], exported: str | None
) -> None:
    command = ["make", "--dry-run", "--always-make", "run", *arguments]
    outer = {"DATA", "MAKEFLAGS", "MAKELEVEL", "MFLAGS"}  # of the make that runs the tests
    environment = {name: value for name, value in os.environ.items() if name not in outer}
    planned = subprocess.run(
        command, cwd=ROOT, env=environment, capture_output=True, text=True, check=True
    ).stdout.splitlines()[-1]
    assert planned.strip().endswith("-m flows up")
    assert exported in planned if exported else "VROOM_DATA_DIR" not in planned
    monkeypatch.delenv("VROOM_DATA_DIR", raising=False)
    assert "VROOM_DATA_DIR" not in child_environment(Settings(_env_file=None))
    assert child_environment(settings)["VROOM_DATA_DIR"] == str(settings.data_dir)


UNTIL_THE_SUPERVISOR_ENDS = """
from flows.local.up import supervised
from vroom_features.settings import Settings
with supervised(Settings(_env_file=None)) as (supervisor, _):
    supervisor.wait()
"""


def test_the_next_start_says_how_to_end_what_a_killed_one_left(settings: Settings) -> None:
    check(settings)
    with subprocess.Popen(
        [sys.executable, "-c", UNTIL_THE_SUPERVISOR_ENDS], cwd=ROOT, env=child_environment(settings)
    ) as starter:
        main = psutil.Process(starter.pid)
        processes = _all_that_start(main, settings)
        try:
            main.send_signal(signal.SIGKILL)
            starter.wait(90)
            with pytest.raises(StartError) as refused:
                check(settings)
            reason = str(refused.value)
            holder = re.search(
                rf"port {settings.redis_port} is in use by process (\d+); .*VROOM_REDIS_PORT", reason
            )
            assert holder
            assert int(holder[1]) in {process.pid for process in processes}
            (command,) = re.findall(r"pkill -s \d+", reason)
            subprocess.run(command.split(), check=True)
            _, left = psutil.wait_procs(processes, timeout=90)
            assert left == []
            check(settings)
        finally:
            for process in processes:
                if process.is_running():
                    process.kill()


@retry(
    stop=stop_after_delay(90),
    wait=wait_fixed(0.1),
    retry=retry_if_exception_type((OSError, httpx.TransportError, AssertionError)),
    reraise=True,
)
def _all_that_start(main: psutil.Process, settings: Settings) -> list[psutil.Process]:
    """Return the processes of the system once those that start by themselves serve."""
    health = httpx.get(f"http://127.0.0.1:{settings.web_port}/health?all=1", timeout=5).json()
    assert health["online_store"] == "up"
    assert len(health["workers"]) == settings.web_workers
    socket.create_connection(("127.0.0.1", settings.web_events_port), timeout=5).close()
    return [main, *main.children(recursive=True)]
