"""Stop a worker whose server was killed: granian's workers would live on and keep the port."""

import logging
import multiprocessing
import os
import signal
import threading
import time

logger = logging.getLogger(__name__)

KILL_AFTER_S = 15
"""How long a worker that was asked to stop may take to finish its requests."""
KILL_STREAMS_AFTER_S = 1
"""Streams do not end by themselves."""


def watch_parent(*, kill_after_s: float) -> None:
    """Stop this worker when its server is killed, by force if it does not stop by itself in time."""
    parent = multiprocessing.parent_process()
    if parent is None:  # no server started it
        return

    def wait_and_stop() -> None:
        parent.join()
        logger.warning("the server is gone, so this worker stops")
        os.kill(os.getpid(), signal.SIGTERM)
        time.sleep(kill_after_s)
        os.kill(os.getpid(), signal.SIGKILL)

    threading.Thread(target=wait_and_stop, name="parent-watchdog", daemon=True).start()
