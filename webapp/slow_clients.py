"""Clients that let a request hang are cut off: each holds a thread of its worker until its request is whole.

The server times headers and nothing else, and does not tell the app which connection a request came on.  The
kernel does: of each connection it knows when something last came and went, and how much the client took.
"""

import fcntl
import logging
import os
import socket
import struct
import sys
import termios
import threading
import time
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Self

from webapp.sockets import is_listening, own_sockets

logger = logging.getLogger(__name__)

LOOK_INTERVAL_S = 1.0
IDLE_FACTOR = 5
"""So many times longer may a connection stay on which nothing moves: proxies keep one for less."""


@dataclass(frozen=True, slots=True)
class Progress:
    """How far a connection is.

    Parameters
    ----------
    num_taken : int
        Bytes of answers that the client has taken.
    quiet_s : float
        Since something last came or went.
    is_waiting : bool
        True while there is a request without an answer, or an answer that the client does not take.
    """

    num_taken: int
    quiet_s: float
    is_waiting: bool

    @classmethod
    def of(cls, sock: socket.socket) -> Self:
        """Ask the kernel (``struct tcp_info`` of Linux)."""
        info = sock.getsockopt(socket.IPPROTO_TCP, socket.TCP_INFO, 128)
        sent_ms, _, received_ms = struct.unpack_from("=3I", info, 44)
        (num_taken,) = struct.unpack_from("=Q", info, 120)
        (num_unsent,) = struct.unpack("i", fcntl.ioctl(sock, termios.TIOCOUTQ, b"\0" * 4))
        return cls(
            num_taken=num_taken,
            quiet_s=min(sent_ms, received_ms) / 1000,
            is_waiting=received_ms < sent_ms or num_unsent > 0,
        )


class SlowClients:
    """Cut off connections that get no further.

    Parameters
    ----------
    limit_s : float
        How long a request may take to be whole and answered, and an answer to be taken a little further.
    """

    def __init__(self, limit_s: float) -> None:
        self._limit_s = limit_s
        self._waiting: dict[int, tuple[int, float]] = {}

    def look(self) -> int:
        """Look at every connection once, and return how many were cut off."""
        num_cut, before = 0, self._waiting
        self._waiting = {}
        with own_sockets() as sockets:
            ports = {sock.getsockname()[1] for sock in sockets if is_listening(sock)}
            for sock in sockets:
                try:
                    is_client = sock.getsockname()[1] in ports and not is_listening(sock)
                    if is_client and self._is_late(sock, before):
                        sock.shutdown(socket.SHUT_RDWR)
                        num_cut += 1
                except OSError:  # gone meanwhile
                    continue
        return num_cut

    def _is_late(self, sock: socket.socket, before: Mapping[int, tuple[int, float]]) -> bool:
        """Tell whether a connection got no further for too long; note since when, by the socket's inode."""
        progress = Progress.of(sock)
        if not progress.is_waiting:
            return progress.quiet_s > IDLE_FACTOR * self._limit_s
        inode, now = os.fstat(sock.fileno()).st_ino, time.monotonic()
        num_taken, since = before.get(inode, (-1, now))
        if progress.num_taken != num_taken:
            since = now
        self._waiting[inode] = (progress.num_taken, since)
        return now - since > self._limit_s


def watch(limit_s: float) -> threading.Thread | None:
    """Cut slow clients off in the background; only Linux says enough of its connections."""
    if sys.platform != "linux":
        return None

    def look_for_ever() -> None:
        clients, pause = SlowClients(limit_s), threading.Event()
        while True:
            pause.wait(LOOK_INTERVAL_S)
            try:
                num_cut = clients.look()
            except OSError as exc:  # out of file handles, say
                logger.warning("connections were not looked at: %s", exc)
                continue
            if num_cut:
                logger.warning("connections that got no further were cut off, connections=%s", num_cut)

    thread = threading.Thread(target=look_for_ever, name="slow-clients", daemon=True)
    thread.start()
    return thread
