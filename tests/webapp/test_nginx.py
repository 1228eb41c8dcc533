"""The nginx configuration of docs/deploy.md in front of a server with two workers."""

import re
import shutil
import socket
import ssl
import subprocess
from collections.abc import Iterator
from contextlib import ExitStack
from pathlib import Path

import httpx
import pytest

from tests.factories import VEHICLE
from tests.ports import free_ports
from tests.webapp.test_server import NUM_WORKERS, running
from tests.webapp.waiting import wait_until
from vroom_features.settings import Settings
from webapp.__main__ import THREADS_A_WORKER

NGINX = shutil.which("nginx") or shutil.which("nginx", path="/usr/sbin")
DOC = Path(__file__).parents[2] / "docs" / "deploy.md"
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

pytestmark = [
    pytest.mark.packaging,
    pytest.mark.skipif(
        NGINX is None or shutil.which("openssl") is None, reason="nginx or openssl is not installed"
    ),
]


@pytest.fixture
def proxy_port(settings: Settings, champion: int, tmp_path: Path) -> Iterator[int]:
    app, proxy = free_ports(2)
    folder = tmp_path / "nginx"
    folder.mkdir()
    files = ["-keyout", str(folder / "forecast.key"), "-out", str(folder / "forecast.pem")]
    subprocess.run(
        ["openssl", "req", "-x509", "-nodes", "-newkey", "ed25519", "-subj", "/CN=forecast", *files],
        check=True,
        capture_output=True,
    )
    (configuration,) = re.findall(r"```nginx\n(.*?)```", DOC.read_text(), re.DOTALL)
    configuration = re.sub(r"server 10\.\S+ max_fails=2;", f"server 127.0.0.1:{app};", configuration, count=1)
    configuration = re.sub(r" server 10\.0\.0\.12:8000 max_fails=2;", "", configuration)
    configuration = configuration.replace("listen 443 ", f"listen 127.0.0.1:{proxy} ")
    configuration = configuration.replace("/etc/ssl", str(folder))
    path = folder / "nginx.conf"
    path.write_text(AROUND.format(folder=folder, configuration=configuration))
    with running(settings, app), subprocess.Popen([str(NGINX), "-c", str(path)]) as nginx:
        try:
            wait_until(lambda: is_open(proxy), timeout_s=10)
            yield proxy
        finally:
            nginx.terminate()


def is_open(port: int) -> bool:
    with socket.socket() as sock:
        return sock.connect_ex(("127.0.0.1", port)) == 0


def test_clients_that_drip_their_bodies_keep_nobody_waiting_behind_the_documented_proxy(
    proxy_port: int,
) -> None:
    trusting = ssl.create_default_context()
    trusting.check_hostname, trusting.verify_mode = False, ssl.CERT_NONE
    with (
        httpx.Client(base_url=f"https://127.0.0.1:{proxy_port}", verify=trusting, timeout=5) as client,
        ExitStack() as stack,
    ):
        slow = []
        for _ in range(NUM_WORKERS * THREADS_A_WORKER * 2 + 2):
            plain = stack.enter_context(socket.create_connection(("127.0.0.1", proxy_port), 10))
            slow.append(stack.enter_context(trusting.wrap_socket(plain)))
            slow[-1].sendall(b"POST /predict HTTP/1.1\r\nHost: 127.0.0.1\r\nContent-Length: 4000\r\n\r\n{")
        for _ in range(5):
            for connection in slow:
                connection.sendall(b" ")
            assert client.post("/predict", json=VEHICLE).raise_for_status().json()["model_version"]
        assert client.get("/metrics").status_code == 403
