"""Stopping without losing a connection: new ones are turned away before the old ones are let go.

A server that simply closes its listening socket resets connections that the kernel has accepted and the
server has not.  So when the server drains, each worker first has the kernel ignore new connections (a client
tries again and is then refused, or meets the next server) while those under way are taken and answered.
"""

import ctypes
import logging
import os
import socket
import struct
import sys
import threading
from pathlib import Path

from webapp.server_folder import Draining

logger = logging.getLogger(__name__)

LOOK_INTERVAL_S = 0.05
SO_ATTACH_FILTER = 26
# Classic BPF over the TCP header: of the flags SYN and ACK (byte 13), drop what has SYN alone.
DROP_NEW = [
    (0x30, 0, 0, 13),
    (0x54, 0, 0, 0x12),
    (0x15, 0, 1, 0x02),
    (0x06, 0, 0, 0),
    (0x06, 0, 0, 0xFFFFFFFF),
]


def watch(draining: Draining) -> threading.Thread:
    """Wait in the background for the server to drain, then turn new connections away."""

    def wait_and_close() -> None:
        pause = threading.Event()
        while not draining:
            pause.wait(LOOK_INTERVAL_S)
        turn_away()

    thread = threading.Thread(target=wait_and_close, name="doorkeeper", daemon=True)
    thread.start()
    return thread


def turn_away() -> int:
    """Have the kernel ignore new connections to this process; return how many sockets listened."""
    if sys.platform != "linux":
        return 0
    listening = [sock for sock in _sockets() if sock.getsockopt(socket.SOL_SOCKET, socket.SO_ACCEPTCONN)]
    code = b"".join(struct.pack("HBBI", *instruction) for instruction in DROP_NEW)
    buffer = ctypes.create_string_buffer(code, len(code))
    program = struct.pack("HL", len(DROP_NEW), ctypes.addressof(buffer))
    for sock in listening:
        sock.setsockopt(socket.SOL_SOCKET, SO_ATTACH_FILTER, program)
    logger.info("draining: new connections are turned away, sockets=%s", len(listening))
    return len(listening)


def _sockets() -> list[socket.socket]:
    """Return this process's TCP sockets, as duplicates that can be closed freely."""
    found = []
    for link in Path("/proc/self/fd").iterdir():
        try:
            if link.readlink().name.startswith("socket:"):
                found.append(socket.socket(fileno=os.dup(int(link.name))))
        except OSError:  # closed meanwhile
            continue
    return [sock for sock in found if sock.family in (socket.AF_INET, socket.AF_INET6)]
