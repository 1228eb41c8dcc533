"""Start the whole system on this machine: check, supervise, run the main job once, wait, stop everything."""

import os
import secrets
import shutil
import signal
import socket
import subprocess
import sys
import sysconfig
from collections.abc import Iterator, Mapping
from contextlib import closing, contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from types import FrameType

import httpx
import psutil
import redis
from rich.console import Console
from tenacity import RetryError, Retrying, retry_if_exception_type, stop_after_delay, wait_fixed

from vroom_features.errors import DataContractError
from vroom_features.ingest.csv_files import find_csv
from vroom_features.online.redis_client import node_url
from vroom_features.settings import Settings

ROOT = Path(__file__).resolve().parents[2]
CONFIG = ROOT / "supervisord.conf"
FREE_BYTES_NEEDED = 500_000_000
SOCKET_PATH_MAX = 100  # the system's limit for a Unix socket is about 108 characters
START_TIMEOUT_S = 120
STOP_TIMEOUT_S = 60


class StartError(Exception):
    """The system cannot start; the message says why and what to do."""


def up(settings: Settings, console: Console) -> int:
    """Start everything, run the main job, and stay until Ctrl-C, SIGTERM or the terminal's end.

    Returns
    -------
    int
        Exit code: 0 when stopped on request, 1 when something did not come up.
    """
    settings = settings.model_copy(update={"home": settings.home.resolve()})
    os.umask(0o077)  # what this and every process below it writes is for its owner alone
    for name in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):  # Ctrl-C, a supervisor, a closed terminal
        signal.signal(name, _interrupt)
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
    """Refuse to start where it cannot work: no folder, no space, a port in use.

    Raises
    ------
    StartError
        With what is in the way and the setting that moves it.
    """
    for name in ("vehicles.csv", "reservations.csv"):
        try:
            find_csv(settings.data_dir, name)
        except DataContractError as exc:
            raise StartError(f"{exc}; give a folder that has it: make run DATA=folder") from exc
    try:
        settings.home.mkdir(parents=True, exist_ok=True, mode=0o700)  # it holds secrets and logs
        for folder in ("log", "redis", "mlflow", "prefect"):
            (settings.home / folder).mkdir(exist_ok=True)
    except OSError as exc:
        raise StartError(
            f"cannot make folders in {settings.home}: {exc.strerror}; set VROOM_HOME elsewhere"
        ) from exc
    if len(str(settings.home / "supervisor.sock")) > SOCKET_PATH_MAX:
        raise StartError(
            f"the path {settings.home} is too long for a socket; set VROOM_HOME to a shorter one"
        )
    free = shutil.disk_usage(settings.home).free
    if free < FREE_BYTES_NEEDED:
        raise StartError(
            f"{settings.home} has {free / 1e6:.0f} MB free and needs {FREE_BYTES_NEEDED / 1e6:.0f} MB"
        )
    ports = {
        "VROOM_WEB_PORT": settings.web_port,
        "VROOM_WEB_EVENTS_PORT": settings.web_events_port,
        "VROOM_REDIS_PORT": settings.redis_port,
        "VROOM_MLFLOW_PORT": settings.mlflow_port,
        "VROOM_PREFECT_PORT": settings.prefect_port,
    }
    for name, port in ports.items():
        if others := [other for other in ports if other != name and ports[other] == port]:
            raise StartError(f"{name} and {others[0]} are both {port}; give each a port of its own")
    if in_use := {name: port for name, port in ports.items() if not _is_free(port)}:
        raise StartError(_describe_in_use(in_use, settings.home))


def _is_free(port: int) -> bool:
    with closing(socket.socket()) as sock:
        sock.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            sock.bind(("127.0.0.1", port))
        except OSError:
            return False
    return True


def _describe_in_use(ports: Mapping[str, int], home: Path) -> str:
    """Say who holds each port, and how to end it; a start that is killed leaves its session behind."""
    holders = _listening_processes()
    lines = [
        f"port {port} is in use by {f'process {holders[port].pid}' if port in holders else 'another user'}; "
        f"stop it or set {name} to a free one"
        for name, port in ports.items()
    ]
    pid_file = home / "supervisord.pid"
    earlier = int(pid_file.read_text()) if pid_file.exists() else None
    if earlier in {holders[port].session for port in ports.values() if port in holders}:
        lines.append(f"An earlier start left them behind; to end all that it started: pkill -s {earlier}")
    return "\n".join(lines)


@dataclass(frozen=True, slots=True)
class Holder:
    """A process that listens on a port, and the session it belongs to."""

    pid: int
    session: int


def _listening_processes() -> dict[int, Holder]:
    """Return which process listens on which port, of those that this user may look at."""
    found = {}
    for process in psutil.process_iter():
        with suppress(psutil.Error, ProcessLookupError):
            for connection in process.net_connections("tcp"):
                if connection.status == psutil.CONN_LISTEN:
                    found[connection.laddr.port] = Holder(process.pid, os.getsid(process.pid))
    return found


