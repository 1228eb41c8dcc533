"""Servers in processes of their own: MLflow, those of the web app, nginx; and settings of a system."""

import os
import shutil
import socket
import subprocess
import sys
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from unittest.mock import patch

import httpx
import pytest

from tests.ports import free_port, free_ports
from tests.promises.system import PORTS, ROOT, started
from vroom_features.settings import Settings

NGINX = shutil.which("nginx") or shutil.which("nginx", path="/usr/sbin")
CONF = ROOT / "deploy" / "nginx.conf"
KEY = ("-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:prime256v1")  # of a kind that Chromium takes
AROUND = """
daemon off;
pid {folder}/pid;
error_log {folder}/log;
events {{ worker_connections 1024; }}
http {{
  access_log off;
  client_body_temp_path {folder}/body;
  proxy_temp_path {folder}/proxy;
  {configuration}
}}
"""

needs_nginx = pytest.mark.skipif(
    not (NGINX and shutil.which("openssl")), reason="nginx or openssl is not installed"
)


def settings_in(environment: Mapping[str, str]) -> Settings:
    """Return the settings of a program with this environment."""
    with patch.dict(os.environ, environment, clear=True):
        return Settings(_env_file=None)


def system_settings(home: Path, data_dir: Path = ROOT / "data") -> Settings:
    """Return settings with free ports."""
    ports = {name: str(port) for name, port in zip(PORTS, free_ports(len(PORTS)), strict=True)}
    return settings_in(ports | {"VROOM_HOME": str(home), "VROOM_DATA_DIR": str(data_dir)})


@contextmanager
def serving(what: str, port: int, environment: Mapping[str, str]) -> Iterator[str]:
    """Run a server of the web app for the time of the block; yield its address once it answers."""
    url = f"http://127.0.0.1:{port}"
    command = [sys.executable, "-m", "webapp", what]
    with started(command, lambda: is_up(url), environment=environment):
        yield url


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


@contextmanager
def documented_nginx(folder: Path, port: int, *, app: str, events: str) -> Iterator[None]:
    """Serve HTTPS as deploy/nginx.conf says, in front of one web server and one of event streams."""
    files = ["-keyout", str(folder / "forecast.key"), "-out", str(folder / "forecast.pem")]
    subprocess.run(
        ["openssl", "req", "-x509", "-nodes", *KEY, "-subj", "/CN=forecast", *files],
        check=True,
        capture_output=True,
    )
    configuration = CONF.read_text().replace("server web:8000", f"server {app}")
    configuration = configuration.replace("server events:8001", f"server {events}")
    configuration = configuration.replace("listen 80;", f"listen 127.0.0.1:{free_port()};")
    configuration = configuration.replace("listen 443 ", f"listen 127.0.0.1:{port} ")
    for installed in ("/etc/nginx/tls", "/var/log/nginx"):
        configuration = configuration.replace(installed, str(folder))
    path = folder / "nginx.conf"
    path.write_text(AROUND.format(folder=folder, configuration=configuration))
    with started([str(NGINX), "-c", str(path)], lambda: is_open(port)):
        yield


def is_open(port: int) -> bool:
    with socket.socket() as sock:
        return sock.connect_ex(("127.0.0.1", port)) == 0
