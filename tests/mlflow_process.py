"""A real MLflow server in a process of its own."""

import os
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import httpx

from tests.ports import free_port
from tests.promises.system import started


@contextmanager
def serve_mlflow(
    folder: Path, python: str = sys.executable, *options: str, wait: bool = True, database: str = ""
) -> Iterator[str]:
    """Serve MLflow from ``folder`` on a free port; yield its address once it answers.

    Its database is a SQLite file there, unless another one is given.
    """
    url = f"http://127.0.0.1:{(port := free_port())}"
    command = [python, "-m", "mlflow", "server", "--host", "127.0.0.1", "--port", str(port)]
    command += ["--workers", "1", "--backend-store-uri", database or f"sqlite:///{folder / 'mlflow.db'}"]
    command += ["--artifacts-destination", str(folder / "artifacts"), *options]
    environment = os.environ | {
        "MLFLOW_SERVER_ENABLE_JOB_EXECUTION": "false",
        "MLFLOW_DISABLE_TELEMETRY": "true",
        "PATH": f"{Path(python).parent}{os.pathsep}{os.environ['PATH']}",
    }
    with started(command, lambda: not wait or is_up(url), environment=environment, log=folder / "log"):
        yield url


def is_up(url: str) -> bool:
    return httpx.get(f"{url}/health").is_success
