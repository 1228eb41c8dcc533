"""Stopping without losing a connection: new ones are turned away before the old ones are let go.

A server that simply closes its listening socket resets connections that the kernel has accepted and the
server has not.  So when the server drains, each worker first has the kernel ignore new connections (a client
tries again and is then refused, or meets the next server) while those under way are taken and answered.
"""

import ctypes
import logging
import socket
import struct
import sys
import threading

from webapp.server_folder import Draining
from webapp.sockets import is_listening, own_sockets

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
    code = b"".join(struct.pack("HBBI", *instruction) for instruction in DROP_NEW)
    buffer = ctypes.create_string_buffer(code, len(code))
    program = struct.pack("HL", len(DROP_NEW), ctypes.addressof(buffer))
    with own_sockets() as sockets:
        listening = [sock for sock in sockets if is_listening(sock)]
        for sock in listening:
            sock.setsockopt(socket.SOL_SOCKET, SO_ATTACH_FILTER, program)
    logger.info("draining: new connections are turned away, sockets=%s", len(listening))
    return len(listening)
