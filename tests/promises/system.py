"""The system as `make run` starts it, from outside: HTTP, processes, files, SQL, other programs' clients.

Nothing here knows a module of the product, so these tests stay as they are while its inside changes.
"""

import csv
import json
import os
import signal
import sqlite3
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import closing, contextmanager, nullcontext, suppress
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path
from typing import Any
from uuid import uuid4

import httpx
import psutil
import redis as redis_py

from tests.ports import free_ports

ROOT = Path(__file__).parents[2]
MODEL_NAME = "vroom-forecast"


def _row_of_the_sample() -> dict[str, Any]:
    """Return a vehicle with whatever columns the sample has."""
    with (ROOT / "data" / "vehicles.csv").open(newline="") as file:
        row = next(csv.DictReader(file))
    return {name: json.loads(value) for name, value in row.items() if name != "vehicle_id"}


VEHICLE = _row_of_the_sample() | {
    "technology": 1,
    "actual_price": 45.0,
    "recommended_price": 50.0,
    "num_images": 4,
    "street_parked": 0,
    "description": 120,
}
PORTS = (
    "VROOM_WEB_PORT",
    "VROOM_WEB_EVENTS_PORT",
    "VROOM_REDIS_PORT",
    "VROOM_MLFLOW_PORT",
    "VROOM_PREFECT_PORT",
)
START_TIMEOUT_S = 300
STOP_TIMEOUT_S = 90
RUN_TIMEOUT_S = 180
POLL_S = 0.05
Json = dict[str, Any]  # a JSON object


def wait_until(is_so: Callable[[], object], *, timeout_s: float = 30.0) -> None:
    """Return as soon as the condition holds; an answer that cannot be had yet counts as no."""
    until = time.monotonic() + timeout_s
    while True:
        with suppress(httpx.HTTPError):
            if is_so():
                return
        assert time.monotonic() < until, f"not so after {timeout_s:.0f} s"
        time.sleep(POLL_S)


def ask_prefect(url: str, body: object) -> Any:  # parsed JSON
    """Post to Prefect, again while its SQLite is busy; return its answer."""
    answers: list[httpx.Response] = []

    def is_taken() -> bool:
        answers.append(httpx.post(url, json=body, timeout=30))
        return answers[-1].status_code != httpx.codes.SERVICE_UNAVAILABLE

    wait_until(is_taken)
    return answers[-1].raise_for_status().json()


@contextmanager
def started(
    command: Sequence[str],
    is_up: Callable[[], object],
    *,
    environment: Mapping[str, str] | None = None,
    cwd: Path = ROOT,
    log: Path | None = None,
) -> Iterator[None]:
    """Run a server for the time of the block, which begins once it is up."""
    with (
        log.open("w") if log else nullcontext() as output,
        subprocess.Popen(command, cwd=cwd, env=environment, stdout=output, stderr=output) as process,
    ):
        try:
            wait_until(lambda: process.poll() is not None or is_up(), timeout_s=START_TIMEOUT_S)
            assert process.poll() is None, command
            yield
        finally:
            process.terminate()
            process.wait(STOP_TIMEOUT_S)


def command_environment(**variables: object) -> dict[str, str]:
    """Return the environment of a command as a terminal has it, with these variables."""
    inherited = {name: value for name, value in os.environ.items() if not name.startswith(("MAKE", "MFLAGS"))}
    return inherited | {name: str(value) for name, value in variables.items()}


def features(*arguments: object, environment: Mapping[str, str]) -> "subprocess.CompletedProcess[str]":
    """Run `python -m vroom_features` to its end, whatever that is."""
    command = [sys.executable, "-m", "vroom_features", *map(str, arguments)]
    return subprocess.run(
        command, cwd=ROOT, env=environment, capture_output=True, text=True, timeout=120, check=False
    )


def report(*arguments: object, environment: Mapping[str, str]) -> Json:
    """Run `python -m vroom_features` and return what it printed with ``--json``."""
    done = features(*arguments, "--json", environment=environment)
    assert done.returncode == 0, done.stderr
    document: Json = json.loads(done.stdout)
    return document


def process_id(worker: str) -> int:
    """Return the process of a worker by its name, as `host:4711`."""
    return int(worker.rpartition(":")[2])


def lives(worker: Json) -> bool:
    """Tell whether a worker of `/health` is still there: what it said outlives it by some seconds."""
    return psutil.pid_exists(process_id(worker["worker"]))


