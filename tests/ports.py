"""Ports of loopback for the servers that tests start."""

import os
import socket
from collections.abc import Iterator

LOWEST = 20_000  # below the ephemeral ports, any of which a connection may take
PER_WORKER = 1_500  # each pytest worker has its own range


def _candidates() -> Iterator[int]:
    worker = int(os.environ.get("PYTEST_XDIST_WORKER", "gw0").removeprefix("gw")) % 8
    offset = os.getpid()  # so that two runs at once seldom meet
    while True:
        yield LOWEST + worker * PER_WORKER + offset % PER_WORKER
        offset += 1


_next = _candidates()


def free_port() -> int:
    """Return a port that nothing listens on, and that is not returned again soon."""
    return next(filter(_is_free, _next))


def _is_free(port: int) -> bool:
    with socket.socket() as sock:
        sock.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            sock.bind(("127.0.0.1", port))
        except OSError:
            return False
    return True


def free_ports(count: int) -> list[int]:
    return [free_port() for _ in range(count)]
