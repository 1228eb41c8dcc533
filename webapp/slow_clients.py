"""Clients that let a request hang are cut off: each holds a thread of its worker until its request is whole.

The server times headers and nothing else, and does not tell the app which connection a request came on.  The
kernel does: of each connection it knows when something last came and went, and how much the client took.  Its
clock ticks every few milliseconds, though, and a connection whose next request begins within a tick of the
last answer looks idle to it.  So the app's threads are watched too: while one is held for too long, no
connection may be still for longer than that.
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
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Self
from wsgiref.types import StartResponse, WSGIApplication, WSGIEnvironment

from flask import Flask

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
        True while there is a request without an answer, or an answer that the client does not take; False
        also where the kernel cannot tell.
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


class Threads:
    """WSGI middleware that knows since when each thread has been held.

    Parameters
    ----------
    app : WSGI application
        What reads requests and answers them.
    """

    def __init__(self, app: WSGIApplication) -> None:
        self._app = app
        self._since: dict[int, float] = {}

    def __call__(self, environ: WSGIEnvironment, start_response: StartResponse) -> Iterable[bytes]:
        """Have the app answer."""
        thread = threading.get_ident()
        self._since[thread] = time.monotonic()
        try:
            return self._app(environ, start_response)
        finally:
            del self._since[thread]

    def held_s(self) -> float:
        """Return for how long the one that is held longest has been; 0 if none is."""
        now = time.monotonic()
        return now - min(list(self._since.values()), default=now)


class SlowClients:
    """Cut off connections that get no further.

    Parameters
    ----------
    threads : Threads
        The app's.
    limit_s : float
        How long a request may take to be whole and answered, and an answer to be taken a little further.
    """

    def __init__(self, threads: Threads, limit_s: float) -> None:
        self._threads = threads
        self._limit_s = limit_s
        self._waiting: dict[int, tuple[int, float]] = {}

    def look(self) -> int:
        """Look at every connection once, and return how many were cut off."""
        num_cut, before = 0, self._waiting
        self._waiting = {}
        still_s = self._limit_s if self._threads.held_s() > self._limit_s else IDLE_FACTOR * self._limit_s
        with own_sockets() as sockets:
            ports = {sock.getsockname()[1] for sock in sockets if is_listening(sock)}
            for sock in sockets:
                try:
                    is_client = sock.getsockname()[1] in ports and not is_listening(sock)
                    if is_client and self._is_late(sock, before, still_s):
                        sock.shutdown(socket.SHUT_RDWR)
                        num_cut += 1
                except OSError:  # gone meanwhile
                    continue
        return num_cut

    def _is_late(self, sock: socket.socket, before: Mapping[int, tuple[int, float]], still_s: float) -> bool:
        """Tell whether a connection got no further for too long; note since when, by the socket's inode."""
        progress = Progress.of(sock)
        if not progress.is_waiting:
            return progress.quiet_s > still_s
        inode, now = os.fstat(sock.fileno()).st_ino, time.monotonic()
        num_taken, since = before.get(inode, (-1, now))
        if progress.num_taken != num_taken:
            since = now
        self._waiting[inode] = (progress.num_taken, since)
        return now - since > self._limit_s


def watch(app: Flask, limit_s: float) -> threading.Thread | None:
    """Cut slow clients of an app off in the background; only Linux says enough of its connections."""
    if sys.platform != "linux":
        return None
    app.wsgi_app = threads = Threads(app.wsgi_app)  # type: ignore[method-assign]  # as Flask documents
    clients = SlowClients(threads, limit_s)

    def look_for_ever() -> None:
        pause = threading.Event()
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