@dataclass
class Web:
    """A web app that runs: what its clients see."""

    port: int

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.port}"

    def get(self, path: str, **options: Any) -> httpx.Response:  # as httpx takes them
        """Ask over a connection of its own, so that any worker may answer."""
        return httpx.get(f"{self.url}{path}", timeout=30, **options)

    def post(self, path: str, body: object = None, **options: Any) -> httpx.Response:  # as above
        return httpx.post(f"{self.url}{path}", json=body, timeout=30, **options)

    def health(self) -> Json:
        """Return how the app is, with what every worker says of itself."""
        return dict(self.get("/health", params={"all": "true"}).raise_for_status().json())

    def forecast(self) -> tuple[float, int]:
        answer = self.post("/predict", VEHICLE).raise_for_status().json()
        return answer["predicted_reservations"], answer["model_version"]

    def save(self, **changes: object) -> int:
        return int(self.post("/vehicles", VEHICLE | changes).raise_for_status().json()["vehicle_id"])

    def workers(self) -> dict[str, int | None]:
        """Return which version each worker says it serves, of those that live."""
        workers = self.health()["workers"] or ()  # without Redis nobody knows
        return {worker["worker"]: worker["model_version"] for worker in workers if lives(worker)}

    def serves(self, version: int) -> bool:
        """Tell whether all that answer, and all workers, are on a version and nothing is amiss."""
        answered = {self.forecast()[1] for _ in range(8)}
        return answered == {version} == set(self.workers().values()) and self.health()["status"] == "ok"


@dataclass
class System(Web):
    """Everything that `make run` started, with the environment that it was started in."""

    environment: dict[str, str]
    process: "subprocess.Popen[str]"
    _lines: list[str] = field(default_factory=list)

    def __post_init__(self) -> None:
        threading.Thread(target=self._read, daemon=True).start()

    def _read(self) -> None:
        assert self.process.stdout is not None
        with self.process.stdout as lines:
            self._lines.extend(lines)

    @property
    def output(self) -> str:
        return "".join(self._lines)

    @property
    def url(self) -> str:
        """Address of its pages, on the host that it listens on."""
        host = self.environment.get("VROOM_WEB_HOST", "127.0.0.1")
        return f"http://[{host}]:{self.port}" if ":" in host else f"http://{host}:{self.port}"

    @property
    def home(self) -> Path:
        """Folder of everything it writes."""
        return Path(self.environment["VROOM_HOME"])

    @property
    def data_dir(self) -> Path:
        """Folder of the CSVs that it seeds from."""
        return Path(self.environment["VROOM_DATA_DIR"])

    @property
    def prefect(self) -> str:
        """Address of Prefect's API."""
        return self.environment["PREFECT_API_URL"]

    @property
    def mlflow(self) -> str:
        return f"http://127.0.0.1:{self.environment['VROOM_MLFLOW_PORT']}"

    @property
    def operator(self) -> dict[str, str]:
        """Headers of a program that acts for the operator."""
        password = (self.home / "operator-password").read_text().strip()
        return {"Authorization": f"Bearer {password}"}

    @cached_property
    def redis(self) -> "redis_py.Redis[bytes]":
        return redis_py.Redis(port=int(self.environment["VROOM_REDIS_PORT"]), socket_timeout=10)

    @cached_property
    def registry(self) -> Any:  # mlflow.MlflowClient, which takes seconds to import
        from mlflow import MlflowClient  # noqa: PLC0415 - tests of the stores need none

        return MlflowClient(self.mlflow)

    def delete(self, path: str) -> httpx.Response:
        return httpx.delete(f"{self.url}{path}", headers=self.operator, timeout=30)

    def champion(self) -> int:
        """Return the version that the registry's alias names."""
        return int(self.registry.get_model_version_by_alias(MODEL_NAME, "champion").version)

    def move_alias(self, version: int) -> None:
        """Move the champion's alias as a person does in MLflow: nobody is told."""
        self.registry.set_registered_model_alias(MODEL_NAME, "champion", str(version))

    def reload(self) -> None:
        """Have every worker read the registry now."""
        self.post("/reload", headers=self.operator).raise_for_status()

    def sql(self, query: str, *values: object) -> list[tuple[Any, ...]]:  # whatever the columns hold
        return query_sqlite(self.home / "vroom.db", query, *values)

    def new_arrivals(self) -> set[int]:
        """Return the ids of vehicles that were saved and never booked."""
        return {row[0] for row in self.sql(f"SELECT vehicle_id FROM ({NEW_ARRIVALS})")}

    def _deployment(self, flow: str) -> str:
        found = httpx.get(f"{self.prefect}/deployments/name/{flow}/{flow}", timeout=30).raise_for_status()
        return f"{self.prefect}/deployments/{found.json()['id']}"

    def add_schedule(self, flow: str) -> None:
        """Have a deployment run every day, as a user sets it up in Prefect."""
        daily = {"active": True, "schedule": {"cron": "0 4 * * *"}}
        ask_prefect(f"{self._deployment(flow)}/schedules", [daily])

    def deploy_run(self, flow: str, **parameters: object) -> str:
        """Ask Prefect for a run of a deployment; return the run's id."""
        asked = {"parameters": parameters, "state": {"type": "SCHEDULED"}, "idempotency_key": uuid4().hex}
        url = f"{self._deployment(flow)}/create_flow_run"
        return str(ask_prefect(url, asked)["id"])

    def state_of(self, run_id: str) -> tuple[str, str]:
        """Return the type of a run's state, and its message."""
        answer = httpx.get(f"{self.prefect}/flow_runs/{run_id}", timeout=30)
        state = answer.json()["state"] if answer.is_success else {}
        return state.get("type", ""), state.get("message") or ""

    def is_ended(self, run_id: str) -> bool:
        """Tell whether a run has come to an end of any kind."""
        return self.state_of(run_id)[0] in {"COMPLETED", "FAILED", "CRASHED", "CANCELLED"}

    def end_of(self, run_id: str) -> tuple[str, str]:
        """Wait for a run's end; return the type of its state and its message."""
        wait_until(lambda: self.is_ended(run_id), timeout_s=RUN_TIMEOUT_S)
        return self.state_of(run_id)

    def run(self, flow: str, **parameters: object) -> str:
        """Run a deployment to its good end; return the message of its state."""
        kind, message = self.end_of(self.deploy_run(flow, **parameters))
        assert kind == "COMPLETED", message
        return message

    def stop(self) -> None:
        """Press Ctrl-C: the terminal sends it to all that run in it."""
        os.killpg(self.process.pid, signal.SIGINT)
        self.process.wait(STOP_TIMEOUT_S)


