"""Clients that send their requests a byte at a time, or headers without end, do not keep others waiting."""

import socket
from collections.abc import Iterator
from contextlib import ExitStack, suppress
from pathlib import Path

import httpx
import pytest

from tests.factories import VEHICLE
from tests.ports import free_port
from tests.webapp.test_server import Server, running
from vroom_features.settings import Settings

NUM_SLOW = 24
HEAD = b"POST /predict HTTP/1.1\r\nHost: 127.0.0.1\r\nContent-Type: application/json\r\n"
SLOW = {
    "headers": HEAD + b"X-Slow: ",
    "body": HEAD + b"Content-Length: 4000\r\n\r\n",
    "chunks": HEAD + b"Transfer-Encoding: chunked\r\n\r\n",
}


@pytest.fixture
def server(settings: Settings, champion: int, tmp_path: Path) -> Iterator[Server]:
    with running(settings, free_port(), tmp_path / "log") as server:
        yield server


def test_slow_clients_and_endless_headers_keep_nobody_waiting(server: Server) -> None:
    for kind, start in SLOW.items():
        with ExitStack() as stack:
            slow = [
                stack.enter_context(socket.create_connection(("127.0.0.1", server.port), 10))
                for _ in range(NUM_SLOW)
            ]
            for connection in slow:
                connection.sendall(start)
            for _ in range(20):
                for connection in slow:
                    connection.sendall(b"1\r\n \r\n" if kind == "chunks" else b" ")
                forecast = httpx.post(f"{server.url}/predict", json=VEHICLE, timeout=30)
                assert forecast.status_code == 200, kind
    with socket.create_connection(("127.0.0.1", server.port), 10) as endless:
        answer = b""
        with suppress(ConnectionError):  # it may close before it has read all
            endless.sendall(HEAD + b"X-Long: " + b"a" * 600_000)
            answer = endless.recv(13)
        assert answer in {b"", b"HTTP/1.1 431 "}
    assert httpx.post(f"{server.url}/predict", json=VEHICLE, timeout=30).status_code == 200
