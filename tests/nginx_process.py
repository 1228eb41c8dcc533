"""nginx in front of the web app, as deploy/nginx.conf says."""

import shutil
import socket
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from tests.ports import free_port
from tests.promises.system import ROOT, started

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


@contextmanager
def documented_nginx(folder: Path, port: int, *, app: str, events: str) -> Iterator[None]:
    """Serve HTTPS on a port of loopback, in front of one web server and one of event streams."""
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