NEW_ARRIVALS = """
SELECT * FROM vehicles v WHERE source = 'ui'
AND NOT EXISTS (SELECT 1 FROM reservations r WHERE r.vehicle_id = v.vehicle_id)
"""


def query_sqlite(path: Path, query: str, *values: object) -> list[tuple[Any, ...]]:
    with closing(sqlite3.connect(path, timeout=30)) as connection:
        return connection.execute(query, values).fetchall()


@contextmanager
def running(
    home: Path,
    data_dir: Path,
    more: Mapping[str, object] | None = None,
    *,
    command: Sequence[str] = ("make", "--no-print-directory", "run"),
    cwd: Path = ROOT,
) -> Iterator[System]:
    """Start everything by `make run`, on free ports, until the main job is done; stop it at the end."""
    variables = {**dict(zip(PORTS, free_ports(len(PORTS)), strict=True)), **(more or {})}
    own = {
        "VROOM_HOME": home,
        "VROOM_DATA_DIR": data_dir,
        "VROOM_WEB_POLL_SECONDS": 1,
        "PREFECT_API_URL": f"http://127.0.0.1:{variables['VROOM_PREFECT_PORT']}/api",
        "PREFECT_HOME": home / "prefect",
    }
    environment = command_environment(**(own | variables))
    process = subprocess.Popen(
        command,
        cwd=cwd,
        env=environment,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        start_new_session=True,
    )
    system = System(int(environment["VROOM_WEB_PORT"]), environment, process)
    try:
        wait_until(
            lambda: "/sign-in?token=" in system.output or process.poll() is not None,
            timeout_s=START_TIMEOUT_S,
        )
        assert process.poll() is None, system.output
        yield system
    finally:
        if process.poll() is None:
            system.stop()


@contextmanager
def web_server(
    environment: Mapping[str, str],
    *,
    program: Path = ROOT,
    command: Sequence[str] = (sys.executable, "-m", "webapp"),
    **variables: object,
) -> Iterator[Web]:
    """Serve the web app with one worker, beside others or alone, once it answers."""
    web, events = free_ports(2)
    changed = {"VROOM_WEB_PORT": web, "VROOM_WEB_EVENTS_PORT": events, "VROOM_WEB_WORKERS": 1} | variables
    own = {**environment, **{name: str(value) for name, value in changed.items()}}
    server = Web(web)
    with started(command, lambda: server.health()["status"] != "loading", cwd=program, environment=own):
        yield server