@contextmanager
def supervised(settings: Settings) -> Iterator[tuple["subprocess.Popen[bytes]", dict[str, str]]]:
    """Run supervisord for the time of the block, and stop all it started at the end."""
    environment = child_environment(settings)
    command = [_program("supervisord"), "-c", str(CONFIG)]
    # In a session of its own, so that a Ctrl-C reaches this process alone, which then stops the others.
    supervisor = subprocess.Popen(command, env=environment, start_new_session=True)  # noqa: S603
    try:
        yield supervisor, environment
    finally:
        supervisor.terminate()
        try:
            supervisor.wait(STOP_TIMEOUT_S)
        except subprocess.TimeoutExpired:
            supervisor.kill()
            supervisor.wait()


def child_environment(settings: Settings) -> dict[str, str]:
    """Return the environment of every process: the resolved settings, and no call home."""
    return os.environ | {
        "PATH": f"{sysconfig.get_path('scripts')}{os.pathsep}{os.environ.get('PATH', '')}",
        "PYTHONUNBUFFERED": "1",
        "VROOM_HOME": str(settings.home),
        **({"VROOM_DATA_DIR": str(settings.data_dir.resolve())} if settings.is_data_dir_set else {}),
        "VROOM_WEB_HOST": settings.web_host,
        "VROOM_WEB_PORT": str(settings.web_port),
        "VROOM_WEB_EVENTS_PORT": str(settings.web_events_port),
        "VROOM_WEB_WORKERS": str(settings.web_workers),
        "VROOM_REDIS_PORT": str(settings.redis_port),
        "VROOM_MLFLOW_PORT": str(settings.mlflow_port),
        "VROOM_PREFECT_PORT": str(settings.prefect_port),
        "PREFECT_HOME": str(settings.home / "prefect"),
        "PREFECT_API_URL": f"http://127.0.0.1:{settings.prefect_port}/api",
        "PREFECT_SERVER_CORS_ALLOWED_ORIGINS": f"http://127.0.0.1:{settings.prefect_port}",
        "PREFECT_SERVER_SERVICES_DB_VACUUM_ENABLED": "events,flow_runs",
        "PREFECT_SERVER_SERVICES_DB_VACUUM_RETENTION_PERIOD": str(settings.keep_runs_days * 86_400),
        "DO_NOT_TRACK": "1",
        "MLFLOW_DISABLE_TELEMETRY": "true",
    }


def _bring_up(settings: Settings, environment: dict[str, str], console: Console) -> None:
    """Start the services in order and run the main job once."""
    page = f"http://{settings.web_host}:{settings.web_port}"
    with console.status("Starting Redis and the web app"):
        _wait_for_redis(settings)
        _wait_for("web", f"{page}/health", settings)
    console.print(f"The page is open at {page} and says what it waits for.", highlight=False)
    with console.status("Starting MLflow and Prefect"):
        _run(environment, "supervisorctl", "-c", str(CONFIG), "start", "mlflow", "prefect")
        _wait_for("mlflow", f"{settings.mlflow}/health", settings)
        _wait_for("prefect", f"http://127.0.0.1:{settings.prefect_port}/api/health", settings)
    console.print("MLflow and Prefect are up.")
    with console.status("Deploying the flows"):
        _make_work_pool(environment["PREFECT_API_URL"])
        _run(environment, "supervisorctl", "-c", str(CONFIG), "start", "worker")
        _run(environment, "prefect", "--no-prompt", "deploy", "--all")
    subprocess.run([sys.executable, "-m", "flows", "first-run"], cwd=ROOT, env=environment, check=False)
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


def _make_work_pool(api: str) -> None:
    """Make the pool that the flows are deployed to; the command for it takes four seconds to load."""
    answer = httpx.post(f"{api}/work_pools/", json={"name": "vroom", "type": "process"}, timeout=30)
    if not answer.is_success and answer.status_code != httpx.codes.CONFLICT:  # it is there already
        raise StartError(f"Prefect does not make the work pool: {answer.status_code} {answer.text}")


def _wait_for(name: str, url: str, settings: Settings) -> None:
    """Wait until a service answers at all."""
    try:
        for attempt in _retrying(httpx.TransportError):
            with attempt:
                httpx.get(url, timeout=5)
    except RetryError as exc:
        raise StartError(f"{name} did not answer; see {settings.home / 'log' / name}.log") from exc


def _wait_for_redis(settings: Settings) -> None:
    """Wait until Redis answers."""
    try:
        with redis.Redis.from_url(node_url(settings.redis)) as client:
            for attempt in _retrying(redis.RedisError):
                with attempt:
                    client.ping()
    except RetryError as exc:
        raise StartError(f"Redis did not answer; see {settings.home / 'log' / 'redis.log'}") from exc


def _retrying(error: type[Exception]) -> Retrying:
    return Retrying(
        stop=stop_after_delay(START_TIMEOUT_S), wait=wait_fixed(0.1), retry=retry_if_exception_type(error)
    )


def _run(environment: dict[str, str], program: str, *arguments: str) -> None:
    """Run an installed command to its end; its output is shown only when it fails."""
    command = [_program(program), *arguments]
    done = subprocess.run(command, cwd=ROOT, env=environment, capture_output=True, text=True, check=False)  # noqa: S603
    if done.returncode:
        raise StartError(f"`{program} {' '.join(arguments)}` failed: {(done.stdout + done.stderr).strip()}")


def _program(name: str) -> str:
    """Return the path of a command that was installed with this Python."""
    return str(Path(sysconfig.get_path("scripts")) / name)


def _interrupt(_signal: int, _frame: FrameType | None) -> None:
    raise KeyboardInterrupt
