"""A real MLflow server in a process of its own."""

import os
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import httpx
import tenacity

from tests.ports import free_port

START_TIMEOUT_S = 240


@contextmanager
def serve_mlflow(folder: Path, python: str = sys.executable) -> Iterator[str]:
    """Serve MLflow from a SQLite file in ``folder`` on a free port; yield its address once it answers."""
    url = f"http://127.0.0.1:{(port := free_port())}"
    command = [python, "-m", "mlflow", "server", "--host", "127.0.0.1", "--port", str(port)]
    command += ["--workers", "1", "--backend-store-uri", f"sqlite:///{folder / 'mlflow.db'}"]
    command += ["--artifacts-destination", str(folder / "artifacts")]
    environment = os.environ | {
        "MLFLOW_SERVER_ENABLE_JOB_EXECUTION": "false",
        "MLFLOW_DISABLE_TELEMETRY": "true",
        "PATH": f"{Path(python).parent}{os.pathsep}{os.environ['PATH']}",
    }
    with (
        (folder / "log").open("w") as log,
        subprocess.Popen(command, env=environment, stdout=log, stderr=subprocess.STDOUT) as server,
    ):
        try:
            _wait_for(f"{url}/health", server, folder / "log")
            yield url
        finally:
            server.terminate()


def _wait_for(url: str, server: "subprocess.Popen[bytes]", log: Path) -> None:
    attempts = tenacity.Retrying(
        wait=tenacity.wait_fixed(0.1),
        stop=tenacity.stop_after_delay(START_TIMEOUT_S),
        retry=tenacity.retry_if_exception_type(httpx.HTTPError),
        reraise=True,
    )
    for attempt in attempts:
        with attempt:
            assert server.poll() is None, log.read_text()
            httpx.get(url, timeout=1).raise_for_status()
