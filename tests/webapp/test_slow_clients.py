"""Clients that send their requests a byte at a time, or headers without end, do not keep others waiting."""

import json
import socket
import time
from collections.abc import Iterator
from contextlib import ExitStack, suppress
from pathlib import Path

import httpx
import pytest

from tests.factories import VEHICLE
from tests.ports import free_port
from tests.webapp.test_server import NUM_WORKERS, Server, running
from tests.webapp.waiting import wait_until
from vroom_features.settings import Settings
from webapp.__main__ import THREADS_A_WORKER
from webapp.slow_clients import IDLE_FACTOR

NUM_SLOW = 24
NUM_KEPT = 16
HEAD = b"POST /predict HTTP/1.1\r\nHost: 127.0.0.1\r\nContent-Type: application/json\r\n"
SLOW = {
    "headers": HEAD + b"X-Slow: ",
    "body": HEAD + b"Content-Length: 4000\r\n\r\n",
    "chunks": HEAD + b"Transfer-Encoding: chunked\r\n\r\n",
}


LIMIT_S = 1


@pytest.fixture
def server(settings: Settings, champion: int, tmp_path: Path) -> Iterator[Server]:
    with running(settings, free_port(), tmp_path / "log") as server:
        yield server


@pytest.fixture
def strict_server(monkeypatch: pytest.MonkeyPatch, request: pytest.FixtureRequest) -> Server:
    """Return a server that waits for no client longer than a second."""
    monkeypatch.setenv("VROOM_WEB_REQUEST_SECONDS", str(LIMIT_S))
    server: Server = request.getfixturevalue("server")
    return server


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


def speaks_http_2(port: int) -> bool:
    """Tell whether a server takes up HTTP/2 with a client that begins with it."""
    with socket.create_connection(("127.0.0.1", port), 10) as connection:
        connection.sendall(b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n" + b"\0\0\0\4\0\0\0\0\0")  # no settings
        try:
            return connection.recv(5) not in {b"", b"HTTP/"}
        except ConnectionError:
            return False


def test_http_2_whose_pings_would_keep_a_request_going_is_not_spoken(server: Server) -> None:
    assert not speaks_http_2(server.port)


def is_cut_off(connection: socket.socket, *, drips: bool) -> bool:
    """Tell whether the server closed a connection, after sending one more byte where it drips."""
    try:
        if drips:
            connection.sendall(b" ")
        connection.settimeout(0.01)
        return connection.recv(1) == b""
    except TimeoutError:
        return False
    except ConnectionError:
        return True


@pytest.mark.parametrize("drips", [True, False], ids=["dripping", "silent"])
def test_bodies_without_end_are_cut_off_and_forecasts_go_on(strict_server: Server, drips: bool) -> None:
    with ExitStack() as stack:
        slow = [
            stack.enter_context(socket.create_connection(("127.0.0.1", strict_server.port), 10))
            for _ in range(2 * NUM_WORKERS * THREADS_A_WORKER)
        ]
        for connection in slow:
            connection.sendall(SLOW["body"])
        remaining = set(slow)

        def all_are_cut_off() -> bool:
            remaining.difference_update([one for one in remaining if is_cut_off(one, drips=drips)])
            return not remaining

        wait_until(all_are_cut_off, timeout_s=20 * LIMIT_S)
        assert httpx.post(f"{strict_server.url}/predict", json=VEHICLE, timeout=5).status_code == 200


BODY = json.dumps(VEHICLE).encode()
WHOLE = HEAD + b"Content-Length: %d\r\n\r\n" % len(BODY) + BODY


@pytest.mark.parametrize("earlier", ["none", "answered", "in one packet"])
def test_a_request_that_begins_within_a_tick_of_what_came_before_is_cut_off_as_soon(
    strict_server: Server, earlier: str
) -> None:
    with ExitStack() as stack:
        slow = []
        for _ in range(NUM_KEPT):
            connection = socket.create_connection(("127.0.0.1", strict_server.port), 10)
            slow.append(stack.enter_context(connection))
            if earlier == "answered":
                connection.sendall(WHOLE)
                assert connection.recv(4096).startswith(b"HTTP/1.1 200 ")
            connection.sendall(WHOLE + SLOW["body"] if earlier == "in one packet" else SLOW["body"])
        started = time.monotonic()

        def are_cut_off() -> bool:
            return all(is_at_end(connection) for connection in slow)

        wait_until(are_cut_off, timeout_s=20 * LIMIT_S)
        assert time.monotonic() - started < (IDLE_FACTOR - 1) * LIMIT_S


def is_at_end(connection: socket.socket) -> bool:
    """Read what is there, and tell whether the server closed the connection."""
    connection.settimeout(0.01)
    try:
        while connection.recv(4096):
            pass
    except TimeoutError:
        return False
    except ConnectionError:
        return True
    return True


def test_clients_that_keep_their_connections_may_wait_between_their_requests(strict_server: Server) -> None:
    with ExitStack() as stack:
        clients = [
            stack.enter_context(httpx.Client(base_url=strict_server.url, trust_env=False))
            for _ in range(NUM_KEPT)
        ]
        used = []
        for pause_s in (0, 3 * LIMIT_S):
            time.sleep(pause_s)
            answers = [client.post("/predict", json=VEHICLE) for client in clients]
            assert {answer.status_code for answer in answers} == {200}
            streams = [answer.extensions["network_stream"] for answer in answers]
            used.append([stream.get_extra_info("client_addr") for stream in streams])
        assert used[0] == used[1]


def test_an_answer_that_is_not_taken_is_given_up(strict_server: Server) -> None:
    with socket.create_connection(("127.0.0.1", strict_server.port), 10) as greedy:
        ask = b"GET /openapi.json HTTP/1.1\r\nHost: 127.0.0.1\r\n\r\n"
        greedy.settimeout(0.5)
        with suppress(TimeoutError):  # the server reads no more while it cannot write
            while True:
                greedy.sendall(ask)
        greedy.settimeout(1)

        def is_reset() -> bool:
            try:
                greedy.sendall(ask)
            except TimeoutError:
                return False
            except ConnectionError:
                return True
            return False

        wait_until(is_reset, timeout_s=20 * LIMIT_S)
